"""Functions that a plugin marks as hooks, looked at before pluggy sees them: misspelt ones, and ones that the mark was forgotten on."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetunekit.errors import PluginError, did_you_mean
from finetunekit.plugins import hookspecs

_MARK = f"{hookspecs.PROJECT}_impl"
_SPEC = f"{hookspecs.PROJECT}_spec"
#: Hook → names of its arguments, in order.
HOOKS = {
    name: tuple(inspect.signature(function).parameters)
    for name, function in vars(hookspecs).items()
    if hasattr(function, _SPEC)
}


def check_marks(plugin: Any) -> None:
    """Check that every marked function is a hook and asks for arguments that the hook has.

    Args:
        plugin: The module, or whatever else an entry point names.

    Raises:
        PluginError: With the place and the nearest name.
    """
    for name, function, options in _marked(plugin):
        hook = options.get("specname") or name
        if hook not in HOOKS:
            raise PluginError(f"{_place(function)}there is no hook '{hook}'.{did_you_mean(hook, HOOKS)}")
        for argument in _arguments(function):
            if argument not in HOOKS[hook]:
                hint = did_you_mean(argument, HOOKS[hook])
                raise PluginError(f"{_place(function)}hook '{hook}' has no argument '{argument}'.{hint}")


def forgotten_marks(module: Any) -> Iterator[str]:
    """One line for each function of a module that is named as a hook and not marked as one."""
    if not isinstance(module, types.ModuleType):
        return
    for name, value in vars(module).items():
        is_own = isinstance(value, types.FunctionType) and value.__module__ == module.__name__
        if name in HOOKS and is_own and not hasattr(value, _MARK):
            yield f"{_place(value)}'{name}' is not marked with @finetunekit.hookimpl, so it is never called."


def _marked(plugin: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    for name in dir(plugin):
        function = getattr(plugin, name, None)
        options = getattr(function, _MARK, None) if inspect.isroutine(function) else None
        if isinstance(options, dict):
            yield name, function, options


def _arguments(function: Any) -> list[str]:
    """Names without a default, as pluggy passes them; a method's first is its own."""
    code = inspect.unwrap(getattr(function, "__func__", function)).__code__
    names = list(code.co_varnames[: code.co_argcount])
    defaults = getattr(function, "__defaults__", None) or ()
    names = names[: len(names) - len(defaults)]
    return names[1:] if inspect.ismethod(function) else names


def _place(function: Any) -> str:
    """`file.py:12: `, of the function's first line, its decorators included."""
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}: " if code else ""
