"""`finetunekit plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetunekit.cli.common import json_option, make_progress, preset_options, print_json, print_lines, screen_width

if TYPE_CHECKING:
    from finetunekit.config.plan import Plan
    from finetunekit.system.progress import Progress


@click.command("plan")
@preset_options
@click.option(
    "--layers",
    "has_layers",
    is_flag=True,
    help="Also read the photos and build the network: show layers, cut, cache, and time from a few timed steps.",
)
@json_option
def command(preset: str, settings: tuple[str, ...], seed: int | None, has_layers: bool, as_json: bool) -> None:
    """Show what PRESET would do: every component, option and default, and which plugin provided it.

    Reads no photo unless --layers asks for it, and trains nothing.
    """
    from finetunekit.config.plan_text import plan_lines
    from finetunekit.config.planning import prepare

    progress = make_progress()
    plan, _ = prepare(preset, settings=settings, seed=seed, progress=progress)
    if has_layers:
        _show_layers(plan, progress, as_json=as_json)
        return
    if as_json:
        print_json(plan.to_dict())
        return
    print_lines([*plan_lines(plan), *_notes(plan)])


def _notes(plan: Plan) -> list[str]:
    from finetunekit.plugins.components import impurity_notes

    train = plan.config.train
    several = (
        [f"train.folds: {train.folds} such runs, each tested on another fold"] if train.folds and not train.fold else []
    )
    who = "all devices of this machine" if train.devices == "all" else f"{train.devices} devices"
    shared = (
        []
        if train.devices == 1
        else [f"train.devices: {who} share each batch of {train.batch_size} photos; --layers times one"]
    )
    return [f"note: {note}" for note in (*several, *shared, *impurity_notes(plan))]


def _show_layers(plan: Plan, progress: Progress, *, as_json: bool) -> None:
    import dataclasses

    from finetunekit.training.cost_preview import preview_plan

    found = preview_plan(plan, progress)
    if as_json:
        print_json({**plan.to_dict(), "preview": dataclasses.asdict(found)})
        return
    from finetunekit.config.plan_text import plan_lines
    from finetunekit.training.cost_text import preview_lines

    print_lines([*plan_lines(plan), *_notes(plan), "", *preview_lines(found, screen_width())])
