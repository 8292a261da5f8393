"""The routes of the review: photos are asked for by number, never by path; what is decided is written before it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import DataError, FinetuneKitError
from finetunekit.serving.admission import Admission
from finetunekit.serving.guard import Access, Guard
from finetunekit.serving.problems import Problem, problem_response
from finetunekit.serving.requests import read_json
from finetunekit.serving.review.cards import QUEUES, Queue
from finetunekit.serving.review.opening import Opened
from finetunekit.serving.review.thumbnails import SIDES_PX

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

PAGE = Path(__file__).with_name("page")
FILES = {
    "/": (PAGE / "index.html", "text/html"),
    "/review.js": (PAGE / "review.js", "text/javascript"),
    "/review.css": (PAGE / "review.css", "text/css"),
    "/style.css": (PAGE.parent.parent / "page" / "style.css", "text/css"),
}
MOST_LISTED = 500
_BODY_BYTES, _ALL_BYTES = 2**20, 32 * 2**20
_BODY_S = 20.0
Answers = Callable[["Request"], Awaitable["Response"]]


def make_review_app(opened: Opened, access: Access, say: Callable[[str], None]) -> ASGIApp:
    """The application that a review runs.

    Args:
        opened: What is reviewed.
        access: Who may ask.
        say: Receives a line where an answer failed for a reason that nobody foresaw.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def unforeseen(_: Request, exc: Exception) -> Response:
        say(f"error: {type(exc).__name__} while answering a request")
        return problem_response(Problem(500, "The server failed to answer; its terminal says more."))

    asked = _Asked(opened)
    routes = [Route(path, _file) for path in FILES]
    for path, answers, method in (
        ("/v1/review", asked.about, "GET"),
        ("/v1/cards/{queue}", asked.cards, "GET"),
        ("/v1/photos", asked.photos, "GET"),
        ("/v1/photos/{number:int}/{size}", asked.picture, "GET"),
        ("/v1/map", asked.map, "GET"),
        ("/v1/like/{number:int}", asked.like, "GET"),
        ("/v1/decisions", asked.decide, "POST"),
        ("/v1/undo", asked.undo, "POST"),
    ):
        routes.append(Route(path, _told(answers), methods=[method]))
    return Guard(Starlette(routes=routes, exception_handlers={500: unforeseen}), access, FILES)


