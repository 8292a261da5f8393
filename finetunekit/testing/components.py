"""The check of a component that a plugin registered, whatever its kind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from finetunekit.config.plan import Chosen
from finetunekit.errors import DataError
from finetunekit.testing.checks_augmentation import verify_augmentation
from finetunekit.testing.checks_backbone import verify_backbone
from finetunekit.testing.checks_executor import verify_executor
from finetunekit.testing.checks_exporter import verify_exporter
from finetunekit.testing.checks_freezing import verify_freezing_policy
from finetunekit.testing.checks_head import verify_head
from finetunekit.testing.checks_reporter import verify_reporter
from finetunekit.testing.checks_source import verify_data_source
from finetunekit.testing.checks_tracker import verify_tracker
from finetunekit.testing.contract import ContractError, Subject, UnfitExampleError, check_options, example_options
from finetunekit.testing.data import tiny_photos
from finetunekit.types import Options, Registered


def check_component(
    kind: str, registered: Registered, options: Options | None = None, *, run: Path | None = None
) -> None:
    """Check one entry of a plugin host's registries with the check of its seam.

    Args:
        kind: Name of the registry: `backbone`, `head`, `freezing policy`, `augmentation`, `reporter`, `tracker`, `data source`,
            `executor` or `exporter`.
        registered: The entry, such as `host.registries[kind][name]`.
        options: An instance of its options; default: its defaults, and for required fields their first `examples` or a value in bounds.
        run: Run folder for a reporter, tracker or exporter; default: one is made.

    Raises:
        ContractError: If it does not keep its contract.
        UnfitExampleError: If the kit's own options, networks or photos do not fit it, so that nothing can be said.
    """
    chosen = Chosen(kind, registered, Options() if options is None else options, ())
    if options is None:
        with Subject(chosen).during("making options to check it with"):
            chosen = Chosen(kind, registered, example_options(registered.options), ())
    checks: dict[str, Callable[[], None]] = {
        "backbone": lambda: verify_backbone(chosen),
        "head": lambda: verify_head(chosen),
        "freezing policy": lambda: verify_freezing_policy(chosen),
        "augmentation": lambda: verify_augmentation(chosen),
        "reporter": lambda: verify_reporter(chosen, run),
        "tracker": lambda: verify_tracker(chosen, run),
        "data source": lambda: _check_source(chosen),
        "executor": lambda: verify_executor(chosen),
        "exporter": lambda: verify_exporter(chosen, run),
    }
    subject = Subject(chosen)
    with subject.part():
        check_options(chosen)
    with subject.part():
        checks[kind]()
    subject.settle()


def _check_source(chosen: Chosen) -> None:
    """On tiny photos in one layout after another, until one is not refused."""
    refusals: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for root in (None, *_layouts(Path(folder))):
            try:
                return verify_data_source(chosen, root)
            except ContractError as exc:
                if not isinstance(exc.__cause__, DataError) and "no train photos" not in str(exc):
                    raise
                refusals.append(str(exc))
    raise UnfitExampleError(
        f"{refusals[1]} None of the kit's layouts fits it; check it on a root of its own kind: check_data_source(..., root=...)."
    )


def _layouts(folder: Path) -> list[Path]:
    """Split folders with a table beside them; class folders only; that table; an archive of the class folders."""
    split = tiny_photos(folder / "split")
    flat = folder / "classes"
    for path in sorted(split.rglob("*.png")):
        name = path.relative_to(split).parts[0]
        target = flat / path.parent.name / f"{name}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    packed = folder / "packed"
    packed.mkdir()
    archive = shutil.make_archive(str(packed / "photos"), "zip", flat)
    return [split, flat, *sorted(split.glob("*.csv")), Path(archive)]
