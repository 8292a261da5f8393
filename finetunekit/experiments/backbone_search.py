"""Candidates for `finetunekit probe`: a preset's plan with other backbones, sizes and pixel contracts, and the best one as a preset."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

from finetunekit.config.joined_backbone import PLUS
from finetunekit.config.pixel_contract import contract_of, fitting_of
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.config.preset import read_document
from finetunekit.config.sections import PixelsSection
from finetunekit.config.yaml_source import dump_yaml
from finetunekit.data.preset_from_photos import check_name, check_out, write_checked
from finetunekit.errors import ConfigError, FinetuneKitError, did_you_mean
from finetunekit.experiments.probe_ranking import Ranking, candidate_words
from finetunekit.models.weights import weights_availability
from finetunekit.plugins.host import PluginHost
from finetunekit.system.formatting import one_line
from finetunekit.system.progress import Progress
from finetunekit.system.terminal import printable

Size = int | Literal["native"]
#: What a probe measures, as `--set` texts: one linear layer, solved once on photos as they are.
_SOLVED = (
    "head={name: linear}",
    "augment=[]",
    "stages=[{kind: solve, name: probe}]",
    "train.draws_per_epoch=null",
    "train.validation_draws=null",
    "cache={}",
)
CROP = "crop"
_FIT = re.compile(rf"stretch|pad|{CROP}(:(1(\.0*)?|0?\.0*[1-9][0-9]*))?")
CONTRACTS: tuple[str, ...] = get_args(PixelsSection.model_fields["contract"].annotation)


def list_candidates(
    preset: str,
    *,
    settings: Sequence[str] = (),
    backbones: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    contracts: Sequence[str] = (),
    fits: Sequence[str] = (),
    progress: Progress,
) -> tuple[list[Plan], dict[str, str]]:
    """Plans to be ranked, the preset's own among them unless other ones are named.

    Args:
        preset: Name or path; photos, resampling, precision and seed are its own.
        settings: `a.b[0].c=VALUE` texts that go over it.
        backbones: Registered names, or several joined by `+`; none: every one whose weights are on this machine's disk, and the preset's.
        sizes: Sides of the input in pixels, `native` for what a backbone was pretrained with; none: the preset's, and `native`.
        contracts: Values of `pixels.contract`; none: the backbone's own, and the preset's.
        fits: How a photo becomes the square, see `fit_settings`; none: as the preset says, and at a backbone's native size and with its own
            contract also its own crop and the largest one.
        progress: Receives warnings.

    Returns:
        The plans, each another network, size or contract; and which were left out, with the reason.

    Raises:
        ConfigError: If the preset is wrong, asks for random weights, or a name is not known.
    """
    base, host = prepare(preset, settings=settings, progress=progress)
    _check(base, host, backbones, contracts, fits)
    left_out: dict[str, str] = {}
    plans: list[Plan] = []
    for name in backbones or _at_hand(base, host, left_out):
        for changes in _changes(base, host, name, sizes, contracts, fits):
            try:
                plan, _ = prepare(preset, settings=[*settings, *changes], progress=Progress(is_quiet=True))
            except FinetuneKitError as exc:
                left_out[f"{name}, {', '.join(changes)}"] = one_line(exc)
                continue
            if all(_network(plan) != _network(other) for other in plans):
                plans.append(plan)
    return plans, left_out


def _changes(
    base: Plan, host: PluginHost, name: str, sizes: Sequence[Size], contracts: Sequence[str], fits: Sequence[str]
) -> Iterator[list[str]]:
    """Each candidate with a backbone, as `--set` texts."""
    native_px, own = _native_size_px(host, name), base.config.pixels
    wanted = [native_px if size == "native" else size for size in sizes]
    named = ("backbone",) if PLUS in name else contracts or ("backbone", own.contract)
    for size in dict.fromkeys(wanted or (own.size_px, native_px)):
        for contract in dict.fromkeys(named):
            is_as_pretrained = (size, contract) == (native_px, "backbone")
            unasked: tuple[str | None, ...] = (None, CROP, f"{CROP}:1") if is_as_pretrained else (None,)
            for fit in fits or unasked:
                yield [*_of_candidate(base, name, size, contract), *fit_settings(fit)]


def _native_size_px(host: PluginHost, name: str) -> int:
    specs = [host.find("backbone", part, "--backbones").spec for part in name.split(PLUS)]
    return max(spec.native_size_px for spec in specs if spec is not None)  # PluginHost refuses a backbone without one


def fit_settings(fit: str | None) -> list[str]:
    """How a photo becomes the square, as `--set` texts.

    Args:
        fit: `stretch`, `pad`, `crop` (the backbone's own), or `crop:SHARE`; None: as the preset says.
    """
    if fit is None:
        return []
    kind, _, share = fit.partition(":")
    return [f"pixels.crop_pct={share or 'null'}", f"pixels.fit={kind}"]


def _check(
    base: Plan, host: PluginHost, backbones: Sequence[str], contracts: Sequence[str], fits: Sequence[str]
) -> None:
    if base.config.weights.mode == "random":
        raise ConfigError("weights.mode: random: a probe ranks pretrained features, and random ones are none.")
    for part in (part for name in backbones for part in name.split(PLUS)):
        host.find("backbone", part, "--backbones")
    for fit in fits:
        if not _FIT.fullmatch(fit):
            raise ConfigError(
                f"--fits: '{fit}' is none of stretch, crop, crop:SHARE and pad; SHARE is above 0 and at most 1."
            )
    for contract in contracts:
        if contract not in CONTRACTS:
            raise ConfigError(
                f"--contracts: '{contract}' is none of {', '.join(CONTRACTS)}.{did_you_mean(contract, CONTRACTS)}"
            )


def _at_hand(base: Plan, host: PluginHost, left_out: dict[str, str]) -> Iterator[str]:
    yield base.backbone.name
    for _, entry in sorted(host.registries["backbone"].items()):
        if entry.name == base.backbone.name or entry.spec is None:
            continue
        found = weights_availability(entry.name, entry.spec)
        if found.is_on_disk:
            yield entry.name
        else:
            # one that is worth a download has a line of its own
            left_out[f"{entry.name}, {entry.spec.worth}" if entry.spec.worth else entry.name] = found.words


def _of_candidate(base: Plan, backbone: str, size_px: int, contract: str) -> list[str]:
    """As `--set` texts. Weights that the preset names are its own backbone's."""
    pixels = [f"pixels.size_px={size_px}", f"pixels.contract={contract}"]
    if backbone == base.backbone.name:
        return pixels
    parts = backbone.split(PLUS)
    named = f"backbone={{name: {backbone}}}" if len(parts) == 1 else f"backbones=[{', '.join(parts)}]"
    own = [f"weights.{key}=null" for key in ("path", "package", "checksum") if getattr(base.config.weights, key)]
    return [*pixels, named, *own]


def _network(plan: Plan) -> tuple[object, ...]:
    pixels = plan.config.pixels
    return plan.backbone.name, *fitting_of(pixels).values(), contract_of(pixels, plan.spec)


def write_winner(out: Path, preset: str, ranking: Ranking, *, settings: Sequence[str], progress: Progress) -> None:
    """Write what was measured as one file that needs no other: the probed preset's photos, a linear head on the best backbone, solved.

    Args:
        out: The file; it must not exist.
        preset: Name or path of the one probed.
        ranking: Of its candidates.
        settings: What was set over it.
        progress: Receives warnings.

    Raises:
        ConfigError: If the file exists, or what would be written does not reach a plan.
        RunFolderError: If it cannot be written.
    """
    check_out(out)
    best = ranking.ranked[0]
    base, host = prepare(preset, settings=settings, progress=Progress(is_quiet=True))
    fit = best.fit if best.crop_pct is None else f"{best.fit}:{best.crop_pct}"
    network = [*_of_candidate(base, best.backbone, best.size_px, best.contract), *fit_settings(fit)]
    changes = [*network, *_SOLVED, "expected=null"]
    values = read_document(preset, host.presets, [*settings, *changes]).values
    text = "".join(f"# {line}".rstrip() + "\n" for line in _comments(out, preset, ranking))
    named = {
        "name": check_name(out.stem),
        "description": f"a linear probe on {candidate_words(best)}, photos of {printable(preset)}",
    }
    write_checked(out, text + dump_yaml({**values, **named}), progress)


def _comments(out: Path, preset: str, ranking: Ranking) -> Iterator[str]:
    best, score = ranking.ranked[0], ranking.chosen
    yield f"finetunekit run {shlex.quote(out.as_posix())}"
    yield ""
    yield f"{printable(preset)} with the best of {len(ranking.ranked)} candidates of `finetunekit probe`: {candidate_words(best)}."
    yield f"Choices in each outer fold of a cross-validation of {score.photos} training and validation photos, that is:"
    yield f"{score.correct} of {score.photos} right, log loss {score.log_loss:.3f}, with nothing trained but one linear layer."
    yield "A run does what was measured: `head` linear, one `solve` stage, no augmentation, whatever that preset trains."
    yield "To fine-tune from there, add a stage: `finetunekit presets show best` has one."
