"""Contract checks for plugin authors, one per seam, on tiny networks and photos; and that tiny data, for your own
tests.

    from finetunekit.testing import check_head

    def test_my_head() -> None:
        check_head(build_my_head, MyHeadOptions())

Each check returns None where the component keeps its contract and raises `ContractError` with every rule that it breaks. The check
of any seam looks at the component's options too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetunekit.testing.checks_augmentation import check_augmentation
    from finetunekit.testing.checks_backbone import check_backbone
    from finetunekit.testing.checks_executor import check_executor
    from finetunekit.testing.checks_exporter import check_exporter
    from finetunekit.testing.checks_freezing import check_freezing_policy
    from finetunekit.testing.checks_head import check_head
    from finetunekit.testing.checks_listener import check_listener
    from finetunekit.testing.checks_reporter import check_reporter
    from finetunekit.testing.checks_source import check_data_source
    from finetunekit.testing.checks_tracker import check_tracker, tracked_tiny_run
    from finetunekit.testing.components import check_component
    from finetunekit.testing.contract import ContractError, UnfitExampleError, example_options
    from finetunekit.testing.data import AWKWARD_CLASSES, TINY_CLASSES, tiny_photos, tiny_run
    from finetunekit.testing.sharing import made_once, shared_folder, shared_tiny_run
    from finetunekit.testing.targets import CheckResult, check_target

#: What is offered here → its module, loaded on first use: the scaffold beside them needs neither photos nor Keras.
_HOMES = {
    "check_augmentation": "finetunekit.testing.checks_augmentation",
    "check_backbone": "finetunekit.testing.checks_backbone",
    "check_executor": "finetunekit.testing.checks_executor",
    "check_exporter": "finetunekit.testing.checks_exporter",
    "check_freezing_policy": "finetunekit.testing.checks_freezing",
    "check_head": "finetunekit.testing.checks_head",
    "check_listener": "finetunekit.testing.checks_listener",
    "check_reporter": "finetunekit.testing.checks_reporter",
    "check_data_source": "finetunekit.testing.checks_source",
    "check_tracker": "finetunekit.testing.checks_tracker",
    "tracked_tiny_run": "finetunekit.testing.checks_tracker",
    "check_component": "finetunekit.testing.components",
    "ContractError": "finetunekit.testing.contract",
    "UnfitExampleError": "finetunekit.testing.contract",
    "example_options": "finetunekit.testing.contract",
    "AWKWARD_CLASSES": "finetunekit.testing.data",
    "TINY_CLASSES": "finetunekit.testing.data",
    "tiny_photos": "finetunekit.testing.data",
    "tiny_run": "finetunekit.testing.data",
    "made_once": "finetunekit.testing.sharing",
    "shared_folder": "finetunekit.testing.sharing",
    "shared_tiny_run": "finetunekit.testing.sharing",
    "CheckResult": "finetunekit.testing.targets",
    "check_target": "finetunekit.testing.targets",
}

__all__ = [
    "AWKWARD_CLASSES",
    "TINY_CLASSES",
    "CheckResult",
    "ContractError",
    "UnfitExampleError",
    "check_augmentation",
    "check_backbone",
    "check_component",
    "check_data_source",
    "check_executor",
    "check_exporter",
    "check_freezing_policy",
    "check_head",
    "check_listener",
    "check_reporter",
    "check_target",
    "check_tracker",
    "example_options",
    "made_once",
    "shared_folder",
    "shared_tiny_run",
    "tiny_photos",
    "tiny_run",
    "tracked_tiny_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'finetunekit.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