class _Asked:
    """Answers of each route."""

    def __init__(self, opened: Opened) -> None:
        self._review, self._thumbnails, self._map = opened.review, opened.thumbnails, opened.map
        self._admission = Admission(most_photos=1, body_bytes=_BODY_BYTES, most_bytes=_ALL_BYTES)

    async def about(self, _: Request) -> Response:
        return _json(self._review.about())

    async def cards(self, request: Request) -> Response:
        queue = _queue(request.path_params["queue"])
        if "open_from" in request.query_params:
            return _json({"position": self._review.first_open(queue, _number(request, "open_from"))})
        start, count = _number(request, "start"), _number(request, "count", 50)
        return _json({"cards": self._review.card_list(queue, start, min(count, MOST_LISTED))})

    async def photos(self, request: Request) -> Response:
        start, count = _number(request, "start"), min(_number(request, "count", 50), MOST_LISTED)
        return _json({"photos": self._review.photo_list(range(start, start + count))})

    async def picture(self, request: Request) -> Response:
        from starlette.responses import Response

        number, size = request.path_params["number"], request.path_params["size"]
        if size not in SIDES_PX or not 0 <= number < len(self._review.photos):
            raise Problem(404, "There is no such photo.")
        try:
            content = await asyncio.to_thread(self._thumbnails.picture, self._review.photos[number].path, size)
        except DataError as exc:
            raise Problem(404, "The photo is not there any more, or cannot be read.") from exc
        return Response(content, media_type="image/jpeg")

    async def map(self, _: Request) -> Response:
        made = self._map.projection()
        if made is None:
            return self._not_yet()
        places = (made.places * 10_000).round().astype(int)
        photos = [[number, x, y] for number, (x, y) in zip(made.numbers.tolist(), places.tolist(), strict=True)]
        labels = self._review.labels(made.numbers.tolist())
        return _json({"photos": photos, "labels": labels, "kept": round(made.kept, 4)})

    async def like(self, request: Request) -> Response:
        if self._map.projection() is None:
            return self._not_yet()
        found = self._map.like(request.path_params["number"], min(_number(request, "count", 100), MOST_LISTED))
        if found is None:
            raise Problem(
                404, "This photo is not on the map: no network sees test photos before a run has opened them."
            )
        return _json({"photos": self._review.photo_list(found)})

    def _not_yet(self) -> Response:
        if self._map.problem:
            raise Problem(404, self._map.problem)
        return _json({"progress": self._map.progress or "the network is loaded"}, 202)

    async def decide(self, request: Request) -> Response:
        given = await self._body(request)
        kind, numbers = given.get("kind"), given.get("photos")
        texts = {name: given.get(name, "") for name in ("who", "now", "why")}
        is_form = isinstance(kind, str) and all(isinstance(text, str) for text in texts.values())
        if not is_form or not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
            raise Problem(
                400,
                'A decision has this form: {"kind": "label", "photos": [3], "who": "Ann", "now": "lynx", "why": ""}.',
            )
        about = await asyncio.to_thread(lambda: self._review.decide(str(kind), numbers, **texts))
        return self._changed(given, about)

    async def undo(self, request: Request) -> Response:
        given = await self._body(request)
        who = given.get("who", "")
        if not isinstance(who, str):
            raise Problem(400, 'Undoing has this form: {"who": "Ann"}.')
        about = await asyncio.to_thread(self._review.undo, who)
        return self._changed(given, about)

    def _changed(self, given: Mapping[str, Any], about: Sequence[int]) -> Response:
        """What the page shows after a decision: the photos; where it looks at a queue, its cards that changed, and the next one."""
        answer: dict[str, Any] = {"photos": self._review.photo_list(about), "review": self._review.about()}
        if "queue" in given:
            queue, at = _queue(given["queue"]), given.get("at")
            if type(at) is not int or not 0 <= at < len(self._review.cards[queue]):
                raise Problem(400, "'at' is the position of a card.")
            answer["cards"] = list(self._review.cards_with(queue, about).items())
            answer["next"] = self._review.first_open(queue, at + 1)
        return _json(answer)

    async def _body(self, request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Problem(415, "Send JSON.")
        with self._admission.body() as body:
            try:
                async with asyncio.timeout(_BODY_S):
                    content = await body.read(request.stream(), request.headers.get("content-length"))
            except TimeoutError as exc:
                raise Problem(408, "The request did not come to its end in time.") from exc
        given = read_json(content)
        if not isinstance(given, dict):
            raise Problem(400, "Send a JSON object.")
        if given.get("session", self._review.session) != self._review.session:
            raise Problem(
                409, "The review was started again since this page was opened. Reload it; nothing was decided."
            )
        return given


def _told(answers: Answers) -> Answers:
    """Answers in which what a user can cause is a sentence."""

    async def answered(request: Request) -> Response:
        try:
            return await answers(request)
        except Problem as problem:
            return problem_response(problem)
        except DataError as exc:
            return problem_response(Problem(422, str(exc)))
        except FinetuneKitError:
            return problem_response(
                Problem(500, "The decision could not be written; it was not made. Is the disk full?")
            )

    return answered


async def _file(request: Request) -> Response:
    from starlette.responses import Response

    file, kind = FILES[request.url.path]
    return Response(file.read_bytes(), media_type=kind)


def _json(content: Any, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)


def _queue(name: Any) -> Queue:
    for queue in QUEUES:
        if name == queue:
            return queue
    raise Problem(404, "There is no such queue.")


def _number(request: Request, name: str, default: int = 0) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Problem(400, f"{name} must be a whole number.")
    return int(text)
