"""`finetunekit resume`."""

from __future__ import annotations

from pathlib import Path

import click

from finetunekit.cli.common import (
    json_option,
    make_progress,
    on_option,
    out_option,
    print_json,
    print_lines,
    trust_option,
)
from finetunekit.cli.run import echo_run_group


@click.command("resume")
@click.argument("run")
@out_option
@trust_option
@on_option
@json_option
@click.option(
    "--devices",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Go on with so many devices together (train.devices); needs --force.",
)
@click.option("--force", is_flag=True, help="Continue although something has changed; run.json records what.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def command(
    run: str, out: str, as_json: bool, force: bool, quiet: bool, trust: bool, on: str | None, devices: int | None
) -> None:
    """Resume RUN where it was killed, interrupted or failed: the folder of a run, of seeds, of a
    cross-validation or of sources left out, or its name.

    At most the unfinished epoch is repeated, and the run ends with the same bits as one that was never stopped. If
    the configuration, photos, weights, versions or machine have changed, it says what changed and stops. It goes on
    where it was started (--on), in several processes too; --on local goes on in this one.
    """
    import finetunekit as ftk
    from finetunekit.engine.api import resume
    from finetunekit.runs.folder import CROSS_VALIDATION, LEFT_OUT, SEEDS, find_run_group, report_page, run_group_file

    progress = make_progress(is_quiet=quiet)
    group = find_run_group(run, Path(out))
    if group is not None and devices is not None:
        raise click.UsageError(
            "--devices: it is a single run that is resumed on other devices; name one of the folder."
        )
    if group is not None and (file := run_group_file(group)) is not None:
        kinds = {SEEDS: ftk.resume_seeds, CROSS_VALIDATION: ftk.resume_folds, LEFT_OUT: ftk.resume_left_out}
        found = kinds[file.name](group, is_forced=force, on=on, progress=progress, trust=trust)
        echo_run_group(found, as_json=as_json)
        return
    if on is not None and devices is not None:
        raise click.UsageError("--devices: are of this process; leave out --on.")
    result = resume(run, out=out, on=on, is_forced=force, progress=progress, trust=trust, devices=devices)
    if as_json:
        print_json({"path": result.path, "metrics": result.metrics})
        return
    print_lines([*result.summary, report_page(result.path)])
