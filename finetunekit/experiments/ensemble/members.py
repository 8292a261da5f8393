"""The runs that an ensemble is to be made of: found, checked against each other, and what they recorded of their photos."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.errors import ConfigError, RunFolderError, did_you_mean
from finetunekit.runs.folder import CONFIG, MODEL, WEIGHTS, FinishedRun, find_run, find_run_group
from finetunekit.types import TEST, TRAIN, VALID

Photo = tuple[str, str, str]
"""Path as the run's tables have it, SHA-256, class."""

_SPLITS = (TRAIN, VALID, TEST)


def find_members(runs: Sequence[str | Path], out: Path) -> list[FinishedRun]:
    """The runs that are meant; the folder of several runs stands for all of them.

    Raises:
        RunFolderError: If there is no such run.
        ConfigError: If there are fewer than two, or one is given twice.
    """
    paths: list[Path] = []
    for run in runs:
        group = find_run_group(run, out)
        own = sorted(place.parent for place in group.glob(f"[!.]*/{CONFIG}")) if group else []
        paths += own or [find_run(run, out, prefers_finished=True)]
    resolved = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if resolved[number] in resolved[:number]:
            raise ConfigError(f"{path}: was given twice. Name each run once.")
    if len(paths) < 2:
        raise ConfigError(f"an ensemble needs two runs or more. Received: {len(paths)}")
    return [FinishedRun(path) for path in resolved]


def check_members(members: Sequence[FinishedRun]) -> None:
    """Refuse runs that cannot answer together, before anything is loaded.

    Raises:
        RunFolderError: If one is not finished or has no model.
        ConfigError: If they have other classes, other photos or other splits.
    """
    for member in members:
        _check_finished(member)
    first = members[0]
    for other in members[1:]:
        odd = sorted(set(first.classes) ^ set(other.classes))
        if odd:
            holder, lacking = (first, other) if odd[0] in first.classes else (other, first)
            raise ConfigError(
                f"{holder.path} has a class '{odd[0]}' that {lacking.path} has not."
                f"{did_you_mean(odd[0], lacking.classes)} Only runs with the same classes can answer together."
            )
    if is_of_folds(members):
        _check_folds(members)
        return
    for other in members[1:]:
        differing = _first_difference(first, other)
        if differing:
            raise ConfigError(
                f"{differing} Photos that one member was trained on cannot judge another. Train the members on the same photos in the same "
                "splits, as run --seeds does, or take the folds of one cross-validation."
            )


def _check_finished(member: FinishedRun) -> None:
    status = member.state["status"]
    if status != "finished":
        raise RunFolderError(f"{member.path}: is '{status}'; only finished runs can answer together.")
    if "ensemble" in member.state:
        raise ConfigError(f"{member.path}: is an ensemble itself. Name its members instead.")
    if not (member.path / MODEL).is_file():
        raise RunFolderError(
            f"{member.path}: keeps no {MODEL}. Of several seeds only the first model is kept unless they are run with "
            "--set save.seeds=all."
        )


def is_of_folds(members: Sequence[FinishedRun]) -> bool:
    """Whether they are folds of a cross-validation, so that each was trained on what others were judged by."""
    return all(member.config["train"].get("fold") is not None for member in members)


def _check_folds(members: Sequence[FinishedRun]) -> None:
    first, deal = members[0], ("folds", "fold_seed")
    for other in members[1:]:
        same = all(first.config["train"][key] == other.config["train"][key] for key in deal)
        if not same or set(every_photo(first)) != set(every_photo(other)):
            raise ConfigError(
                f"{first.path} and {other.path} are folds of different cross-validations. Name the runs of one."
            )
    folds = Counter(member.config["train"]["fold"] for member in members)
    if max(folds.values()) > 1:
        raise ConfigError(f"fold {folds.most_common(1)[0][0]} is there twice. Name one run for each fold.")


def _first_difference(first: FinishedRun, other: FinishedRun) -> str:
    """One sentence on a photo that is not in the same split of both; empty where there is none."""
    for split in _SPLITS:
        one, two = (
            Counter((row["sha256"], row["label"]) for row in run.photos if row["split"] == split)
            for run in (first, other)
        )
        if one != two:
            lacking, holder = (other, first) if one - two else (first, other)
            sha = next(iter((one - two) or (two - one)))[0]
            name = next(row["path"] for row in holder.photos if row["sha256"] == sha)
            return f"{holder.path} has '{name}' in {split}, {lacking.path} has not, or under another class."
    return ""


def photos_of(member: FinishedRun, *splits: str) -> list[Photo]:
    """Photos of some splits of a run."""
    return [(row["path"], row["sha256"], row["label"]) for row in member.photos if row["split"] in splits]


def every_photo(member: FinishedRun) -> list[Photo]:
    """Photos that a run was trained, validated or tested on."""
    return photos_of(member, *_SPLITS)


def recorded(member: FinishedRun, *splits: str) -> dict[str, NDArray[np.float64]]:
    """SHA-256 of the photos of some splits → a member's probabilities `(classes,)`, as its network gives them."""
    return {
        row["sha256"]: np.array([float(row[f"uncalibrated_{name}"]) for name in member.classes])
        for row in member.predictions
        if row["split"] in splits
    }


def may_share_weights(members: Sequence[FinishedRun]) -> str | None:
    """Why the members' weights cannot be averaged; None: they may lie in one basin, which validation photos decide."""
    first = members[0]
    if is_of_folds(members):
        return "no photo is left that none of them was trained on, by which averaged weights could be judged"
    if any(member.state["config_key"] != first.state["config_key"] for member in members):
        return "they were not trained by one plan"
    started = [member.optional(WEIGHTS) or {} for member in members]
    if any(not w.get("arrays_sha256") or w["arrays_sha256"] != started[0].get("arrays_sha256") for w in started):
        return "they did not start from the same pretrained weights"
    frozen = [[stage.get("decision") for stage in member.state["stages"]] for member in members]
    if any(
        one != frozen[0] or member.state["precision"] != first.state["precision"]
        for one, member in zip(frozen, members, strict=True)
    ):
        return "not the same layers of them were trained"
    return None


def joined_weights(members: Sequence[FinishedRun]) -> Mapping[str, Any]:
    """Where the pretrained arrays of all members came from, as one `weights.json`: licences and attributions one after the other."""
    found = [member.weights for member in members]
    if all(one == found[0] for one in found):
        return found[0]
    keys = dict.fromkeys(key for one in found for key in one)
    joined = {key: "; ".join(_distinct(str(one[key]) for one in found if one.get(key))) for key in keys}
    digests = _distinct(str(one["arrays_sha256"]) for one in found if one.get("arrays_sha256"))
    if len(digests) > 1:
        joined["arrays_sha256"] = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return joined


def _distinct(texts: Iterator[str]) -> list[str]:
    """Each once, in order; a text that joins several counts as those."""
    return list(dict.fromkeys(part for text in texts for part in text.split("; ")))
