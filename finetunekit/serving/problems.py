"""What a client is told where a request cannot be answered: a status and one sentence, no path, no traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.responses import Response


class Problem(Exception):
    """A request that is not answered as asked.

    Attributes:
        status: Of HTTP.
        retry_s: After which it may be sent again; None: it would end the same way.
    """

    def __init__(self, status: int, words: str, *, retry_s: int | None = None) -> None:
        """With a sentence for whoever sent it."""
        super().__init__(words)
        self.status, self.retry_s = status, retry_s


def problem_response(problem: Problem) -> Response:
    """As JSON: `{"error": "…"}`."""
    from starlette.responses import JSONResponse

    headers = {} if problem.retry_s is None else {"Retry-After": str(problem.retry_s)}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"error": str(problem)}, problem.status, headers=headers)
