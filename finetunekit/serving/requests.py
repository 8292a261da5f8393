"""Photos out of a request's body: the body itself, the files of a form, or base64 in JSON. Nothing is written to disk."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from finetunekit.serving.answers import Sent
from finetunekit.serving.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from finetunekit.serving.admission import Body

#: How a photo is called that came without a name.
UNNAMED = "photo"
_NAME_CHARACTERS = 200
#: Levels of lists and objects in JSON; ours has five.
_MOST_DEPTH = 32
JSON_SHAPE = '{"images": [{"name": "a.jpg", "data": "<base64>"}]}'


async def photos_of(request: Request, body: Body) -> list[Sent]:
    """The photos of a request to `/v1/predict` or `/v1/explain`.

    Args:
        request: Content type `multipart/form-data`, `application/json`, or anything else for the bytes of one photo.
        body: Where its bytes are counted.

    Raises:
        Problem: 400 where it has none or cannot be read, and those of `Admission`.
    """
    content = await body.read(request.stream(), request.headers.get("content-length"))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        found = await _of_form(request, content)
    elif kind == "application/json":
        found = _of_json(content)
    else:
        found = [Sent(UNNAMED, content)] if content else []
    if not found:
        raise Problem(
            400, f"The request has no photo. Send the bytes of one, a form with files, or JSON: {JSON_SHAPE}."
        )
    return found


async def _of_form(request: Request, content: bytes) -> list[Sent]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def whole() -> AsyncGenerator[bytes, None]:
        yield content

    parser = MultiPartParser(request.headers, whole(), max_files=10_000, max_fields=100, max_part_size=2**16)
    parser.spool_max_size = len(content) + 1  # it stays in memory
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as exc:
        raise Problem(
            400, "The form cannot be read. Send it as multipart/form-data with one file for each photo."
        ) from exc
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    found = [Sent(_named(file.filename), await file.read()) for file in files]
    await form.close()
    return found


def _of_json(content: bytes) -> list[Sent]:
    given = read_json(content)
    images = given.get("images") if isinstance(given, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise Problem(400, f"The JSON must have this form: {JSON_SHAPE}.")
    return [Sent(_named(image.get("name")), read_base64(image.get("data"))) for image in images]


def read_json(content: bytes) -> Any:
    """Parsed, if it is JSON of a sensible depth; else Problem 400."""
    try:
        text = content.decode()
        if _depth(text) > _MOST_DEPTH:
            raise ValueError("too deep")
        return json.loads(text, parse_constant=_no_constant)
    except ValueError as exc:
        raise Problem(400, "The body is not JSON that is read here.") from exc


def read_base64(data: Any) -> bytes:
    """Bytes of a text, of a data URL too; else Problem 400."""
    if not isinstance(data, str):
        raise Problem(400, "A photo's data must be a text in base64.")
    text = data.partition(",")[2] if data.startswith("data:") else data
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Problem(400, "A photo's data is not base64.") from exc


def _depth(text: str) -> int:
    """Of lists and objects; brackets inside of texts count too, which only refuses what nobody sends."""
    deepest = depth = 0
    for character in text if text.count("[") + text.count("{") > _MOST_DEPTH else ():
        depth += (character in "[{") - (character in "]}")
        deepest = max(deepest, depth)
    return deepest


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _named(name: Any) -> str:
    return name[:_NAME_CHARACTERS] if isinstance(name, str) and name else UNNAMED
