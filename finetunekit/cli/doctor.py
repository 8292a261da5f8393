"""`finetunekit doctor`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, print_json


@click.command("doctor")
@json_option
@click.option("--offline", is_flag=True, help="Do not try to reach any host.")
def command(as_json: bool, offline: bool) -> None:
    """Say what works on this machine: devices, bfloat16, package index and hubs, caches, fonts."""
    from finetunekit.doctor import examine

    findings = examine(is_offline=offline)
    if as_json:
        print_json([{"what": f.what, "ok": f.is_ok, "detail": f.detail} for f in findings])
    else:
        for finding in findings:
            click.echo(f"{'ok ' if finding.is_ok else 'no '} {finding.what}: {finding.detail}")
