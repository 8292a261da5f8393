"""Around a plugin's code: what it must not change for everyone is put back, what it prints goes to stderr, what hangs is left behind."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from finetunekit.errors import PluginError
from finetunekit.system.formatting import one_line

T = TypeVar("T")

WATCHED_NAMES = ("HOME", "PATH", "PYTHONHASHSEED", "PYTHONPATH", "TMPDIR")
WATCHED_PREFIXES = ("CUDA_", "FINETUNEKIT_", "KERAS_", "MKL_", "OMP_", "OPENBLAS_", "TF_", "XLA_")
"""Environment variables by which the user steers a run. Loading TensorFlow and Keras sets none of them; it sets others, which stay."""


Calling = Callable[[str], contextlib.AbstractContextManager[None]]
_CALLING: ContextVar[Calling | None] = ContextVar("finetunekit_calling", default=None)


@contextlib.contextmanager
def noting_calls(calling: Calling) -> Iterator[None]:
    """Let every call of a plugin's code in this thread be inside `calling(who)`, so that what ends the process leaves a trace."""
    token = _CALLING.set(calling)
    try:
        yield
    finally:
        _CALLING.reset(token)


@contextlib.contextmanager
def guarded(who: str, *, keeps_random: bool = True, keeps_variables: bool = True) -> Iterator[None]:
    """Run a plugin's code; a change of working folder, of Keras' settings or of the user's environment variables is put back.

    The plugin is then named on stderr.

    Args:
        who: How messages name it.
        keeps_random: Put the random states of Python and NumPy back as well, silently, since drawing from them is no fault. False where
            weights are initialised, which draws from them by design.
        keeps_variables: Put environment variables back as well. False while a plugin is imported: that is where a library is told how to
            start.
    """
    variables = watched_variables()
    folder, settings, states = _working_folder(), _keras_settings(), _random_states() if keeps_random else None
    calling = _CALLING.get() or contextlib.nullcontext
    try:
        with _stdout_to_stderr(), calling(who):
            yield
    finally:
        if folder is not None and _working_folder() != folder:
            with contextlib.suppress(OSError):  # it is gone: whoever asks for it next says so
                os.chdir(folder)
            _say(who, "the working folder")
        now = _keras_settings()
        for name, value in settings.items():
            if now.get(name) != value:
                _put_back(name, value)
                _say(who, f"Keras' {name}")
        for name in _put_back_variables(variables) if keeps_variables else ():
            _say(who, f"the environment variable {name}")
        if states is not None:
            _restore_random(states)


def _working_folder() -> str | None:
    """None where it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


class _StdoutOfThreads:
    """Stands for stdout while a plugin's code runs: what its thread prints goes to stderr, what others print where it belongs.

    Attributes:
        stdout: What it stands for.
        guarded: Threads that run a plugin's code → how deep. One that never comes back stays.
    """

    def __init__(self, stdout: Any) -> None:
        self.stdout, self.guarded = stdout, Counter[int]()

    def __getattr__(self, name: str) -> Any:
        is_guarded = self.guarded[threading.get_ident()] > 0
        return getattr(sys.stderr if is_guarded else self.stdout, name)


_LOCK = threading.Lock()


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """What this thread prints goes to stderr, whatever other threads do meanwhile."""
    thread = threading.get_ident()
    with _LOCK:
        stand_in = sys.stdout if isinstance(sys.stdout, _StdoutOfThreads) else _StdoutOfThreads(sys.stdout)
        sys.stdout = stand_in
        stand_in.guarded[thread] += 1
    try:
        yield
    finally:
        with _LOCK:
            stand_in.guarded[thread] -= 1
            stand_in.guarded += Counter[int]()  # drops those that are through
            if not stand_in.guarded and sys.stdout is stand_in:
                sys.stdout = stand_in.stdout


def _say(who: str, what: str) -> None:
    print(f"warning: {who} changed {what} for the whole program; it was restored.", file=sys.stderr)


def watched_variables() -> dict[str, str]:
    """Those environment variables whose change would change what the rest of the program does."""
    return {
        name: value for name, value in os.environ.items() if name in WATCHED_NAMES or name.startswith(WATCHED_PREFIXES)
    }


def _put_back_variables(before: dict[str, str]) -> list[str]:
    now = watched_variables()
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    for name in changed:
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
    return changed


def _keras_settings() -> dict[str, Any]:
    """Nothing while Keras is not loaded: a plugin that loads it then finds its defaults."""
    keras = sys.modules.get("keras")
    if keras is None or not hasattr(keras, "config"):
        return {}
    config = keras.config
    return {
        "dtype_policy": config.dtype_policy().name,
        "floatx": config.floatx(),
        "image_data_format": config.image_data_format(),
    }


def _put_back(name: str, value: Any) -> None:
    getattr(sys.modules["keras"].config, f"set_{name}")(value)


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {"random": random.getstate()}
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    return states


def _restore_random(states: dict[str, Any]) -> None:
    random.setstate(states["random"])
    if "numpy" in states:
        sys.modules["numpy"].random.set_state(states["numpy"])


def call_with_timeout(timeout_s: float, who: str, call: Callable[[], T]) -> T:
    """What a call returns, or raises; one that takes too long is left behind, in a thread that ends with the process.

    Raises:
        PluginError: If it has not answered in time, or raises what would end a program: the user's own Ctrl-C comes to the main thread.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            answers.append(call())
        except Exception as exc:  # noqa: BLE001 - handed to the caller, which raises it
            errors.append(exc)
        except BaseException as exc:  # noqa: BLE001
            errors.append(PluginError(f"{who} failed: {type(exc).__name__}: {one_line(exc)}"))

    thread = threading.Thread(target=work, name="finetunekit-plugin", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not answers:
        raise PluginError(f"{who} has not answered within {timeout_s:g} s and was left behind.")
    return answers[0]
