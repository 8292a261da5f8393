"""The command line: one short file per verb group, loaded when its verb is used. It prints and never computes."""

from __future__ import annotations

import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from finetunekit._version import __version__
from finetunekit.cli.common import complain, print_lines
from finetunekit.cli.last_resort import last_resort
from finetunekit.errors import FinetuneKitError
from finetunekit.system.lean_import import import_lean

#: Heading → verb → module, and the line that `--help` shows without loading it.
_SECTIONS = {
    "Start here": {
        "run": ("run", "Train, evaluate and report: your photos, or a preset."),
        "presets": ("presets", "List, show and make presets."),
        "plan": ("plan", "Show what a preset would do; nothing is trained."),
        "predict": ("predict", "Predict photos with a finished run."),
        "export": ("export", "Export a finished run to another runtime, and check its answers."),
        "serve": ("serve", "Serve a finished run over HTTP, with a page to try it on."),
        "doctor": ("doctor", "Check what works on this machine."),
    },
    "Understand a result": {
        "evaluate": ("evaluate", "Score a finished run on a folder of labelled photos."),
        "explain": ("explain", "Show why a finished run answers as it does."),
        "report": ("report", "Rebuild a finished run's reports."),
        "compare": ("compare", "Compare finished runs on the same test photos."),
        "ensemble": ("ensemble", "Make one run of several finished ones."),
        "verify": ("verify", "Test a run against the published result of its preset."),
        "replay": ("replay", "Repeat a run and check whether the result is the same."),
    },
    "Choose settings": {
        "probe": ("probe", "Rank backbones, pixels and sizes without training."),
        "ablate": ("ablate", "Vary settings of a preset, and draw a curve for each."),
        "tune": ("tune", "Search settings of a preset, then test the winner once."),
        "rates": ("rates", "Find a learning rate for a stage of a preset."),
        "schema": ("schema", "Print the JSON Schema of a preset."),
    },
    "Photos": {
        "review": ("review", "Correct photos on a local page: findings, mistakes, a map."),
        "data": ("data", "Fetch, draw, inspect, check, split and describe photos."),
        "features": ("features", "Write a backbone's features of many photos as Parquet."),
    },
    "Plugins": {
        "plugins": ("plugins", "List, create and check plugins."),
        "backbones": ("backbones", "List backbones with size, cost, licence, score, pixels, weights."),
    },
    "Runs and files": {
        "runs": ("runs", "List, show and prune runs."),
        "track": ("track", "Send a run, or what is missing of it, to trackers."),
        "resume": ("resume", "Resume a run that was killed; it ends with the same bits."),
        "weights": ("weights", "List, fetch, locate and pack pretrained weights."),
        "cache": ("cache", "List and clear cached features."),
    },
}
#: What other tools call a verb → what it is called here.
_CALLED_ELSEWHERE = {
    **dict.fromkeys(("train", "fit", "finetune", "fine-tune", "start"), "run"),
    **dict.fromkeys(("infer", "inference", "classify"), "predict"),
    **dict.fromkeys(("gradcam", "why", "interpret"), "explain"),
    **dict.fromkeys(("test", "eval", "score", "val", "validate"), "evaluate"),
    **dict.fromkeys(("check", "env", "info"), "doctor"),
    **dict.fromkeys(("convert", "deploy"), "export"),
    **dict.fromkeys(("host", "web", "ui", "demo", "api"), "serve"),
    **dict.fromkeys(("label", "annotate", "curate"), "review"),
    **dict.fromkeys(("diff",), "compare"),
    **dict.fromkeys(("soup", "combine", "merge", "average"), "ensemble"),
    **dict.fromkeys(("sweep", "grid"), "ablate"),
    **dict.fromkeys(("search", "hpo", "optuna"), "tune"),
    **dict.fromkeys(("lr", "lr-find"), "rates"),
    **dict.fromkeys(("init", "new", "create"), "presets new"),
    **dict.fromkeys(("list", "ls", "history"), "runs list"),
    **dict.fromkeys(("audit", "clean", "lint"), "data audit"),
    **dict.fromkeys(("split",), "data split"),
    **dict.fromkeys(("stats", "describe"), "data stats"),
    **dict.fromkeys(("show", "view"), "data show"),
    **dict.fromkeys(("download", "fetch"), "data fetch"),
    **dict.fromkeys(("embed", "embeddings", "extract"), "features"),
    **dict.fromkeys(("models", "networks"), "backbones"),
    **dict.fromkeys(("continue",), "resume"),
    **dict.fromkeys(("recipes",), "presets"),
}
_VERBS = {name: verb for section in _SECTIONS.values() for name, verb in section.items()}


