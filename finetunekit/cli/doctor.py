"""`finetunekit doctor`."""

from __future__ import annotations

import click

from finetunekit.cli.common import json_option, print_json, print_lines
from finetunekit.system.terminal import wrap


@click.command("doctor")
@json_option
@click.option("--offline", is_flag=True, help="Do not try to reach any host.")
def command(as_json: bool, offline: bool) -> None:
    """Check what works on this machine: devices, bfloat16, package index and hubs, caches, fonts.

    Exits with 1 if something is wrong that every run needs: Python, TensorFlow, a folder to write to.
    """
    from finetunekit.engine.machine_checks import examine

    findings = []
    for finding in examine(is_offline=offline):
        findings.append(finding)
        if not as_json:
            print_lines(wrap(f"{'ok' if finding.is_ok else 'no'}  {finding.what}: {finding.detail}", hanging=4))
    if as_json:
        print_json([{"what": f.what, "ok": f.is_ok, "detail": f.detail} for f in findings])
    if any(finding.is_needed and not finding.is_ok for finding in findings):
        raise click.exceptions.Exit(1)
