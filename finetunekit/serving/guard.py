"""Who may ask: the names under which the server is called, the pages that may send to it, and the token. Around every request."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from finetunekit.errors import ConfigError
from finetunekit.serving.problems import Problem, problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Nothing from elsewhere, nothing inside another page. `blob:` and `data:` are pictures that the page made itself.
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Access:
    """Who may ask.

    Attributes:
        host: Where the server listens.
        names: Host names that a request may call it by; None: any, since only those who know the token are answered.
        token: What `Authorization: Bearer …` must say; None: nothing.
    """

    host: str
    names: frozenset[str] | None
    token: str | None


def decide_access(host: str, token: str | None, names: tuple[str, ...] = ()) -> Access:
    """Who may ask a server that listens at `host`.

    Args:
        host: An address or a name.
        token: None: none is needed, which is possible on this machine only.
        names: Further names that it may be called by.

    Raises:
        ConfigError: If it would listen to other machines without a token, or the token is too short to be one.
    """
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError(
            "--token: at least 16 printable ASCII characters without spaces, such as those of: openssl rand -hex 16"
        )
    if host not in LOOPBACK and token is None:
        raise ConfigError(
            f"--host {host}: other machines could ask, which needs a token: set FINETUNEKIT_TOKEN or --token, or listen at 127.0.0.1."
        )
    if host in LOOPBACK:
        return Access(host, frozenset((*LOOPBACK, *names)), token)
    return Access(host, frozenset((host, *LOOPBACK, *names)) if names else None, token)


class Guard:
    """Refuses before anything is read: a foreign Host (DNS rebinding), a foreign Origin (another site's page), a wrong token."""

    def __init__(self, app: ASGIApp, access: Access, without_token: Collection[str]) -> None:
        """Around an application; paths in `without_token`, such as the page that asks for the token, are answered without it."""
        self._app, self._access, self._without_token = app, access, without_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the start and end of the server."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets here

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send_with_headers)
        else:
            await problem_response(refused)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value.decode("latin-1"))
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        if len(hosts) != 1 or (self._access.names is not None and _name_of(hosts[0]) not in self._access.names):
            return Problem(
                403,
                "This server is not called by that name. Ask it at the address that it printed, or start it with --name.",
            )
        if any(urlsplit(origin).netloc != hosts[0] for origin in origins):
            return Problem(403, "Another site's page may not ask this server.")
        if self._access.token is not None and scope["path"] not in self._without_token:
            given = headers.get(b"authorization", [""])
            if len(given) != 1 or not hmac.compare_digest(
                given[0].encode("latin-1"), f"Bearer {self._access.token}".encode()
            ):
                return Problem(401, "Send the token that the server was started with: Authorization: Bearer TOKEN.")
        return None


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
