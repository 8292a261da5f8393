"""All that is looked at before anything is trained: files, copies, labels, odd photos, and what a pretrained network makes of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from finetunekit.data.audit.audit import audit_listing
from finetunekit.data.audit.gate import apply_severities
from finetunekit.data.known_photos import open_known_photos
from finetunekit.data.listing import list_photos
from finetunekit.evaluation.label_audit import check_features, choose_backbone

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
    return apply_severities(report, allowed), listing


def _looked(chosen: Plan | None) -> str:
    if chosen is None:
        return "labels and outliers not: no pretrained network was used (--network)"
    return f"labels and outliers of train and valid, by {chosen.spec.title} features"
