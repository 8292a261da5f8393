"""`finetunekit rates`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import json_option, make_progress, preset_options, print_json, print_lines
from finetunekit.system.formatting import counted
from finetunekit.system.terminal import table, wrap

if TYPE_CHECKING:
    from finetunekit.training.lr_finder import RateTest


@click.command("rates")
@preset_options
@click.option("--stage", type=click.IntRange(1, 100), default=1, show_default=True, help="Which stage, from 1.")
@click.option("--steps", type=click.IntRange(10, 10_000), default=100, show_default=True, help="Steps of the test.")
@click.option("--figure", type=click.Path(path_type=Path), metavar="FILE", help="Write loss over rate as SVG.")
@json_option
def command(
    preset: str,
    settings: tuple[str, ...],
    seed: int | None,
    stage: int,
    steps: int,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Find a learning rate for a stage of PRESET: a short pass with a rising rate, from 1e-6 to 1.

    Uses training photos only, and saves nothing except the figure, and features in the cache.
    """
    import dataclasses

    from finetunekit.config.planning import prepare
    from finetunekit.data.listing import index_listing, list_photos
    from finetunekit.reports.figures import rate_plot, svg_file
    from finetunekit.system.files import write_whole
    from finetunekit.training.lr_finder import find_rates

    progress = make_progress()
    plan, _ = prepare(preset, settings=settings, seed=seed, progress=progress)
    if stage > len(plan.stages):
        raise click.BadParameter(f"the preset has {counted(len(plan.stages), 'stage')}.", param_hint="--stage")
    index = index_listing(plan, list_photos(plan, progress), progress)
    found = find_rates(plan, index, progress, number=stage - 1, steps=steps)
    if figure is not None:
        plot = rate_plot(found.stage, found.rates, found.losses, suggested=found.suggested, at_most=found.at_most)
        write_whole(figure, svg_file(plot, index.stand_in))
    if as_json:
        print_json({**dataclasses.asdict(found), "stand_in": index.stand_in, "figure": str(figure) if figure else None})
        return
    asked = plan.stages[stage - 1].config
    assert asked.kind == "fit"  # no rate is found for another
    print_lines(_lines(found, stage, index.stand_in, asked.optimizer.learning_rate))
    print_lines([f"figure: {figure}"] if figure else [])


def _lines(found: RateTest, number: int, stand_in: str | None, asked: float) -> Iterator[str]:
    if stand_in:
        yield from wrap(f"STAND-IN PHOTOS: {stand_in}")
    last = f"{found.rates[-1]:.1e}"
    end = f"ran away beyond {last}" if found.has_run_away else f"had not run away at {last}"
    yield f"stage {number}, {found.stage}: the loss {end}"
    yield from table(
        [
            ("suggested", f"{found.suggested:.1e}", "where the loss falls most steeply, or at most:"),
            ("at most", f"{found.at_most:.1e}", "a tenth of the rate at which the loss is lowest"),
            ("preset", f"{asked:.1e}", f"stages[{number - 1}].optimizer.learning_rate"),
        ]
    )
    if number > 1:
        yield "Stages before this one were not trained first: it began from a new head."
