"""A server that is started and stopped: for the command line, for a script, for a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.errors import ConfigError, FinetuneKitError
from finetunekit.serving.guard import Access, decide_access

if TYPE_CHECKING:
    from finetunekit.serving.answers import Answering
    from finetunekit.serving.served import Served

TOKEN_VARIABLE = "FINETUNEKIT_TOKEN"
NEEDS = ("starlette", "uvicorn", "python-multipart", "prometheus-client")
#: How often a server of `last` looks for a newer run.
_LOOK_S = 5.0
_STOP_S = 30


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes on.

    Attributes:
        photos: Under way at once; more are answered 503.
        body_bytes: Of one request; more are answered 413.
        all_bytes: Of all requests that are under way.
        request_s: From a request's first byte to its answer; what takes longer is answered 504.
        connections: Open at once; more are answered 503.
    """

    photos: int = 256
    body_bytes: int = 64 * 2**20
    all_bytes: int = 256 * 2**20
    request_s: float = 60.0
    connections: int = 128


class Server:
    """A server in its own thread, which listens as soon as it is created. It ends with its `with` block, or with
    `stop`.

    Attributes:
        url: Address of the server.
    """

    def __init__(self, make: Callable[[], Any], access: Access, port: int) -> None:
        """Listen, have the server made (`uvicorn_server`), which may take a while, and answer."""
        sock = listen(access.host, port)
        try:
            self._server = make()
        except BaseException:
            sock.close()
            raise
        self.url = url_of(access.host, sock)
        self._thread = threading.Thread(target=self._server.run, args=([sock],), name="serves", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Answer the requests that were accepted, then end."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Server:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """With its address, which a notebook makes a link of."""
        return f"<finetunekit server at {self.url}>"


def serve(
    run: str | Path,
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    token: str | None = None,
    out: str | Path = "runs",
    runtime: str | None = None,
    trust: bool = False,
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Server:
    """Serve a finished run, or an exported model, over HTTP, in a thread of this process.

    Args:
        run: The run folder, its name under `out`, `last`; or the folder of an exported model.
        port: Port; 0 chooses a free one, see `Server.url`.
        host: Address to listen on. If it is not this machine's loopback address, other machines can connect, and a
            token is needed.
        token: What requests must send as `Authorization: Bearer …`; default: the variable `FINETUNEKIT_TOKEN`.
        out: Folder of runs.
        runtime: Name of an exporter: answer with the run's export in that format, without TensorFlow.
        trust: Run Python files that came with a run that was not started here.
        limits: Limits on requests.
        say: Receives one line per request.

    Returns:
        The running server.

    Raises:
        ConfigError: If the extra `serve` is not installed, the port is in use, a token is needed, or there is no such
            export.
        RunFolderError: If there is no such run, or it has no model.
    """
    check_installed()
    access = decide_access(host, token or os.environ.get(TOKEN_VARIABLE))
    open_served, limits = opener(run, out=out, runtime=runtime, trust=trust), limits or Limits()
    return Server(lambda: _serving(open_served(), access, limits, say), access, port)


def opener(run: str | Path, *, out: str | Path, runtime: str | None, trust: bool) -> Callable[[], Served]:
    """What loads the model that is meant; that it is there is checked at once.

    Raises:
        ConfigError: If it was not exported so.
        RunFolderError: If there is no such run, or it has no model.
    """
    from finetunekit.evaluation.predictor import find_network, load
    from finetunekit.runs.folder import CERTIFICATE
    from finetunekit.serving.served import ServedRun, open_export, place_of_export

    if runtime is None and not (Path(run) / CERTIFICATE).is_file():
        finished = find_network(run, out=out)
        return lambda: ServedRun(load(finished.path, trust=trust))
    exported = place_of_export(run, out=out, runtime=runtime)
    return lambda: open_export(exported)


def check_installed(verb: str = "serve") -> None:
    """Before any work of a verb.

    Raises:
        ConfigError: If the extra `serve` is not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    for name in NEEDS:
        try:
            version(name)
        except PackageNotFoundError as exc:
            raise ConfigError(f"{verb} needs {name}, which is not installed: pip install 'finetunekit[serve]'") from exc


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigError: If it cannot: the port is taken, or needs rights, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except (OSError, OverflowError) as exc:
        sock.close()
        reason = getattr(exc, "strerror", None) or exc
        raise ConfigError(
            f"--port {port}: cannot listen at {host} ({reason}). Choose another with --port; 0 is any that is free."
        ) from exc
    return sock


def url_of(host: str, sock: socket.socket) -> str:
    """Where a browser asks."""
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host
    return f"http://{shown}:{sock.getsockname()[1]}"


def serve_until_stopped(
    served: Served,
    access: Access,
    sock: socket.socket,
    *,
    limits: Limits,
    say: Callable[[str], None],
    newer: Callable[[], Served | None] | None = None,
) -> None:
    """Answer until the process is asked to end; what was accepted by then is answered.

    Args:
        served: The model.
        access: Who may ask.
        sock: Listens.
        limits: How much is taken on.
        say: Receives one line per request.
        newer: Asked now and then, in a thread: a model that takes the place of this one, or None.
    """
    _serving(served, access, limits, say, newer).run([sock])


def _serving(
    served: Served,
    access: Access,
    limits: Limits,
    say: Callable[[str], None],
    newer: Callable[[], Served | None] | None = None,
) -> Any:
    def make() -> Any:
        from finetunekit.serving.admission import Admission
        from finetunekit.serving.answers import Answering, Desk
        from finetunekit.serving.app import make_app
        from finetunekit.serving.metrics import Metrics

        admission = Admission(most_photos=limits.photos, body_bytes=limits.body_bytes, most_bytes=limits.all_bytes)
        metrics = Metrics(lambda: admission.photos)
        answering = Answering(Desk(served), admission, metrics, time_limit_s=limits.request_s)
        if newer is None:
            return make_app(answering, access, say)
        return make_app(answering, access, say, beside=lambda: _reloading(answering, newer, say))

    return uvicorn_server(make, connections=limits.connections)


def uvicorn_server(make: Callable[[], Any], *, connections: int) -> Any:
    """A server of the application that `make` makes in the thread of its event loop, to which it belongs; more connections get 503."""
    import uvicorn

    config = uvicorn.Config(
        _LazyApp(make),
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_STOP_S,
        h11_max_incomplete_event_size=64 * 1024,
        http="h11",
        ws="none",
    )
    return uvicorn.Server(config)


class _LazyApp:
    """An application that is made when it is first asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._app is None:
            self._app = self._make()
        await self._app(scope, receive, send)


@contextlib.asynccontextmanager
async def _reloading(
    answering: Answering, newer: Callable[[], Served | None], say: Callable[[str], None]
) -> AsyncIterator[None]:
    task = asyncio.create_task(_reload(answering, newer, say))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _reload(answering: Answering, newer: Callable[[], Served | None], say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            served = await asyncio.to_thread(newer)
        except FinetuneKitError as exc:
            say(f"note: a newer run is not served: {exc}")
            continue
        if served is not None:
            await answering.take_over(served)
            say(f"serving {served.about.name} now")
