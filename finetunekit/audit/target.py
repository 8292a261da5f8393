"""What `data audit` is pointed at: a preset's plan, or a folder for which a plan is made up."""

from __future__ import annotations

from pathlib import Path

from finetunekit.errors import ConfigError
from finetunekit.plan import Plan, make_plan
from finetunekit.plugins import PluginHost
from finetunekit.presets import Document


def plan_for_folder(folder: Path, host: PluginHost) -> Plan:
    """A plan that reads a folder of photos with the default data source; its network is the first that is registered.

    Args:
        folder: Split folders with class folders in them, or class folders.
        host: Installed plugins.

    Raises:
        ConfigError: If no backbone or no head is installed.
    """
    names = {kind: next(iter(sorted(host.registries[kind])), None) for kind in ("backbone", "head")}
    if None in names.values():
        raise ConfigError(f"{folder}: no plugin gives a backbone and a head. See: finetunekit plugins list")
    values = {
        "name": "audit",
        "data": {"root": str(folder)},
        "backbone": {"name": names["backbone"]},
        "head": {"name": names["head"]},
        "stages": [{}],
    }
    return make_plan(Document(values, {}, str(folder), ()), host)
