"""The contract of an exporter."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from finetunekit.config.plan import Chosen
from finetunekit.errors import ConfigError
from finetunekit.plugins.components import call_builder
from finetunekit.system.environment import start_tensorflow
from finetunekit.testing.contract import Subject, UnfitExampleError, choose
from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run
from finetunekit.testing.guards import changed, fingerprint
from finetunekit.types import Builder, Exported, Exporter, Options

#: Largest difference of a probability from the network's: the check is about the contract, the certificate about exactness.
ALLOWED = {"float32": 1e-3, "float16": 2e-2, "int8": 0.2}


def check_exporter(build: Builder, options: Options | None = None, *, run: Path | None = None) -> None:
    """Check an exporter on a tiny finished run whose class names are awkward.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        run: Run folder; default: one is made (`tiny_run(folder, classes=AWKWARD_CLASSES)`). It is not changed.

    Raises:
        ContractError: If it does not return an `Exporter`, or `write` no `Exported`; if it names files that it did not write, or changes
            the run; if the class names do not come back in order; if the model does not run from elsewhere, on one photo and on several,
            of several sizes where it takes photos; if its answers are not the network's; or if its options are not as they should be.
        UnfitExampleError: If a package that it needs is not installed.
    """
    verify_exporter(choose("exporter", build, options), run)


def verify_exporter(chosen: Chosen, run: Path | None = None) -> None:
    """`check_exporter` of a component as a plan holds it."""
    start_tensorflow()
    subject = Subject(chosen)
    try:
        exporter = call_builder(chosen)
    except ConfigError as exc:
        raise UnfitExampleError(f"{subject.label}: {exc}") from exc
    words = f"must return finetunekit.Exporter. Received: {type(exporter).__name__}"
    subject.require(isinstance(exporter, Exporter), words)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with subject.part():
            _check(subject, exporter, run or tiny_run(scratch / "tiny", classes=AWKWARD_CLASSES), scratch)
    subject.settle()


def _check(subject: Subject, exporter: Exporter, run: Path, scratch: Path) -> None:
    from finetunekit.evaluation.predictor import load
    from finetunekit.exporting.servable import servable_of

    servable = dataclasses.replace(
        servable_of(load(run, trust=True)), temperature=1.7
    )  # so that one who forgets it is found
    before = fingerprint(run)
    (scratch / "written").mkdir()
    with subject.during("writing a finished run"):
        exported = exporter.write(servable, scratch / "written")
    _check_exported(subject, exported, scratch / "written")
    altered = [Path(path).name for path in changed(before, fingerprint(run))]
    subject.expect(not altered, f"changes the run folder ({', '.join(altered[:3])}); it may write its own folder only.")
    shutil.move(scratch / "written", scratch / "moved")
    with subject.during("reading class names back"):
        names = exporter.classes(scratch / "moved")
    subject.expect(
        tuple(names) == servable.classes, f"class names must come back in order. Received: {tuple(names)!r:.200}"
    )
    with subject.during("opening the model after it was moved"):
        predict = exporter.open(scratch / "moved")
    _check_answers(subject, servable, exported, predict)


def _check_exported(subject: Subject, exported: Any, folder: Path) -> None:
    words = f"write must return finetunekit.Exported. Received: {type(exported).__name__}"
    subject.require(isinstance(exported, Exported), words)
    subject.expect(exported.files, "names no file; the first is the model.")
    missing = [name for name in exported.files if not (folder / name).exists()]
    subject.expect(not missing, f"names files that it did not write: {', '.join(missing)}.")
    subject.expect(exported.takes in ("pixels", "square"), f"takes is pixels or square. Received: {exported.takes!r}")
    words = f"precision is one of {', '.join(ALLOWED)}. Received: {exported.precision!r}"
    subject.require(exported.precision in ALLOWED, words)


def _check_answers(subject: Subject, servable: Any, exported: Exported, predict: Any) -> None:
    from finetunekit.data.decode import fit_photo
    from finetunekit.exporting.comparison import ask_network
    from finetunekit.exporting.serving_graph import PROBABILITIES

    size, random = servable.size_px, np.random.default_rng(0)
    how = servable.fitting()
    sizes = [(size, size)] if exported.takes == "square" else [(size, size), (3 * size, 2 * size), (1, 1)]
    for batch, (height, width) in [(number, one) for one in sizes for number in (1, 3)]:
        photos = random.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
        what = f"{batch} photos of {width} × {height} pixels"
        with subject.during(f"predicting {what}"):
            found = np.asarray(predict(photos)[PROBABILITIES])
        expected = (batch, len(servable.classes))
        subject.require(found.shape == expected, f"{what}: probabilities must be {expected}. Received: {found.shape}")
        own = ask_network(servable, np.stack([fit_photo(photo, **how) for photo in photos]))
        difference = float(np.abs(found - own).max())
        words = f"{what}: a probability is {difference:.2g} away from the network's; allowed for {exported.precision}: "
        subject.require(difference <= ALLOWED[exported.precision], words + f"{ALLOWED[exported.precision]:g}.")
