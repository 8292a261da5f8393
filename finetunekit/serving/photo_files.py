"""Photo files asked of an exported model, without TensorFlow: what `predict` does with a run's network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetunekit.data.decode import Pixels, decode_photo
from finetunekit.errors import DataError
from finetunekit.evaluation.prediction_table import Predictions
from finetunekit.evaluation.predictor import Prediction
from finetunekit.serving.served import MOST_PIXELS, Asked, ServedExport
from finetunekit.training.batches import prefetched

if TYPE_CHECKING:
    from finetunekit.serving.served import Raw


def predict_files(
    model: ServedExport,
    paths: Sequence[Path],
    asked: Asked,
    *,
    count: Callable[[int, int], None],
    unreadable: Callable[[str], None],
) -> Predictions:
    """Predict photo files; the next photo is decoded while one is answered.

    Args:
        model: What answers.
        paths: Of photo files.
        asked: What is wanted beside probabilities.
        count: Called with the number of photos done and the total.
        unreadable: Receives the line of each photo that cannot be read, which is left out.

    Raises:
        ConfigError: If an exported model cannot give what is asked for.
    """
    model.say([], asked)  # refuses before any work
    found: list[tuple[Path, Raw]] = []
    for number, (path, pixels) in enumerate(prefetched(_decoded(model, paths, unreadable)), start=1):
        if pixels is not None:
            (raw,) = model.answer([pixels])
            found.append((path, raw))
        count(number, len(paths))
    answers = model.say([raw for _, raw in found], asked)
    return Predictions(
        Prediction(path, answer.label, answer.probability, model.temperature, answer.probabilities)
        for (path, _), answer in zip(found, answers, strict=True)
    )


def _decoded(
    model: ServedExport, paths: Sequence[Path], unreadable: Callable[[str], None]
) -> Iterator[tuple[Path, Pixels | None]]:
    for path in paths:
        try:
            yield path, model.fit(decode_photo(path, max_pixels=MOST_PIXELS))
        except DataError as exc:
            unreadable(str(exc))
            yield path, None
