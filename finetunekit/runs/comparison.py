"""What a comparison of finished runs holds; `dataclasses.asdict` of it can be written as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetunekit.runs.config_diff import Change
from finetunekit.statistics import Interval, PairedComparison


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a comparison on its own test photos.

    Attributes:
        number: 1 is the reference.
        path: Run folder.
        name: Of its configuration.
        seed: Its seed.
        stand_in: The sentence that says so if its photos are a stand-in.
        photos: Distinct test photos.
        copies: Test photos left out as copies of others.
        correct: Distinct photos it has right.
        interval: Wilson interval of its accuracy.
    """

    number: int
    path: Path
    name: str
    seed: int | None
    stand_in: str | None
    photos: int
    copies: int
    correct: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class ChangedPhoto:
    """A test photo that only one of two runs has right.

    Attributes:
        path: As the reference shows it.
        sha256: Of the file.
        true: Its class.
        first: The reference's class.
        first_probability: The reference's probability of that class.
        second: The other run's class.
        second_probability: The other run's probability of that class.
    """

    path: str
    sha256: str
    true: str
    first: str
    first_probability: float
    second: str
    second_probability: float


@dataclass(frozen=True, slots=True)
class RunPair:
    """One run against the reference. All differences are second minus first.

    Attributes:
        first: Number of the reference, 1.
        second: Number of the other run.
        common: Distinct photos in both test splits; everything here is about them.
        only_first: Photos in the reference's test split only.
        only_second: Photos in the other's only.
        scores: The paired tests, and intervals that hold for all pairs together.
        p_adjusted: McNemar's p-value, adjusted for the number of pairs.
        is_told_apart: Whether `p_adjusted` is below 5 %, and so the interval of the accuracies excludes 0.
        is_identical: Whether all probabilities are equal to the last bit.
        gained: Photos that only the second run has right.
        lost: Photos that only the reference has right.
        configuration: Where the configurations and component versions differ.
        machine: Where machines, library versions, precision and pretrained arrays differ.
        is_machine_known: Whether both runs recorded theirs.
    """

    first: int
    second: int
    common: int
    only_first: int
    only_second: int
    scores: PairedComparison
    p_adjusted: float
    is_told_apart: bool
    is_identical: bool
    gained: tuple[ChangedPhoto, ...]
    lost: tuple[ChangedPhoto, ...]
    configuration: tuple[Change, ...]
    machine: tuple[Change, ...]
    is_machine_known: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several finished runs.

    Attributes:
        runs: In the order given; the first is the reference.
        pairs: Every other run against it.
        margin_points: Margin of the equivalence of accuracies, in percentage points; None if none was stated.
        log_loss_margin: Margin of the equivalence of log losses, in nats; None if none was stated.
    """

    runs: tuple[ComparedRun, ...]
    pairs: tuple[RunPair, ...]
    margin_points: float | None
    log_loss_margin: float | None
