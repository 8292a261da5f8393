"""Calling a plugin's builder: what goes wrong in it is blamed on it by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetunekit.errors import FinetuneKitError, PluginError
from finetunekit.plugins.guard import guarded
from finetunekit.system.formatting import escaped, one_line

if TYPE_CHECKING:
    from finetunekit.config.plan import Chosen, Plan

_INITIALISING = ("backbone", "head")


def component_label(chosen: Chosen) -> str:
    """How messages name a component: what it is, and which plugin of which distribution gave it."""
    origin = chosen.registered.origin
    return f"{chosen.kind} '{chosen.name}' of plugin '{origin.plugin}' ({origin})"


def call_builder(chosen: Chosen, *arguments: Any) -> Any:
    """Call a component's builder with its options first.

    Raises:
        PluginError: If it raises anything but a deliberate error; the plugin is named.
    """
    try:
        with guarded(component_label(chosen), keeps_random=chosen.kind not in _INITIALISING):
            return chosen.registered.build(chosen.options, *arguments)
    except FinetuneKitError:
        raise
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as exc:
        raise PluginError(f"{component_label(chosen)} failed: {type(exc).__name__}: {one_line(exc)}") from exc


def shown_value(value: object) -> str:
    """What a plugin gave, for a message: bounded, on one line; its type where its text cannot be had."""
    try:
        return escaped(f"{value!r:.200}")
    except Exception:  # noqa: BLE001 (a plugin's value, whose text may raise)
        return type(value).__name__


def impurity_notes(plan: Plan) -> list[str]:
    """One sentence for each augmentation that does not draw from keys only, and what follows from that.

    Raises:
        PluginError: If a builder fails.
    """
    return [
        f"augmentation '{chosen.name}' is not pure: cache.mode: bank is refused, and no resumed run is promised the same bits"
        for chosen in plan.augment
        if not all(getattr(step, "is_deterministic", True) for step in build_steps(chosen))
    ]


def build_steps(chosen: Chosen) -> tuple[Any, ...]:
    """The steps of an augmentation; what each is, is looked at where they are used.

    Raises:
        PluginError: If the builder fails or returns no sequence of them.
    """
    steps = call_builder(chosen)
    if not isinstance(steps, tuple | list):
        raise PluginError(
            f"{component_label(chosen)} must return a tuple of Augmentation. Received: {shown_value(steps)}"
        )
    return tuple(steps)
