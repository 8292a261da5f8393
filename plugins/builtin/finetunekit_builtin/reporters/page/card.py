"""Reporter `model_card`: `README.md` as model hubs read it, its figures with their intervals."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.reports.pages import render

from ..options import ModelCardOptions
from ..solved import is_solved
from .exports import exports

if TYPE_CHECKING:
    from finetunekit import FinishedRun

CARD = "README.md"
#: SPDX identifier → what the hub calls it. Source: https://huggingface.co/docs/hub/repositories-licenses
LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC-BY-4.0": "cc-by-4.0", "BSD-3-Clause": "bsd-3-clause"}


def build_model_card(options: ModelCardOptions, run: FinishedRun) -> Mapping[str, bytes]:
    """Write a model card: front matter for machines, then what the model is, how good, on what, and its limits.

    Args:
        options: None so far.
        run: A finished run; its plan, metrics, weights and baselines are read.

    Returns:
        `README.md`, Markdown with YAML front matter.

    Source: Hugging Face, "Model Cards", https://huggingface.co/docs/hub/model-cards (front matter and `model-index`).
    """
    weights, baselines = (run.optional(name) or {} for name in ("weights.json", "baselines.json"))
    one = (run.config.get("backbone") or {}).get("name", "unknown")
    backbone = "+".join(run.config.get("backbones") or (one,))
    test = run.metrics.get("test") or {}
    measured = [{"title": "this model", **test}, *baselines.get("baselines", ())] if test.get("accuracy") else []
    has_photos = (run.path / "photos.csv").is_file()
    card = render(
        Path(__file__).with_name("card.md"),
        run=run,
        name=str(run.config.get("name", run.path.name)),
        folder=shlex.quote(run.path.name),
        licence=str(weights.get("licence") or ""),
        licences=LICENCES,
        tags=["image-classification", *([] if is_solved(run) else ["fine-tuned"]), "finetunekit", backbone],
        metrics=list(_metrics(test)),
        scored=[(one["title"], one["accuracy"]) for one in measured if one.get("accuracy")],
        baselines=baselines,
        splits=Counter(row["split"] for row in run.photos) if has_photos else None,
        overlap=run.optional("overlap.json"),
        backbone=backbone,
        weights=weights,
        exports=exports(run),
    )
    return {CARD: card.encode(errors="replace")}


def _metrics(test: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, kind in (("accuracy", "accuracy"), ("macro_f1", "f1"), ("log_loss", "log_loss")):
        score = test.get(key)
        if score:
            low, high = score["interval"]["low"], score["interval"]["high"]
            name = f"{key.replace('_', ' ')}, 95 % interval {low:.4f} to {high:.4f}, {test['photos']} photos"
            yield {"type": kind, "name": name, "value": round(score["value"], 4)}
