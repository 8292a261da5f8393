"""What a run reads, where it lies elsewhere than where the run was asked for: read there, and noted as it was asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from finetunekit.config.plan import Plan
from finetunekit.system.user_dirs import expand_home

M = TypeVar("M", bound=BaseModel)


@dataclasses.dataclass(frozen=True, slots=True)
class MovedInputs:
    """Where the inputs of a run lie here.

    Attributes:
        folder: That the run was started from, where relative paths of its configuration begin.
        places: Path of a file or folder where the run was asked for, absolute → where its content lies here.
    """

    folder: Path
    places: Mapping[Path, Path] = dataclasses.field(default_factory=dict)

    def here(self, plan: Plan) -> Plan:
        """The plan with photos, lists, weights and features where they lie here; its configuration says of features what was asked."""
        if not self.places:
            return plan
        config, source = plan.config, plan.data_source
        sections = {"data": self._moved(config.data), "weights": self._moved(config.weights)}
        moved = dataclasses.replace(source, options=self._moved(source.options))
        stages = tuple(dataclasses.replace(stage, config=self._moved(stage.config)) for stage in plan.stages)
        return dataclasses.replace(plan, config=config.model_copy(update=sections), data_source=moved, stages=stages)

    def as_asked(self, path: Path) -> Path:
        """Where something that lies here lies where the run was asked for."""
        for asked, here in self.places.items():
            if path.is_relative_to(here.resolve()):
                return asked / path.relative_to(here.resolve())
        return path

    def _moved(self, section: M) -> M:
        """With every text, and every text of a list, that is a path at or below a place replaced."""
        changes: dict[str, object] = {}
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, str):
                changes[name] = self.place(value)
            elif isinstance(value, tuple):
                changes[name] = tuple(self.place(one) if isinstance(one, str) else one for one in value)
        return section.model_copy(update={name: new for name, new in changes.items() if new != getattr(section, name)})

    def place(self, text: str) -> str:
        """Where a path lies here: as it is written, unless it lies at or below a place."""
        path = absolute(text, self.folder)
        for asked, here in self.places.items():
            if path.is_relative_to(asked):
                return str(here / path.relative_to(asked))
        return text


def absolute(path: str | Path, folder: Path | None = None) -> Path:
    """A path of a configuration from the root on, its links as they are."""
    return Path(os.path.abspath((folder or Path.cwd()) / expand_home(path)))
