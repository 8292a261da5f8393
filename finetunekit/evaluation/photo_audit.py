"""All that is looked at before anything is trained: files, copies, labels, odd photos, and what a pretrained network makes of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from finetunekit.data.audit.audit import audit_listing
from finetunekit.data.audit.gate import apply_severities
from finetunekit.data.audit.kept import without_kept
from finetunekit.data.known_photos import open_known_photos
from finetunekit.data.listing import list_photos
from finetunekit.errors import ConfigError
from finetunekit.evaluation.label_audit import check_features, choose_backbone
from finetunekit.plugins.host import load_plugins
from finetunekit.system.user_dirs import expand_home

if TYPE_CHECKING:
    from finetunekit.config.plan import Plan
    from finetunekit.data.audit.findings import AuditReport
    from finetunekit.plugins.host import PluginHost
    from finetunekit.system.progress import Progress
    from finetunekit.types import PhotoListing


def audit_photos(
    plan: Plan, host: PluginHost, *, fed_px: int | None, has_network: bool | None, progress: Progress
) -> tuple[AuditReport, PhotoListing]:
    """Audit the photos that a plan lists.

    Args:
        plan: What lists the photos; its `data.audit` says what is allowed.
        host: Installed plugins, among whose backbones one is chosen.
        fed_px: Size that photos will be fed at; None: nothing is said of it.
        has_network: Look for wrong labels and outliers with a pretrained network, whose weights are fetched where they are not here;
            None: only where they are here.
        progress: Hears what is going on.

    Returns:
        The report, in which what is wrong has its own severity whatever the plan's gate is, and the photos.

    Raises:
        DataError: If the photos cannot be listed.
        WeightsError: If weights are asked for and cannot be had.
    """
    listing = list_photos(plan, progress)
    for note in listing.notes:
        progress.say(f"note: {note}")
    return audit_listed(plan, host, listing, fed_px=fed_px, has_network=has_network, progress=progress), listing


def audit_listed(
    plan: Plan,
    host: PluginHost,
    listing: PhotoListing,
    *,
    fed_px: int | None = None,
    has_network: bool | None,
    progress: Progress,
) -> AuditReport:
    """As `audit_photos`, of photos that were listed."""
    chosen = None if has_network is False else choose_backbone(plan, host)
    if chosen is None and has_network:
        chosen = plan
    network = functools.partial(check_features, listing=listing, plan=chosen, progress=progress) if chosen else None
    with open_known_photos(progress.say) as known_photos:
        report = audit_listing(
            listing,
            max_pixels=plan.config.data.max_photo_pixels,
            known=known_photos,
            fed_px=fed_px,
            progress=progress,
            further=network,
            looked_at=(_looked(chosen),),
        )
    allowed = plan.config.data.audit.model_copy(update={"gate": "error"})
    return apply_severities(without_kept(report, plan.config.data.decisions), allowed)


def open_audited(
    photos: str,
    *,
    settings: Sequence[str] = (),
    seed: int | None = None,
    source: str | None = None,
    options: Sequence[str] = (),
    progress: Progress,
) -> tuple[Plan, PluginHost, bool]:
    """The plan that lists the photos of a preset, folder, table or archive; installed plugins; and whether it is a preset's.

    Args:
        photos: Preset name or path of a YAML file; or path of a folder, table or archive.
        settings: `a.b=VALUE` texts, for a preset.
        seed: Replaces a preset's.
        source: Data source to list a path with; None: by what it is.
        options: `NAME=VALUE` texts, options of that data source.
        progress: Receives warnings.

    Raises:
        ConfigError: If nothing is meant, or settings are given for what is not a preset, or options for one.
        DataError: If there are no photos.
    """
    from finetunekit.config.own_photos import check_photos, means_photos, photo_root, source_of
    from finetunekit.config.planning import prepare
    from finetunekit.data.audit.target import plan_for_photos
    from finetunekit.data.profile.photo_set import choose_source

    host, path = load_plugins(progress.say), expand_home(photos)
    if source is None and not means_photos(photos, host.presets):
        if options:
            raise ConfigError("--option: is for a folder, table or archive. A preset's options are in the preset.")
        return *prepare(photos, settings=settings, seed=seed, progress=progress), True
    if settings or seed is not None:
        raise ConfigError(f"{photos}: is not a preset, and --set and --seed change presets. Leave them out.")
    if source is None:
        check_photos(path)
    chosen = choose_source(source or source_of(path), options, host)
    return plan_for_photos(photo_root(path), chosen, host), host, False


def _looked(chosen: Plan | None) -> str:
    if chosen is None:
        return "labels and outliers not: no pretrained network was used (--network)"
    return f"labels and outliers of train and valid, by {chosen.spec.title} features"
