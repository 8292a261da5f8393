"""Reporter `model_card`: `README.md` as model hubs read it, its figures with their intervals."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from finetunekit import Options

from ..solved import is_solved
from .words import between, count, of, percent

if TYPE_CHECKING:
    from finetunekit import FinishedRun

CARD = "README.md"
#: SPDX identifier → what the hub calls it. Source: https://huggingface.co/docs/hub/repositories-licenses
LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0", "BSD-3-Clause": "bsd-3-clause"}


class ModelCardOptions(Options):
    """Options of `model_card`."""


def build_model_card(options: ModelCardOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write a model card: front matter for machines, then what the model is, how good, on what, and its limits.

    Args:
        options: None so far.
        run: A finished run; its plan, metrics, weights and baselines are read.

    Returns:
        `README.md`, Markdown with YAML front matter.

    Source: Hugging Face, "Model Cards", https://huggingface.co/docs/hub/model-cards (front matter and `model-index`).
    """
    front = "\n".join(["---", *_front(run), "---"])
    return {CARD: "\n\n".join([front, *_body(run), ""]).rstrip("\n").encode() + b"\n"}


def _front(run: FinishedRun) -> Iterator[str]:
    """YAML whose values are JSON, which YAML contains."""
    weights = run.optional("weights.json") or {}
    licence = str(weights.get("licence") or "")
    yield f"license: {LICENCES.get(licence, 'other')}"
    if licence and licence not in LICENCES:
        yield f"license_name: {_json(licence)}"
    yield "library_name: keras"
    yield "pipeline_tag: image-classification"
    yield f"tags: {_json(['image-classification', *([] if is_solved(run) else ['fine-tuned']), 'finetunekit', _backbone(run)])}"
    metrics = list(_metrics(run))
    if metrics:
        dataset = {
            "type": "image-folder",
            "name": "stand-in photos" if run.stand_in else "the user's own photos",
            "split": "test",
        }
        task = {"type": "image-classification", "name": "Image classification"}
        entry = {"name": _name(run), "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}
        yield f"model-index: {_json([entry])}"


def _metrics(run: FinishedRun) -> Iterator[dict[str, Any]]:
    test = run.metrics.get("test") or {}
    for key, kind in (("accuracy", "accuracy"), ("macro_f1", "f1"), ("log_loss", "log_loss")):
        score = test.get(key)
        if score:
            low, high = score["interval"]["low"], score["interval"]["high"]
            name = f"{key.replace('_', ' ')}, 95 % interval {low:.4f} to {high:.4f}, {test['photos']} photos"
            yield {"type": kind, "name": name, "value": round(score["value"], 4)}


def _body(run: FinishedRun) -> Iterator[str]:
    yield f"# {_text(_name(run))}"
    if run.stand_in:
        yield f"**Stand-in photos.** {_text(run.stand_in)}"
    listed = ", ".join(_text(name) for name in run.classes)
    size = (run.config.get("pixels") or {}).get("size_px")
    seen = f" Input: RGB photos, {size} × {size} px." if size else ""
    yield f"An image classifier for {len(run.classes)} classes: {listed}.{seen}"
    yield from _results(run)
    yield from _data(run)
    yield from _base(run)
    yield "## Limits"
    yield (
        "It answers with one of its classes for any photo at all, also for one that shows none of them. Its scores hold for photos "
        "like its test photos: other cameras, backgrounds or breeds may do worse. The intervals know nothing of such a change."
    )
    yield "## Use"
    yield f"```sh\nfinetunekit predict {shlex.quote(run.path.name)} PHOTO ...\n```"
    yield "`model.keras` holds the network; `run.json` its classes in order and the pixels it expects."


def _results(run: FinishedRun) -> Iterator[str]:
    test = run.metrics.get("test") or {}
    if not test.get("accuracy"):
        return
    accuracy = test["accuracy"]
    yield "## Results"
    baselines = run.optional("baselines.json")
    if baselines:
        yield _text(" ".join(baselines["words"]))
    lines = ["| what, on the test photos | right | accuracy | 95 % interval |", "| --- | ---: | ---: | ---: |"]
    lines.append(_row("this model", accuracy))
    lines += [
        _row(baseline["title"], baseline["accuracy"])
        for baseline in (baselines or {}).get("baselines", ())
        if baseline.get("accuracy")
    ]
    yield "\n".join(lines)
    openings = run.metrics.get("openings")
    if openings:
        times = "once" if openings["openings"] == 1 else f"{openings['openings']} times"
        yield f"When it was scored, the test photos had been looked at {times}, by {count(openings['configs'], 'configuration')}."


def _row(title: str, score: Mapping[str, Any]) -> str:
    return f"| {_text(title)} | {of(score)} | {percent(score['value'])} | {between(score['interval'])} |"


def _data(run: FinishedRun) -> Iterator[str]:
    if not (run.path / "photos.csv").is_file():
        return
    splits = [row["split"] for row in run.photos]
    numbers = ", ".join(f"{splits.count(split):,} {split}" for split in ("train", "valid", "test"))
    yield "## Data"
    yield f"Photos: {numbers}. They are not part of this model; `photos.csv` holds their checksums."
    overlap = run.optional("overlap.json")
    if overlap:
        yield _text(" ".join([*overlap["words"], overlap.get("caution") or ""]))


def _base(run: FinishedRun) -> Iterator[str]:
    weights = run.optional("weights.json") or {}
    yield "## Base model"
    where = weights.get("location") or weights.get("kind") or "not recorded"
    lines = [f"- backbone: {_text(_backbone(run))}", f"- weights: {_text(str(where))}"]
    lines += [f"- {key}: {_text(str(weights[key]))}" for key in ("licence", "attribution", "note") if weights.get(key)]
    yield "\n".join(lines)


def _backbone(run: FinishedRun) -> str:
    return str((run.config.get("backbone") or {}).get("name", "unknown"))


def _name(run: FinishedRun) -> str:
    return str(run.config.get("name", run.path.name))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True)


def _text(text: str) -> str:
    """Text as Markdown shows it: on one line, nothing of it markup."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", escape(" ".join(text.split()), quote=False))
