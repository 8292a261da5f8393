"""What was trained and what was not: components, pixels, weights, cache, layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetunekit.reports.words import counted, show_penalties

from ..solved import is_solved

if TYPE_CHECKING:
    from finetunekit import FinishedRun


def plan(run: FinishedRun) -> dict[str, Any]:
    """Components, pixels, weights, stages, layers."""
    layers = run.plan.get("layers") or ()
    return {
        "components": list(_components(run)),
        "pairs": [*_members(run), *_weights(run), *_pixels(run), *_stages(run)],
        "trained": _trained(layers),
        "layers": [
            (
                layer["path"],
                layer["class_name"],
                _shape(layer.get("output_shape")),
                f"{layer['parameters']:,}",
                _trains(layer),
            )
            for layer in layers
        ],
    }


def _trained(layers: Sequence[Mapping[str, Any]]) -> str:
    total = sum(layer["parameters"] for layer in layers)
    trained = sum(layer["parameters"] for layer in layers if _rate(layer) > 0)
    parts = [layer for layer in layers if layer["parameters"]]
    frozen = sum(1 for layer in parts if _rate(layer) == 0)
    share = f" ({100 * trained / total:.1f} %)" if total else ""
    return (
        f"{trained:,} of {total:,} parameters were trained{share}; {frozen} of {len(parts)} layers with parameters were "
        "frozen in the last stage."
    )


def _components(run: FinishedRun) -> Iterator[tuple[str, str, str]]:
    """Kind, name with options, origin."""
    for component in run.plan.get("components", ()):
        if component["kind"] != "reporter" and not _is_unused(run, component):
            options = ", ".join(f"{key} {_plain(value)}" for key, value in component["options"].items())
            name = f"{component['name']} ({options})" if options else component["name"]
            yield component["kind"], name, f"{component['distribution']} {component['version'] or ''}".strip()


def _members(run: FinishedRun) -> Iterator[tuple[str, str]]:
    """Of an ensemble; what follows is the configuration of one of them."""
    together = run.state.get("ensemble")
    if together:
        names = ", ".join(member["run"].rsplit("/", 1)[-1] for member in together["members"])
        yield "ensemble", f"mean of the {together['by']} of {counted(len(together['members']), 'run')}: {names}"


def _weights(run: FinishedRun) -> Iterator[tuple[str, str]]:
    weights = run.optional("weights.json")
    if weights:
        sha256 = weights.get("arrays_sha256")
        checksum = f", arrays SHA-256 {str(sha256)[:16]}…" if sha256 else ""
        yield "pretrained weights", f"{weights.get('location') or weights.get('kind')}{checksum}"


def _is_unused(run: FinishedRun, component: Mapping[str, Any]) -> bool:
    """Whether this data source was not used, but the other of the two."""
    is_first = component["name"] == (run.config.get("data") or {}).get("source")
    return bool(component["kind"] == "data source" and is_first == (run.stand_in is not None))


def _pixels(run: FinishedRun) -> Iterator[tuple[str, str]]:
    pixels, fed = run.config.get("pixels"), run.state.get("pixels")
    if pixels:
        size, share = pixels["size_px"], pixels.get("crop_pct")
        source_px = pixels.get("source_px")
        first = f"shrunk to {source_px} px first, then " if source_px else ""
        crop = f" ({100 * share:.1f} % of the short side)" if share else ""
        yield "photo to input", f"{first}{size} × {size} px, {pixels['fit']}{crop}, {pixels['resize']} resampling"
    if pixels and fed:
        asked = pixels["contract"]
        whose = "the backbone's own" if asked == "backbone" else f"{asked}, which may not be the backbone's own"
        yield "pixel contract", f"{_formula(fed)}: {whose}"
    measured = run.metrics.get("pixel_check")
    if measured:
        ways = (("as configured", measured["as_configured"]), ("as pretrained", measured["as_pretrained"]))
        scores = "; ".join(
            f"{how}, {way['contract']}: {way['correct']} of {measured['valid_photos']}, log loss {way['log_loss']:.3f}"
            for how, way in ways
        )
        yield (
            "what that costs",
            f"a probe on {measured['train_photos']} training photos, validation photos right: {scores}",
        )


def _formula(fed: Mapping[str, Any]) -> str:
    """`RGB × 0.003922`, `BGR − 104 / 117 / 124`."""
    means, stds = (" / ".join(f"{value:g}" for value in fed[key]) for key in ("mean", "std"))
    scaled = f"{fed['order'].upper()}" + ("" if fed["scale"] == 1 else f" × {fed['scale']:.4g}")
    shifted = f"{scaled} − {means}" if any(fed["mean"]) else scaled
    return f"({shifted}) ÷ {stds}" if any(std != 1 for std in fed["std"]) else shifted


def _stages(run: FinishedRun) -> Iterator[tuple[str, str]]:
    modes = run.state.get("stages") or ()
    for number, stage in enumerate(run.config.get("stages") or ()):
        optimizer = stage.get("optimizer") or {}
        rate = f", learning rate {optimizer['learning_rate']:g}" if "learning_rate" in optimizer else ""
        momentum = f", momentum {optimizer['momentum']:g}" if optimizer.get("momentum") else ""
        epochs = counted(stage["epochs"], "epoch") if "epochs" in stage else stage.get("kind", "")
        freeze = (stage.get("freeze") or {}).get("name", "none")
        text = f"{epochs}, {optimizer.get('name', '')}{rate}{momentum}; freezing: {freeze}"
        if stage.get("kind") == "solve":
            solved = modes[number].get("solve", {}) if number < len(modes) else {}
            penalties = f", {show_penalties(solved['penalties'])}" if solved else ""
            text = f"{stage['solver']} regression on frozen features, solved{penalties}"
        yield f"stage {number + 1}, {stage['name']}", text
        if number < len(modes):
            yield "features", str(modes[number].get("mode", "–"))
    train = run.config.get("train")
    if is_solved(run):
        yield "batches", f"none, solved and not trained by steps; computed in {run.state.get('precision', '–')}"
    elif train:
        draws = (
            f"{train['draws_per_epoch']:,} draws an epoch"
            if train.get("draws_per_epoch")
            else "each photo once an epoch"
        )
        yield "batches", f"of {train['batch_size']}; {draws}; computed in {run.state.get('precision', '–')}"


def _rate(layer: Mapping[str, Any]) -> float:
    return 1.0 if layer.get("rate") is None else float(layer["rate"])


def _trains(layer: Mapping[str, Any]) -> str:
    rate = _rate(layer)
    return "–" if not layer["parameters"] else "frozen" if rate == 0 else "yes" if rate == 1 else f"rate × {rate:g}"


def _shape(shape: Sequence[int | None] | str | None) -> str:
    if shape is None or isinstance(shape, str):
        return shape or ""
    return " × ".join("N" if size is None else str(size) for size in shape)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
