"""What `data audit` is pointed at where it is not a preset: photos for which a plan is made up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from finetunekit.config.plan import Chosen, Plan
from finetunekit.config.planning import make_plan
from finetunekit.config.preset import Document
from finetunekit.errors import ConfigError
from finetunekit.plugins.host import PluginHost


def plan_for_photos(root: Path, source: Chosen, host: PluginHost) -> Plan:
    """A plan that lists photos by a data source; its network is the first that is registered.

    Args:
        root: What the source lists: a folder, a table, an archive.
        source: With its options.
        host: Installed plugins.

    Raises:
        ConfigError: If no backbone or no head is installed.
    """
    names = {kind: next(iter(sorted(host.registries[kind])), None) for kind in ("backbone", "head")}
    if None in names.values():
        raise ConfigError(f"{root}: no plugin gives a backbone and a head. See: finetunekit plugins list")
    values = {
        "name": "audit",
        "data": {"root": str(root)},
        "backbone": {"name": names["backbone"]},
        "head": {"name": names["head"]},
        "stages": [{}],
    }
    return dataclasses.replace(make_plan(Document(values, {}, str(root), ()), host), data_source=source)
