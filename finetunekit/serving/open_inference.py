"""The Open Inference Protocol, version 2, over HTTP and JSON: what KServe, Triton and their clients speak.

A model takes `photos` (BYTES, `[n]`: files of photos, in base64) or `pixels` (UINT8, `[n, height, width, 3]`: RGB), and gives
`probabilities` (FP64, `[n, classes]`) and `label` (BYTES, `[n]`).

Source: https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finetunekit._version import __version__
from finetunekit.serving.answers import Sent
from finetunekit.serving.problems import Problem
from finetunekit.serving.requests import read_base64

if TYPE_CHECKING:
    from finetunekit.serving.served import About, Answer

PHOTOS, PIXELS, PROBABILITIES, LABEL = "photos", "pixels", "probabilities", "label"
_RANK = 4


def server_metadata() -> dict[str, Any]:
    """Of `GET /v2`."""
    return {"name": "finetunekit", "version": __version__, "extensions": []}


def model_metadata(about: About) -> dict[str, Any]:
    """Of `GET /v2/models/{name}`."""
    return {
        "name": about.name,
        "versions": [about.version],
        "platform": about.runtime,
        "inputs": [
            {"name": PHOTOS, "datatype": "BYTES", "shape": [-1]},
            {"name": PIXELS, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
        ],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP64", "shape": [-1, len(about.classes)]},
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": {"classes": list(about.classes)},
    }


def read_request(given: Any) -> tuple[list[Sent], tuple[str, ...], str | None]:
    """The photos of an inference request, the outputs that are asked for, and its id.

    Raises:
        Problem: 400 with what is wrong.
    """
    if not isinstance(given, dict) or not isinstance(given.get("inputs"), list) or len(given["inputs"]) != 1:
        raise Problem(400, f"The request needs one input, '{PHOTOS}' or '{PIXELS}': {{\"inputs\": [{{\"name\": …}}]}}.")
    (tensor,) = given["inputs"]
    if not isinstance(tensor, dict):
        raise Problem(400, "An input must be an object with name, shape, datatype and data.")
    outputs = given.get("outputs") or [{"name": PROBABILITIES}, {"name": LABEL}]
    names = tuple(str(one.get("name")) for one in outputs if isinstance(one, dict)) if isinstance(outputs, list) else ()
    if not names or not set(names) <= {PROBABILITIES, LABEL}:
        raise Problem(400, f"outputs: allowed are '{PROBABILITIES}' and '{LABEL}'.")
    identity = given.get("id")
    return _photos(tensor), names, identity if isinstance(identity, str) else None


def _photos(tensor: Mapping[str, Any]) -> list[Sent]:
    name, kind, shape = tensor.get("name"), tensor.get("datatype"), _shape(tensor.get("shape"))
    values = _flat(tensor.get("data"))
    if (name, kind) == (PHOTOS, "BYTES") and len(shape) in (1, 2):
        _check_count(values, shape)
        return [Sent(f"photo {number}", read_base64(value)) for number, value in enumerate(values)]
    if (name, kind) == (PIXELS, "UINT8") and len(shape) == _RANK and shape[-1] == 3:
        _check_count(values, shape)
        if not all(type(value) is int and 0 <= value <= 255 for value in values):
            raise Problem(400, f"'{PIXELS}' must be whole numbers from 0 to 255.")
        array = np.array(values, np.uint8).reshape(shape)
        return [Sent(f"photo {number}", photo) for number, photo in enumerate(array)]
    allowed = f"'{PHOTOS}' (BYTES, [n]: files in base64) and '{PIXELS}' (UINT8, [n, height, width, 3])"
    raise Problem(400, f"The input must be one of {allowed}.")


def _shape(shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise Problem(400, "An input's shape must be a list of positive whole numbers.")
    return tuple(shape)


def _flat(data: Any) -> list[Any]:
    """Values of a tensor, whether it was sent flat or nested."""
    if not isinstance(data, list):
        raise Problem(400, "An input's data must be a list; the binary extension is not offered.")
    flat: list[Any] = data
    while flat and all(isinstance(one, list) for one in flat):
        flat = [value for one in flat for value in one]
    return flat


def _check_count(values: Sequence[Any], shape: tuple[int, ...]) -> None:
    if len(values) != math.prod(shape):
        raise Problem(
            400, f"An input of shape {list(shape)} has {math.prod(shape):,} values. Received: {len(values):,}."
        )


def response(about: About, answers: Sequence[Answer], outputs: Sequence[str], identity: str | None) -> dict[str, Any]:
    """What an inference request is answered with."""
    tensors = {
        PROBABILITIES: {
            "name": PROBABILITIES,
            "datatype": "FP64",
            "shape": [len(answers), len(about.classes)],
            "data": [value for answer in answers for value in answer.probabilities.values()],
        },
        LABEL: {
            "name": LABEL,
            "datatype": "BYTES",
            "shape": [len(answers)],
            "data": [answer.label for answer in answers],
        },
    }
    named = {} if identity is None else {"id": identity}
    return {
        **named,
        "model_name": about.name,
        "model_version": about.version,
        "outputs": [tensors[name] for name in outputs],
    }
