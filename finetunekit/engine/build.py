"""Before a run trains: TensorFlow set up, the network built with its weights, photos decoded, pixels checked; all of it noted."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import TYPE_CHECKING

from finetunekit.config.plan import Plan
from finetunekit.runs.folder import ENVIRONMENT, WEIGHTS
from finetunekit.runs.run_record import RunRecord
from finetunekit.system.environment import describe_environment, prepare_tensorflow, resolve_precision
from finetunekit.system.files import to_json
from finetunekit.system.progress import Progress
from finetunekit.types import TRAIN, VALID

if TYPE_CHECKING:
    from finetunekit.data.decoded_photos import PixelStore
    from finetunekit.data.index import PhotoIndex
    from finetunekit.models.classifier import Classifier
    from finetunekit.training.devices import Together
    from finetunekit.training.stage_context import StageContext


def build_context(
    plan: Plan,
    index: PhotoIndex,
    photos: PixelStore,
    record: RunRecord,
    progress: Progress,
    together: Together | None = None,
) -> StageContext:
    """Build what every stage of a run shares.

    Args:
        plan: The run's plan.
        index: Its photos.
        photos: Their pixels.
        record: Gets environment, weights, precision, pixels and reproducibility.
        progress: Says what is under way.
        together: Where several processes train the network.

    Raises:
        ConfigError: If more devices are asked for than there are, or than a batch can be dealt to.
        PluginError: If a component fails or returns something that its hook does not allow.
        RunError: If there is no room for the network.
        WeightsError: If the pretrained weights cannot be found or fetched.
        DataError: If a photo cannot be read.
    """
    from finetunekit.config.pixel_contract import contract_of
    from finetunekit.models.classifier import build_classifier
    from finetunekit.models.feature_cache import open_cache
    from finetunekit.runs.reproducibility import reproducibility_level
    from finetunekit.system.resource_check import check_budget, network_budget
    from finetunekit.training.devices import device_line, open_devices
    from finetunekit.training.prepare_stage import build_augmenter
    from finetunekit.training.stage_context import StageContext

    config = plan.config
    devices = open_devices(config.train.devices, config.train.batch_size, together)
    prepare_tensorflow(seed=config.seed, is_deterministic=config.deterministic)
    precision = resolve_precision(config.precision)
    record.note(ENVIRONMENT, to_json(describe_environment(training_devices=devices.names if devices else ())))
    with devices.scope() if devices else nullcontext():
        classifier = build_classifier(plan.network, len(index.classes), precision)
    check_budget(network_budget(classifier.logits.count_params()), record.path)
    _load_weights(plan, classifier, record, progress)
    contract = contract_of(config.pixels, plan.spec)
    augmenter = build_augmenter(plan)
    is_keyed = augmenter is None or augmenter.is_deterministic
    level, why = reproducibility_level(is_deterministic=config.deterministic, is_keyed=is_keyed)
    record.state |= {
        "precision": precision,
        "pixels": dataclasses.asdict(contract),
        "reproducibility": {"level": level, "why": why},
    }
    context = StageContext(
        plan=plan,
        classifier=classifier,
        contract=contract,
        precision=precision,
        augmenter=augmenter,
        train=photos.split(TRAIN),
        valid=photos.split(VALID),
        classes=index.classes,
        held_out=frozenset(photo.sha256 for photo in index.photos if photo.split != TRAIN),
        cache=open_cache(progress.say),
        progress=progress,
        devices=devices,
    )
    if devices:
        progress.say(device_line(devices, config.train.batch_size))
    _say_what_is_impure(context)
    return context


def check_pixels(context: StageContext, index: PhotoIndex, record: RunRecord) -> None:
    """Say, and measure, what it costs to feed the backbone other pixels than it was pretrained on."""
    from finetunekit.config.pixel_contract import contract_warning
    from finetunekit.evaluation.pixel_contract_check import contract_lines, measure_contract

    plan, progress, state = context.plan, context.progress, record.state
    warning = contract_warning(plan.config.pixels, plan.spec)
    if warning is None:
        return
    progress.say(f"warning: {warning}")
    if state.get("pixel_check") is None:
        state["pixel_check"] = measure_contract(context, index)
    if state["pixel_check"]:
        for line in contract_lines(state["pixel_check"], plan.spec.title):
            progress.say(line)


def _say_what_is_impure(context: StageContext) -> None:
    """Before anything is computed, since what the options of such an augmentation are worth shows when it is traced."""
    from finetunekit.plugins.components import impurity_notes

    notes = impurity_notes(context.plan)
    for note in notes:
        context.progress.say(f"note: {note}")
    if notes and context.augmenter:
        size_px = context.plan.config.pixels.size_px
        context.augmenter.trace(size_px, size_px, context.num_classes)


def _load_weights(plan: Plan, classifier: Classifier, record: RunRecord, progress: Progress) -> None:
    from finetunekit.models.load_weights import load_backbone_weights

    found = load_backbone_weights(plan, classifier.backbone, progress.say)
    if found is None:
        record.note(WEIGHTS, to_json({"kind": "random", "seed": plan.config.seed}))
        progress.say("weights: random (weights.mode: random)")
        return
    record.note(WEIGHTS, to_json(found.to_json()))
    progress.say(f"weights: {plan.spec.title}, {found.licence} ({found.location})")
