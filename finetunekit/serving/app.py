"""The routes: what is asked at which address, and how it is answered."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.data.photo_file import pillow_guard
from finetunekit.errors import DataError, FinetuneKitError
from finetunekit.serving import open_inference
from finetunekit.serving.answers import Answering
from finetunekit.serving.api_description import api_json, api_page
from finetunekit.serving.guard import Access, Guard
from finetunekit.serving.problems import Problem, problem_response
from finetunekit.serving.requests import photos_of, read_json
from finetunekit.serving.served import Answer, Asked

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from finetunekit.serving.served import About

PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
}
#: What an orchestrator asks, and the page, which asks for the token.
_WITHOUT_TOKEN = (*_FILES, "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready")
Answers = Callable[["Request"], Awaitable["Response"]]


def make_app(
    answering: Answering,
    access: Access,
    say: Callable[[str], None],
    *,
    beside: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
) -> ASGIApp:
    """The application that a server runs.

    Args:
        answering: Answers photos.
        access: Who may ask.
        say: Receives one line for each request, without anything of a photo's content.
        beside: What goes on while the server runs, such as looking for a newer run.
    """
    from starlette.applications import Starlette

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        with pillow_guard.keeping_helpers():
            async with beside():
                yield
            await answering.close()

    async def unforeseen(_: Request, exc: Exception) -> Response:
        say(f"error: {type(exc).__name__} while answering a request")
        return problem_response(Problem(500, "The server failed to answer; its log says more."))

    app = Starlette(routes=list(_routes(answering, say)), lifespan=lifespan, exception_handlers={500: unforeseen})
    return Guard(app, access, _WITHOUT_TOKEN)


def _routes(answering: Answering, say: Callable[[str], None]) -> Iterator[Route]:
    from starlette.routing import Route

    first, second = _FirstInterface(answering), _OpenInference(answering)

    def route(path: str, answers: Answers, method: str = "GET") -> Route:
        return Route(path, _told(answers, answering, say), methods=[method])

    for path in _FILES:
        yield Route(path, _file)
    for path, content, kind in (("/docs", api_page, "text/html"), ("/openapi.json", api_json, "application/json")):
        yield Route(path, _fixed(content(), kind))
    yield Route("/metrics", _metrics_of(answering))
    yield route("/v1/model", first.model)
    yield route("/v1/predict", first.predict, "POST")
    yield route("/v1/explain", first.explain, "POST")
    yield route("/v2", second.server)
    for health in ("live", "ready"):
        yield Route(f"/v2/health/{health}", _fixed(b'{"%s": true}' % health.encode(), "application/json"))
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        yield route(model, second.model)
        yield route(f"{model}/ready", second.model_ready)
        yield route(f"{model}/infer", second.infer, "POST")


class _FirstInterface:
    """`/v1`: our own."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def model(self, _: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(dataclasses.asdict(self._answering.desk.served.about))

    async def predict(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        asked = _asked(request)
        with self._answering.admission.body() as body:
            photos = await photos_of(request, body)
            about = self._answering.desk.served.about
            answers = await self._answering.answer(photos, asked)
        found = [{"name": sent.name, **_shown(answer)} for sent, answer in zip(photos, answers, strict=True)]
        is_any = any(isinstance(answer, Answer) for answer in answers)
        content = {"model": {"name": about.name, "version": about.version}, "predictions": found}
        return JSONResponse(content, 200 if is_any else 422)

    async def explain(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        with self._answering.admission.body() as body:
            photos = await photos_of(request, body)
            if len(photos) != 1:
                raise Problem(400, "One photo at a time is explained.")
            found = await self._answering.explain(photos[0], request.query_params.get("label"))
        content = {"label": found.label, "map": found.where.tolist(), "window": dataclasses.asdict(found.window)}
        return JSONResponse({**content, "picture": _picture(found.where)})


class _OpenInference:
    """`/v2`, see `finetunekit.serving.open_inference`."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def server(self, _: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(open_inference.server_metadata())

    async def model(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(open_inference.model_metadata(self._asked(request)))

    async def model_ready(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse({"name": self._asked(request).name, "ready": True})

    async def infer(self, request: Request) -> Response:
        from starlette.responses import JSONResponse

        about = self._asked(request)
        with self._answering.admission.body() as body:
            content = await body.read(request.stream(), request.headers.get("content-length"))
            photos, outputs, identity = await asyncio.to_thread(lambda: open_inference.read_request(read_json(content)))
            answers = await self._answering.answer(photos)
        good = [answer for answer in answers if isinstance(answer, Answer)]
        if len(good) < len(answers):
            raise next(answer for answer in answers if isinstance(answer, DataError))
        return JSONResponse(open_inference.response(about, good, outputs, identity))

    def _asked(self, request: Request) -> About:
        about, asked = self._answering.desk.served.about, request.path_params
        if asked["name"] != about.name or asked.get("version", about.version) != about.version:
            raise Problem(404, f"There is no such model here. Allowed: {about.name}, version {about.version}.")
        return about


async def _file(request: Request) -> Response:
    from starlette.responses import Response

    name, kind = _FILES[request.url.path]
    return Response((PAGE / name).read_bytes(), media_type=kind)


def _fixed(content: bytes, kind: str) -> Answers:
    async def answers(_: Request) -> Response:
        from starlette.responses import Response

        return Response(content, media_type=kind)

    return answers


def _metrics_of(answering: Answering) -> Answers:
    async def answers(_: Request) -> Response:
        from starlette.responses import Response

        return Response(answering.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return answers


def _told(answers: Answers, answering: Answering, say: Callable[[str], None]) -> Answers:
    """With a line in the log, counted, in time, and every deliberate error as an answer."""

    async def answered(request: Request) -> Response:
        began, route = time.perf_counter(), request.scope["route"].path
        try:
            async with answering.in_time():
                response = await answers(request)
        except Problem as problem:
            response = problem_response(problem)
        except DataError as exc:
            response = problem_response(Problem(422, str(exc)))
        except FinetuneKitError as exc:
            response = problem_response(Problem(400, str(exc)))
        seconds = time.perf_counter() - began
        answering.metrics.count_request(route, response.status_code, seconds)
        say(f"{request.method} {route} {response.status_code} {1000 * seconds:.0f} ms")
        return response

    return answered


def _shown(answer: Answer | DataError) -> dict[str, Any]:
    if isinstance(answer, DataError):
        return {"error": str(answer)}
    return dataclasses.asdict(answer)


def _asked(request: Request) -> Asked:
    """What the query of a request asks for beside probabilities."""
    known = {field.name for field in dataclasses.fields(Asked)}
    query = request.query_params
    if not set(query) <= known:
        raise Problem(
            400,
            f"Unknown in the query: {', '.join(sorted(set(query) - known))[:200]}. Allowed: {', '.join(sorted(known))}.",
        )
    coverage = _share(query, "coverage") if "coverage" in query else None
    if coverage in (0.0, 1.0):
        raise Problem(400, "coverage must lie between 0 and 1.")
    unlike = query.get("abstain_unlike", "false")
    if unlike not in ("true", "false"):
        raise Problem(400, "abstain_unlike must be true or false.")
    return Asked(_share(query, "abstain_below"), unlike == "true", coverage)


def _share(query: Mapping[str, str], name: str) -> float:
    try:
        value = float(query.get(name, "0"))
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise Problem(400, f"{name} must be a number from 0 to 1.")
    return value


def _picture(where: NDArray[np.float32]) -> str:
    """A map as a data URL: a PNG that is transparent where nothing spoke for the class."""
    from PIL import Image

    alpha = np.round(200 * where).astype(np.uint8)
    colour = np.broadcast_to(np.array([255, 96, 0], np.uint8), (*where.shape, 3))
    stream = io.BytesIO()
    Image.fromarray(np.concatenate([colour, alpha[..., np.newaxis]], axis=-1)).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
