"""The contract of a reporter."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from finetunekit.config.plan import Chosen
from finetunekit.plugins.components import call_builder
from finetunekit.runs.folder import METRICS, STATE, FinishedRun
from finetunekit.system.environment import start_tensorflow
from finetunekit.testing.contract import Subject, choose
from finetunekit.testing.data import AWKWARD_CLASSES, tiny_run
from finetunekit.testing.guards import changed, fingerprint
from finetunekit.types import Builder, Options

_FIGURES = (".svg", ".html", ".htm", ".md")
_PORTABLE = re.compile(r"[^\x00-\x1f<>:\"/\\|?*]{1,120}")


def check_reporter(build: Builder, options: Options | None = None, *, run: Path | None = None) -> None:
    """Check a reporter on a tiny finished run whose class names are awkward and whose photos are a stand-in.

    Args:
        build: The builder that the plugin registers.
        options: An instance of its options; default: `Options()`.
        run: Run folder; default: one is made (`tiny_run(folder, classes=AWKWARD_CLASSES)`). It is copied, not changed.

    Raises:
        ContractError: If it does not return plain file names with bytes, or other bytes the second time; if it changes the run folder;
            if an SVG, HTML or Markdown file does not show the stand-in sentence, or shows one for photos that are none; if class names
            break its SVG, HTML, JSON or CSV; or if its options are not as they should be.
    """
    verify_reporter(choose("reporter", build, options), run)


def verify_reporter(chosen: Chosen, run: Path | None = None) -> None:
    """`check_reporter` of a component as a plan holds it."""
    start_tensorflow()
    subject = Subject(chosen)
    with tempfile.TemporaryDirectory() as scratch:
        made = run or tiny_run(Path(scratch) / "tiny", classes=AWKWARD_CLASSES)
        copy = Path(scratch) / "copy"
        shutil.copytree(made, copy)
        files = _report_twice(subject, copy)
        sentence = FinishedRun(copy).stand_in
        for name, content in files.items():
            with subject.part():
                _check_file(subject, name, content)
        if sentence is not None:
            _check_stand_in(subject, files, sentence)
            with subject.part():
                _check_silent(subject, copy, sentence)
    subject.settle()


def _report_twice(subject: Subject, folder: Path) -> Mapping[str, bytes]:
    finished = FinishedRun(folder)
    watched = [folder, Path(finished.state["photo_root"])]
    before = [fingerprint(root) for root in watched]
    with subject.during("reporting a finished run"):
        first = call_builder(subject.chosen, finished)
        _check_mapping(subject, first)
        second = call_builder(subject.chosen, FinishedRun(folder))
    altered = [path for old, root in zip(before, watched, strict=True) for path in changed(old, fingerprint(root))]
    names = ", ".join(Path(path).name for path in altered[:3])
    subject.expect(
        not altered, f"changes the run folder or its photos ({names}); return bytes, the engine writes them."
    )
    differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    words = (
        f"{', '.join(differing[:3])} came out differently the second time; leave out times, random numbers and sets."
    )
    subject.expect(not differing, words)
    checked: Mapping[str, bytes] = first
    return checked


def _check_mapping(subject: Subject, files: Any) -> None:
    words = f"must return a mapping of file name to bytes. Received: {type(files).__name__}"
    subject.require(isinstance(files, Mapping), words)
    subject.require(files, "returns no file at all for an ordinary finished run.")
    for name, content in files.items():
        is_plain = isinstance(name, str) and _PORTABLE.fullmatch(name) and not name.startswith(".")
        words = (
            'file names must be plain, at most 120 characters, without folders or any of <>:"/\\|?* (a class name is none). '
            f"Received: {name!r:.80}"
        )
        subject.require(is_plain, words)
        subject.require(isinstance(content, bytes), f"{name}: must be bytes. Received: {type(content).__name__}")
    lowered = {name.lower() for name in files}
    subject.require(
        len(lowered) == len(files), "two of its file names differ in case only, and some systems know no case."
    )


def _check_file(subject: Subject, name: str, content: bytes) -> None:
    """What a reader of that kind of file could not read."""
    suffix = Path(name).suffix.lower()
    hint = "class names must be escaped"
    with subject.during(f"reading {name} ({hint})"):
        if suffix in (".svg", ".xml"):
            ElementTree.fromstring(content)
        elif suffix == ".json":
            json.loads(content, parse_constant=_refuse_constant)
        elif suffix == ".csv":
            rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
            subject.require(len({len(row) for row in rows}) <= 1, f"{name}: its rows differ in length; {hint}.")
        elif suffix in (".html", ".htm"):
            markup = re.sub(r"<script\b.*?</script>", "", content.decode("utf-8"), flags=re.DOTALL | re.IGNORECASE)
            subject.require(
                AWKWARD_CLASSES[0] not in markup, f"{name}: {hint} (html.escape, or finetunekit.reports.pages)."
            )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check_stand_in(subject: Subject, files: Mapping[str, bytes], sentence: str) -> None:
    for name, content in files.items():
        is_shown = _squeeze(sentence) in _squeeze(_text(name, content))
        words = f"{name} does not show the stand-in sentence (run.stand_in); every figure must say that its photos are none."
        subject.expect(Path(name).suffix.lower() not in _FIGURES or is_shown, words)


def _text(name: str, content: bytes) -> str:
    """What a reader sees; markup of Markdown is left in, its escapes are taken out."""
    text = content.decode("utf-8", "replace")
    if Path(name).suffix.lower() == ".md":
        return html.unescape(text).replace("\\", "")
    return html.unescape(re.sub(r"<[^>]*>", " ", text))


def _squeeze(text: str) -> str:
    """Without white space: a sentence may be broken over lines and elements."""
    return "".join(text.split())


def _check_silent(subject: Subject, folder: Path, sentence: str) -> None:
    """The same run, said to be of real photos."""
    for name in (STATE, METRICS):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**values, "stand_in": None}), encoding="utf-8")
    with subject.during("reporting a run of real photos (run.stand_in is None)"):
        files = call_builder(subject.chosen, FinishedRun(folder))
    for name, content in files.items():
        is_silent = _squeeze(sentence) not in _squeeze(_text(name, content))
        subject.expect(is_silent, f"{name} calls photos a stand-in where run.stand_in is None.")
