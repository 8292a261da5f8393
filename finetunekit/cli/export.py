"""`finetunekit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from finetunekit.cli.common import (
    WholeLines,
    json_option,
    load_host,
    make_progress,
    out_option,
    print_json,
    print_lines,
    trust_option,
)


class _RunOrVerb(WholeLines):
    """`export RUN …` is `export run RUN …`, so that a run is named first as after any other verb."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("export", cls=_RunOrVerb)
def command() -> None:
    """Write a finished run for another runtime: finetunekit export RUN --to litert, onnx, savedmodel or keras.

    The answers are compared with the run's before anything is kept. `export run --help` shows the options.
    """


@command.command("run")
@click.argument("run")
@click.option("--to", metavar="NAME", help="Exporter: litert, onnx, savedmodel, keras, or a plugin's.")
@click.option("--quantize", metavar="HOW", help="Precision, if the exporter offers it: fp16 or int8.")
@click.option(
    "--input",
    "takes",
    metavar="WHAT",
    help="pixels: takes photos of any size; square: takes photos of the network's size.",
)
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the exporter; VALUE is YAML."
)
@click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path), help="Folder to write. [default: RUN/exports/NAME]"
)
@click.option("--max-difference", type=float, help="Largest allowed difference of a probability.")
@click.option("--margin-points", type=float, help="Percentage points of accuracy that int8 may lose.")
@out_option
@trust_option
@json_option
def export_run(
    *,
    run: str,
    to: str | None,
    quantize: str | None,
    takes: str | None,
    options: tuple[str, ...],
    into: Path | None,
    max_difference: float | None,
    margin_points: float | None,
    out: str,
    as_json: bool,
    trust: bool,
) -> None:
    """Export RUN, with a certificate that says how far the export's answers are from the run's.

    If they are too far apart, nothing is left behind and the exit code is 5.
    """
    from finetunekit.engine.export import load, plan_export
    from finetunekit.errors import ConfigError, did_you_mean
    from finetunekit.evaluation.predictor import find_network

    if to is None:
        raise ConfigError(f"--to: name a format.{did_you_mean('', load_host().registries['exporter'])}")
    progress = make_progress()
    finished = find_network(run, out=out)
    given = {"quantize": quantize, "input": takes, **_options(options)}
    wanted = plan_export(
        finished,
        to,
        {key: value for key, value in given.items() if value is not None},
        into=into,
        limits=_limits(max_difference, margin_points),
        trust=trust,
    )
    result = wanted.execute(load(finished.path, progress=progress, trust=trust), progress)
    if as_json:
        print_json(result.certificate)
        return
    print_lines([*result.summary, result.path])


def _options(texts: tuple[str, ...]) -> dict[str, Any]:
    from finetunekit.config.yaml_source import parse_yaml, plain
    from finetunekit.errors import ConfigError

    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--option {text}: must be KEY=VALUE.")
        found[key] = plain(parse_yaml(value, f"--option {key}"), f"--option {key}")
    return found


def _limits(max_difference: float | None, margin_points: float | None) -> dict[str, float]:
    given = {
        "max_difference": max_difference,
        "max_difference_float16": max_difference,
        "margin_points": margin_points,
    }
    return {key: value for key, value in given.items() if value is not None}


@command.command("verify")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--run", help="The run that it was exported from; the whole certificate is then measured again.")
@click.option(
    "--photos",
    multiple=True,
    metavar="PATH",
    help="Photos of the run, or a folder that contains them; the model predicts those too. Repeatable.",
)
@out_option
@json_option
def verify(folder: Path, run: str | None, photos: tuple[str, ...], out: str, as_json: bool) -> None:
    """Check an exported model, wherever it is now, against its certificate; exit code 5 if an answer differs.

    The model predicts its golden photos and the probe photos, in batches and in several sizes.
    """
    from finetunekit.engine.export import verify_export
    from finetunekit.reports.certificate_text import certificate_lines, verification_lines

    found = verify_export(folder, run=run, photos=photos, out=out, progress=make_progress())
    if as_json:
        print_json(found)
        return
    lines = list(verification_lines(found))
    if run is not None:
        lines += [f"and beside {run}:", *certificate_lines(found["certificate"])]
    print_lines(lines)
