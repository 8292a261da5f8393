"""Checks that need a pretrained backbone: which one is at hand, and what its features say of the photos that are trained on.

Test photos stay out of it: no network sees them before a run opens them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from finetunekit.config.plan import Chosen, Plan
from finetunekit.config.sections import PixelsSection, WeightsSection
from finetunekit.config.training_sections import Component
from finetunekit.data.audit.audited_photos import AuditedPhotos
from finetunekit.data.audit.findings import Finding
from finetunekit.data.audit.labels import label_findings, outlier_findings
from finetunekit.data.index import PhotoIndex
from finetunekit.models.weights import weights_status
from finetunekit.plugins.host import PluginHost
from finetunekit.system.progress import Progress
from finetunekit.types import TRAIN, VALID, PhotoListing

FEWEST_A_CLASS = 5


def choose_backbone(plan: Plan, host: PluginHost) -> Plan | None:
    """The plan with the smallest backbone whose pretrained weights are here already; None where there is none.

    Its photos are fed at the backbone's own size and in its own pixel contract.
    """
    here = [
        entry
        for name, entry in host.registries["backbone"].items()
        if entry.spec is not None and weights_status(name, entry.spec).is_cached
    ]
    if not here:
        return None
    entry = min(here, key=lambda entry: entry.spec.parameters if entry.spec else 0)
    assert entry.spec is not None
    config = plan.config.model_copy(
        update={
            "backbone": Component(name=entry.name),
            "backbones": (),
            "pixels": PixelsSection(size_px=entry.spec.native_size_px),
            "weights": WeightsSection(),
            "precision": "float32",
        }
    )
    chosen = Chosen("backbone", entry, entry.options(), ("backbone",))
    return dataclasses.replace(plan, config=config, backbone=chosen, parts=())


def check_features(photos: AuditedPhotos, listing: PhotoListing, plan: Plan, progress: Progress) -> Iterator[Finding]:
    """Likely wrong labels, and outliers, among training and validation photos.

    Args:
        photos: What was read.
        listing: Where they were listed.
        plan: Names the backbone; see `choose_backbone`.
        progress: Says what is under way.

    Raises:
        WeightsError: If the weights cannot be had.
    """
    from finetunekit.evaluation.probe_features import open_probe
    from finetunekit.models.linear_probe.cross_validation import cross_validate

    index = readable_index(photos, listing, (TRAIN, VALID))
    labels = np.concatenate([index.labels(TRAIN), index.labels(VALID)])
    if len(index.classes) < 2 or np.bincount(labels).min() < FEWEST_A_CLASS:
        return
    probe = open_probe(plan, index, progress)
    features = np.concatenate([probe.split(TRAIN)[0], probe.split(VALID)[0]])
    groups = [*probe.groups(TRAIN), *probe.groups(VALID)]
    count = progress.counter("checking labels, fold")
    scores = cross_validate(features, labels, len(index.classes), groups=groups, count=count)
    yield from label_findings(index.photos, index.classes, scores.probabilities, labels)
    yield from outlier_findings(index.photos, features)


def readable_index(photos: AuditedPhotos, listing: PhotoListing, splits: Sequence[str]) -> PhotoIndex:
    """Readable photos of some splits as an index; a class without training photos is a class all the same."""
    found = [photo for split in splits for photo in photos.readable if photo.split == split]
    classes = tuple(sorted({photo.label for photo in found}))
    return PhotoIndex(classes, tuple(found), listing.root, listing.stand_in, ())
