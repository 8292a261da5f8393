"""Models that a run was exported as: what their certificates say, in a row each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from finetunekit.reports.words import between, minus

if TYPE_CHECKING:
    from finetunekit import FinishedRun

#: What is measured of a model, in order: on the page, one column a model; on the card as well.
POINTS = {
    "pixels": "decoded pixels, grey levels",
    "square": "resized pixels, grey levels",
    "input": "input of the network",
    "logits": "logits",
    "probabilities": "probabilities",
}


def exports(run: FinishedRun) -> dict[str, Any] | None:
    """The certificates of the models in the folder `exports` as a table: one column a model, one row a measurement; None without one."""
    found = run.certificates
    if not found:
        return None
    columns = [dict(_measured(certificate)) for certificate in found.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    return {
        "names": list(found),
        "head": ["measured", *found],
        "rows": [[name, *(column.get(name, "–") for column in columns)] for name in names],
    }


def _measured(certificate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    network, accuracy, model = certificate["network"], certificate["accuracy"], certificate["model"]
    same = network["same_first_answer"]
    difference = {key: 100 * value for key, value in accuracy["interval"].items() if key in ("low", "high")}
    yield "weights and arithmetic", str(model["precision"])
    yield "takes", "photos of any size" if model["takes"] == "pixels" else f"squares of {model['size_px']} pixels"
    yield "same first answer as the run", f"{same['photos']:,} of {same['of']:,} ({between(same['interval'])})"
    yield (
        "right, the run beside it",
        f"{accuracy['exported_right']:,}, {accuracy['run_right']:,} of {accuracy['photos']:,}",
    )
    yield "difference of accuracy, points", minus(f"{difference['low']:+.1f} to {difference['high']:+.1f}")
    yield "largest difference of a probability", f"{network['largest_difference']:.1e}"
    yield "the same on probe photos", f"{certificate['probes']['largest_difference']:.1e}"
    for point, words in POINTS.items():
        if point in certificate["points"]["probes"]:
            yield f"… of {words}", f"{certificate['points']['probes'][point]['largest_difference']:.1e}"
    yield "megabytes", f"{sum(file['bytes'] for file in model['files'].values()) / 1e6:.1f}"
    for size, cost in certificate["cost"]["milliseconds"].items():
        yield f"ms a batch of {size}, Keras beside it", f"{cost['exported_ms']:.1f}, {cost['keras_ms']:.1f}"
