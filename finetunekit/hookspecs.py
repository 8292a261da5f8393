"""What a plugin imports for annotations and marks: the hooks, whose docstrings are the contract."""

from __future__ import annotations

from finetunekit.plugins.hookspecs import (
    PROJECT,
    Register,
    RegisterBackbone,
    RegisterPreset,
    hookimpl,
    hookspec,
)

__all__ = ["PROJECT", "Register", "RegisterBackbone", "RegisterPreset", "hookimpl", "hookspec"]
