"""Every deliberate error with its exit code, and the suggestion for a mistyped name.

The command line converts these once, in one place, into one line each on stderr. Anything else that escapes is met by its last resort
(`finetunekit.cli.last_resort`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_LONGEST_LINE = 2_000
_KEPT_END = 600


def bounded(line: str) -> str:
    """A line of at most 2,000 characters: of a longer one, its start and its end, which says what to do."""
    if len(line) <= _LONGEST_LINE:
        return line
    return f"{line[: _LONGEST_LINE - _KEPT_END - 3]} … {line[-_KEPT_END:]}"


class FinetuneKitError(Exception):
    """Base of every deliberate error. Its text is one line: what was wrong, where, what is allowed, and what to do.

    Lines are bounded (see `bounded`), since what they quote can come from anywhere.
    """

    exit_code = 1

    def __init__(self, text: str) -> None:
        super().__init__("\n".join(map(bounded, text.split("\n"))))


class ConfigError(FinetuneKitError):
    """The configuration, or what it points at, cannot be used as written. It lists every problem found, one per line."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = tuple(map(bounded, (problems,) if isinstance(problems, str) else problems))
        super().__init__("\n".join(self.problems))


class UnknownComponentError(ConfigError):
    """The configuration uses a name that no loaded plugin registers."""


class DataError(ConfigError):
    """The photos, or the folders and tables that list them, cannot be used."""


class PluginError(FinetuneKitError):
    """A plugin could not be loaded, or it returned something that its hook does not allow."""

    exit_code = 3


class RunError(FinetuneKitError):
    """Training or evaluation could not continue: the loss is not finite, nothing is trainable, or a split is empty."""

    exit_code = 4


class PrunedError(RunError):
    """A trial of a search was stopped before its last epoch, since others were better at the same one."""


class WeightsError(FinetuneKitError):
    """Pretrained arrays could not be found, fetched, verified or fitted to the model."""


class RunFolderError(FinetuneKitError):
    """A run folder is missing, is locked by another process, or cannot be read or written."""


class ExportError(FinetuneKitError):
    """A run could not be exported, or the export does not give the run's answers; nothing is left behind."""

    exit_code = 5


def error_of(exit_code: int, text: str) -> FinetuneKitError:
    """The error that another process ended with.

    Args:
        exit_code: Its exit code.
        text: Its error's text, one or several lines.
    """
    kinds = {kind.exit_code: kind for kind in (FinetuneKitError, PluginError, RunError, ExportError)}
    if exit_code == ConfigError.exit_code:
        return ConfigError(text.split("\n"))
    return kinds.get(exit_code, FinetuneKitError)(text)


_SHORT = 5


def _is_slip(received: str, name: str) -> bool:
    """Whether only the last letter is another one: `rum` for `run`."""
    return len(name) > 2 and len(received) == len(name) and received[:-1] == name[:-1]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def did_you_mean(received: str, choices: Iterable[str]) -> str:
    """Suggest the nearest allowed name.

    Args:
        received: What the user wrote.
        choices: What is allowed.

    Returns:
        ` Did you mean 'x'?` when one choice is close (of several, rather one of the same letters in another order), else
        ` Allowed: a, b, c.` (at most 12 named), else an empty string.
    """
    names = sorted(set(choices))
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(received.lower(), lowered, n=3, cutoff=0.6)
    turned = next((name for name in close if sorted(name) == sorted(received.lower())), None)
    # of a short word two letters are half: `cat` is no misspelt `rat`
    near = [
        name for name in close if max(len(name), len(received)) > _SHORT or _likeness(received.lower(), name) >= 0.7
    ]
    if near:  # a longer word is less likely to be meant than one whose last letter alone is another
        near = [name for name in close if _is_slip(received.lower(), name)] or near
    if turned or near:
        return f" Did you mean '{lowered[turned or near[0]]}'?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return f" Allowed: {shown}."
