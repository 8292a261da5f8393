"""Sets of classes that hold the true one as often as was asked: made from a run's validation photos, tried on its test photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit.evaluation.scores import split_arrays
from finetunekit.runs.folder import FinishedRun
from finetunekit.statistics import (
    ClassSets,
    Interval,
    coverage_spread,
    fit_class_sets,
    photos_for_coverage,
    wilson_interval,
)
from finetunekit.system.formatting import show_percent, show_range
from finetunekit.types import TEST, VALID

#: Coverages that a run's report shows.
SHOWN = (0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Covered:
    """What sets did on labelled photos that they were not made from.

    Attributes:
        covered: Photos whose set holds the true class.
        photos: All of them.
        interval: Of the share (Wilson).
        mean_size: Classes a set, on average.
        empty: Photos whose set is empty.
        full: Photos whose set holds every class.
    """

    covered: int
    photos: int
    interval: Interval
    mean_size: float
    empty: int
    full: int


@dataclass(frozen=True, slots=True)
class AnswerSets:
    """A rule for sets of classes, with what it promises and what it kept.

    Attributes:
        classes: Class names; position is the class index.
        rule: Made from the uncalibrated probabilities of validation photos, so that no temperature fitted on them is in it.
        photos: Validation photos that it was made from, each content once.
        right: Those whose most probable class is the true one.
        is_chosen: Whether the run chose its epochs, or between its stages, on the same photos.
        test: What it did on the test photos; None where the run left them shut.
        test_classes: The same for each class with test photos, by name; empty where the rule is not per class.
        is_out_of_fold: Whether each of these photos was answered by those members of an ensemble that were not trained on it.
    """

    classes: tuple[str, ...]
    rule: ClassSets
    photos: int
    right: int
    is_chosen: bool
    test: Covered | None
    test_classes: Mapping[str, Covered]
    is_out_of_fold: bool = False

    def names(self, uncalibrated: NDArray[np.float64]) -> list[tuple[str, ...]]:
        """The set of each photo, `(photos, classes)` → names in class order."""
        members = self.rule.members(uncalibrated)
        return [tuple(name for name, is_in in zip(self.classes, row, strict=True) if is_in) for row in members]

    def words(self) -> Iterator[str]:
        """What is promised, what it rests on, and what was seen: one sentence each."""
        rule, asked = self.rule, f"{100 * self.rule.coverage:g} %"
        needed = photos_for_coverage(rule.coverage)
        of = "of the photos of each class" if rule.is_per_class else "of photos"
        yield (
            f"Sets contain the true class for at least {asked} {of} like the {self.photos:,} validation photos that they are made from, "
            "averaged over such validation photos (split conformal prediction)."
        )
        if self.photos < needed and not rule.is_per_class:
            yield f"{self.photos:,} are too few to promise that, which takes {needed:,}: every set contains all classes."
        elif not rule.is_per_class:
            spread = coverage_spread(self.photos, rule.coverage)
            yield f"With this many, a single rule like this one covers {show_range(spread)} % in 95 of 100 cases."
        yield from self._few_words(needed)
        yield self._basis_words()
        if self.test is not None:
            yield _covered_words(self.test)
            for name, covered in self.test_classes.items():
                yield f"'{name}': {_share_words(covered)}."
        yield from self._empty_words()

    def _basis_words(self) -> str:
        if self.is_out_of_fold:
            return (
                "Each of these photos was answered by the members that were not trained on it, and new photos are answered by all of "
                "them, so the promise holds approximately, not exactly."
            )
        if self.is_chosen:
            return "The run chose its epochs or stages on the same photos, so the promise holds approximately, not exactly."
        return "The run chose nothing on these photos; if you did, by comparing runs on them, the promise holds approximately, not exactly."

    def _empty_words(self) -> Iterator[str]:
        if self.right >= self.rule.coverage * self.photos:
            yield (
                f"The network is right on {self.right:,} of these {self.photos:,} photos, which is more than you asked for: an empty set "
                "marks a photo that it is less sure of than of most. Ask for a higher coverage to get fewer of them."
            )
        else:
            yield "An empty set says that no class is likely enough to be kept; a set of all classes says that none can be ruled out."

    def _few_words(self, needed: int) -> Iterator[str]:
        if not self.rule.is_per_class:
            return
        few = [
            f"'{name}' ({photos:,})"
            for name, photos in zip(self.classes, self.rule.photos, strict=True)
            if photos < needed
        ]
        if few:
            yield (
                f"Too few validation photos to promise that ({needed:,} per class are needed), so the class is in every set: "
                f"{', '.join(few)}."
            )


def _covered_words(test: Covered) -> str:
    return (
        f"On the test photos: {_share_words(test)}; {test.mean_size:.2f} classes per set, {test.empty:,} empty, "
        f"{test.full:,} with all classes."
    )


def _share_words(covered: Covered) -> str:
    return (
        f"{covered.covered:,} of {covered.photos:,} hold the true class, {show_percent(covered.covered / covered.photos)} "
        f"(95 % interval {show_range(covered.interval)} %)"
    )


def answer_sets(run: FinishedRun, coverage: float, *, is_per_class: bool = False) -> AnswerSets:
    """Make the rule of a finished run.

    Args:
        run: With its predictions.
        coverage: In (0, 1).
        is_per_class: The promise holds for each class by itself.

    Raises:
        ValueError: If the coverage is impossible.
        RunFolderError: If the run has no predictions.
    """
    found = sets_from(run.predictions, run.classes, coverage, stages=run.config["stages"], is_per_class=is_per_class)
    is_out_of_fold = run.state.get("ensemble", {}).get("is_out_of_fold", False)
    return dataclasses.replace(found, is_out_of_fold=is_out_of_fold)


def sets_from(
    rows: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    coverage: float,
    *,
    stages: Sequence[Mapping[str, Any]],
    is_per_class: bool = False,
) -> AnswerSets:
    """As `answer_sets`, from the rows of `predictions.csv` and the stages of the configuration."""
    distinct = list({(row["split"], row["sha256"]): row for row in rows}.values())
    valid, labels = split_arrays(distinct, classes, VALID, "uncalibrated")
    rule = fit_class_sets(valid, labels, coverage, is_per_class=is_per_class)
    test, truth = split_arrays(distinct, classes, TEST, "uncalibrated")
    members = rule.members(test)
    by_class = {name: truth == k for k, name in enumerate(classes) if is_per_class and (truth == k).any()}
    return AnswerSets(
        classes=tuple(classes),
        rule=rule,
        photos=len(labels),
        right=int((valid.argmax(axis=1) == labels).sum()),
        is_chosen=any(stage.get("early_stopping") or stage.get("revert_unless_better") for stage in stages),
        test=_covered(members, truth) if len(truth) else None,
        test_classes={name: _covered(members[own], truth[own]) for name, own in by_class.items()},
    )


def _covered(members: NDArray[np.bool_], labels: NDArray[np.int64]) -> Covered:
    sizes, covered = members.sum(axis=1), int(members[np.arange(len(labels)), labels].sum())
    return Covered(
        covered=covered,
        photos=len(labels),
        interval=wilson_interval(covered, len(labels)),
        mean_size=float(sizes.mean()),
        empty=int((sizes == 0).sum()),
        full=int((sizes == members.shape[1]).sum()),
    )


def shown_sets(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], stages: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What `metrics.json` holds of sets: for each of `SHOWN`, the threshold, the photos that it comes from and what it did on test."""
    found = []
    for coverage in SHOWN:
        sets = sets_from(rows, classes, coverage, stages=stages)
        is_promised = sets.photos >= photos_for_coverage(coverage)
        found.append(
            {
                "coverage": coverage,
                "photos": sets.photos,
                "threshold": sets.rule.thresholds[0] if is_promised else None,
                "test": dataclasses.asdict(sets.test) if sets.test else None,
            }
        )
    return found
