"""A file of options that is not a preset: YAML in, checked options out, every problem with its line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from finetunekit.config.validation_errors import describe_problems
from finetunekit.config.yaml_source import Places, read_yaml
from finetunekit.errors import ConfigError
from finetunekit.types import Options

O = TypeVar("O", bound=Options)  # noqa: E741


def read_options(model: type[O], path: Path | None = None, changes: Mapping[str, Any] | None = None) -> O:
    """Read options from a YAML file, and put what the command line says over them.

    Args:
        model: What they are.
        path: The file; None where the command line says everything.
        changes: Keys that replace those of the file.

    Raises:
        ConfigError: With every problem, one a line.
    """
    changed = dict(changes or {})
    values, places = read_yaml(path, str(path)) if path is not None else ({}, Places())
    places = {at: place for at, place in places.items() if not at or at[0] not in changed}
    places |= {(key,): "the command line" for key in changed}
    try:
        return model.model_validate_json(json.dumps(values | changed))
    except pydantic.ValidationError as exc:
        raise ConfigError(describe_problems(exc, model, places, str(path or "the command line"), ())) from exc
