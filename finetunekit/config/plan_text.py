"""A plan in lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pydantic

from finetunekit.config.pixel_contract import contract_warning
from finetunekit.config.plan import Plan, PlannedStage


def plan_lines(plan: Plan) -> Iterator[str]:
    """Every component, option and default, and which plugin gave it."""
    config = plan.config
    yield f"plan of {config.name} ({plan.source})"
    if config.description:
        yield f"  {config.description}"
    for component in (*plan.components(), plan.executor):
        what = "stand-in" if component is plan.stand_in else component.kind
        yield f"{what:16}  {component.name}  from {component.registered.origin}"
        for key, value in component.options.model_dump(mode="json").items():
            given = "" if key in component.options.model_fields_set else "  (default)"
            yield f"{'':16}    {key}: {_short(value)}{given}"
    for section in ("data", "pixels", "weights", "train", "cache", "evaluate", "save"):
        values = getattr(config, section)
        yield section
        yield from _fields(values, "  ")
        warning = contract_warning(config.pixels, plan.spec) if section == "pixels" else None
        if warning:
            yield f"  warning: {warning}"
    for number, stage in enumerate(plan.stages, start=1):
        yield f"stage {number}: {stage.config.name}"
        yield from _stage(stage)
    yield from _fields(config, "", only=("seed", "view_seed", "deterministic", "precision"))


def _stage(stage: PlannedStage) -> Iterator[str]:
    if stage.freeze:
        yield f"  freeze: {stage.freeze.name}"
    yield from _fields(stage.config, "  ", leave_out=("name", "freeze", "optimizer"))
    if stage.config.kind == "fit":
        yield "  optimizer"
        yield from _fields(stage.config.optimizer, "    ")


def _fields(
    section: pydantic.BaseModel, indent: str, *, leave_out: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> Iterator[str]:
    for key, value in section.model_dump(mode="json").items():
        if key not in leave_out and (only is None or key in only):
            yield f"{indent}{key}: {_short(value)}{'' if key in section.model_fields_set else '  (default)'}"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