class _UsageError(click.UsageError):
    """click's words behind `error:`, as every other error here has them."""

    def show(self, file: IO[Any] | None = None) -> None:
        text = io.StringIO()
        super().show(text)
        shown = re.sub(r"^Error: ", "error: ", text.getvalue(), count=1, flags=re.MULTILINE)
        complain(shown.splitlines()) if file is None else print_lines(shown.splitlines(), file=file)


def _reworded(exc: click.UsageError) -> click.UsageError:
    has_own_words = type(exc).show is not click.UsageError.show  # such as a group's help
    return exc if has_own_words else _UsageError(exc.format_message(), exc.ctx)


def _suggest_verb(received: str) -> str:
    """What may have been meant: a word of other tools, photos or a preset without their verb, or a verb that is spelt nearly so."""
    import shlex

    from finetunekit.errors import did_you_mean

    meant = _CALLED_ELSEWHERE.get(received.lower())
    if meant is None and (os.path.exists(received) or received.endswith((".yaml", ".yml"))):
        meant = f"run {shlex.quote(received)}"
    return f" Did you mean 'finetunekit {meant}'?" if meant else did_you_mean(received, _VERBS)


class _LazyGroup(click.Group):
    """A group whose verbs are imported when they are called, so that `--help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"finetunekit.cli.{_VERBS[cmd_name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, _VERBS))  # the lines of all sections begin in one column
        for heading, verbs in _SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), line) for name, (_, line) in verbs.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _VERBS:
            raise click.UsageError(f"no such command '{args[0]}'.{_suggest_verb(args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, *others: Any, **named: Any) -> Any:
        with last_resort(sys.argv[1:] if args is None else args):
            return super().main(args, *others, **named)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if nul := next((text for text in args if "\0" in text), None):
            raise _UsageError(f"an argument with a NUL character is not allowed. Received: {nul!r:.80}", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            raise _reworded(exc) from exc

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            return super().invoke(ctx)
        except click.UsageError as exc:
            raise _reworded(exc) from exc
        except FinetuneKitError as exc:
            complain(f"error: {line}" for line in str(exc).split("\n"))
            ctx.exit(exc.exit_code)
        except KeyboardInterrupt as exc:
            last = getattr(exc, "__notes__", [])[-1:]  # the outermost job says how all of it goes on
            complain(["interrupted; what was finished is kept.", *last])
            ctx.exit(130)
        except BrokenPipeError:
            # the reader of stdout went away; keep Python from complaining again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)


def _interrupt(number: int, frame: object) -> None:
    """A polite request to end is treated as Ctrl-C: what was finished is saved."""
    raise KeyboardInterrupt


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="finetunekit")
@click.option(
    "--disable-plugin",
    "disabled",
    multiple=True,
    metavar="NAME",
    help="Do not load this plugin; 'all' loads only the built-in ones.",
)
@click.option("--strict-plugins", is_flag=True, help="Treat a broken installed plugin as an error.")
def main(disabled: tuple[str, ...], strict_plugins: bool) -> None:
    """Fine-tune a pretrained image classifier on a few hundred photos, and learn how certain the result is.

    \b
    Start with:  finetunekit run PHOTOS/     (one folder per class in it)
    or with:     finetunekit run felidae4    (an experiment that is included)
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no traceback
    _check_working_folder()
    import_lean()
    if disabled:
        os.environ["FINETUNEKIT_DISABLE_PLUGINS"] = ",".join(disabled)
    if strict_plugins:
        os.environ["FINETUNEKIT_STRICT_PLUGINS"] = "1"


def _check_working_folder() -> None:
    """Relative paths begin there, and libraries ask for it as they are loaded.

    Raises:
        FinetuneKitError: If it is gone.
    """
    try:
        os.getcwd()
    except OSError as exc:
        raise FinetuneKitError(
            "the working folder no longer exists. Change to another one (cd) and try again."
        ) from exc
