"""From finished runs to the evidence: what each arm scored, and whether it counts as equal to the reference."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetunekit import FinishedRun
from finetunekit.evaluation.scores import split_arrays
from finetunekit.statistics import (
    Equivalence,
    accuracy_equivalence,
    log_loss_equivalence,
    mean_interval,
    photo_log_losses,
    seed_equivalence,
)

REFERENCE = "exact-fp32"
ACCURACY_MARGIN, LOG_LOSS_MARGIN, ALPHA = 0.015, 0.02, 0.05
"""Stated beforehand: 1.5 points, 0.02 nats, each one-sided test at 5 %. Source: the project's issue 4, point 4."""
SCOPES: Mapping[str, tuple[str, ...]] = {"valid + test": ("valid", "test"), "test": ("test",)}
"""The first decides. Validation photos choose nothing in these runs (no best epoch, no early stop), so they are unseen as well."""
FREE = ("seed", "view_seed", "precision", "cache")
"""Where the configurations of runs in one table may differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One finished run on distinct unseen photos.

    Attributes:
        arm: Its arm.
        seed: Its seed.
        seconds: Its whole time.
        content: Scope → SHA-256 of each photo.
        is_right: Scope → whether each photo is, `(photos,)` bool.
        log_loss: Scope → of each photo, in nats, `(photos,)` float64.
        config: Its configuration but for what arms differ in.
    """

    arm: str
    seed: int
    seconds: float
    content: Mapping[str, tuple[str, ...]]
    is_right: Mapping[str, NDArray[np.bool_]]
    log_loss: Mapping[str, NDArray[np.float64]]
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One arm against the reference in one scope: second minus first.

    Attributes:
        accuracy_seeds: Over paired seeds; None with fewer than two.
        accuracy_photos: Over photos, each averaged over its seeds.
        log_loss_seeds: As above, in nats.
        log_loss_photos: As above, in nats.
    """

    accuracy_seeds: Equivalence | None
    accuracy_photos: Equivalence
    log_loss_seeds: Equivalence | None
    log_loss_photos: Equivalence

    @property
    def is_equivalent(self) -> bool:
        """Whether all four tests pass."""
        tests = (self.accuracy_seeds, self.accuracy_photos, self.log_loss_seeds, self.log_loss_photos)
        return all(test is not None and test.is_equivalent for test in tests)


def read_scored(arm: str, seed: int, path: Path) -> Scored:
    """A finished run's scores, a photo that lies in the splits several times counted once."""
    run = FinishedRun(path)
    content, is_right, log_loss = {}, {}, {}
    for scope, splits in SCOPES.items():
        rows = list({row["sha256"]: row for row in run.predictions if row["split"] in splits}.values())
        probabilities, labels = _arrays(rows, run.classes, splits)
        content[scope] = tuple(row["sha256"] for split in splits for row in rows if row["split"] == split)
        is_right[scope] = probabilities.argmax(axis=1) == labels
        log_loss[scope] = photo_log_losses(probabilities, labels)
    config = {key: value for key, value in run.config.items() if key not in FREE}
    return Scored(arm, seed, float(run.metrics["seconds"]["whole"]), content, is_right, log_loss, config)


def _arrays(
    rows: Sequence[Mapping[str, str]], classes: Sequence[str], splits: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    parts = [split_arrays(rows, classes, split) for split in splits]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def check_comparable(scored: Iterable[Scored]) -> None:
    """Refuse runs that differ in more than their arms.

    Raises:
        ValueError: If configurations or photos differ otherwise; the first odd run is named.
    """
    first: Scored | None = None
    for one in scored:
        first = first or one
        if one.config != first.config or one.content != first.content:
            odd = [key for key in first.config if one.config.get(key) != first.config[key]] or ["photos"]
            raise ValueError(
                f"{one.arm}, seed {one.seed} differs from {first.arm}, seed {first.seed} in {', '.join(odd)}"
            )


def suggest_rates(first: Sequence[Scored], second: Sequence[Scored], scope: str) -> Verdict:
    """One arm against the reference, over the seeds that both have, in the same order."""
    right = [np.stack([one.is_right[scope].astype(np.float64) for one in runs]) for runs in (first, second)]
    losses = [np.stack([one.log_loss[scope] for one in runs]) for runs in (first, second)]
    return Verdict(
        _over_seeds(right[0], right[1], ACCURACY_MARGIN),
        _accuracy_over_photos(right[1] - right[0]),
        _over_seeds(losses[0], losses[1], LOG_LOSS_MARGIN),
        log_loss_equivalence((losses[1] - losses[0]).mean(axis=0), margin=LOG_LOSS_MARGIN, alpha=ALPHA),
    )


def _over_seeds(first: NDArray[np.float64], second: NDArray[np.float64], margin: float) -> Equivalence | None:
    means = first.mean(axis=1).tolist(), second.mean(axis=1).tolist()
    return seed_equivalence(*means, margin=margin, alpha=ALPHA)


def _accuracy_over_photos(changes: NDArray[np.float64]) -> Equivalence:
    """`changes` is `(seeds, photos)` of -1, 0 or 1. One seed, or no change at all: Tango's test, which does not collapse to a point."""
    gained, lost = int((changes > 0).sum()), int((changes < 0).sum())
    if len(changes) == 1 or gained + lost == 0:
        return accuracy_equivalence(gained, lost, changes.shape[1], margin=ACCURACY_MARGIN, alpha=ALPHA)
    means = changes.mean(axis=0)
    interval = mean_interval(means, level=1 - 2 * ALPHA, bounds=(-1.0, 1.0))
    return Equivalence.build(float(means.mean()), interval, ACCURACY_MARGIN, ALPHA, None)


def render_tables(scored: Sequence[Scored], arms: Sequence[str], *, is_shared: bool) -> str:
    """The evidence as Markdown.

    Raises:
        ValueError: If runs differ in more than their arms.
    """
    check_comparable(scored)
    if not scored:
        return "No finished run yet."
    by_arm = {arm: {one.seed: one for one in scored if one.arm == arm} for arm in arms}
    reference = arms[0]
    lines = _preamble(reference, is_shared)
    for scope in SCOPES:
        photos = len(scored[0].content[scope])
        lines += ["", f"**{scope}: {photos} distinct photos**", "", *_header()]
        lines += [_row(arm, reference, by_arm, scope) for arm in arms if by_arm[arm]]
    return "\n".join(lines)


def _preamble(reference: str, is_shared: bool) -> list[str]:
    lines = [
        f"Each arm minus {reference}, same seeds, same photos. Margins stated beforehand: {ACCURACY_MARGIN * 100:g} points of accuracy, "
        f"{LOG_LOSS_MARGIN:g} nats of log loss; brackets hold 90 % intervals (two one-sided tests at {ALPHA:.0%}).",
        "An arm is equivalent if all four intervals lie inside their margins. The first table decides: validation photos choose nothing "
        "in these runs, so they are as unseen as the test photos; 160 photos alone can hardly hold 1.5 points.",
    ]
    if is_shared:
        lines.append(
            "All seeds share one set of views: their spread leaves out what the choice of views adds, and is too narrow."
        )
    return lines


def _header() -> list[str]:
    names = [
        "arm", "seeds", "accuracy, % (sd)", "log loss (sd)", "points, over seeds", "points, over photos",
        "nats, over seeds", "nats, over photos", "equivalent", "s a run",
    ]  # fmt: skip
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _row(arm: str, reference: str, by_arm: Mapping[str, Mapping[int, Scored]], scope: str) -> str:
    runs, paired = by_arm[arm], by_arm[reference]
    accuracies = [float(one.is_right[scope].mean()) * 100 for one in runs.values()]
    losses = [float(one.log_loss[scope].mean()) for one in runs.values()]
    cells = [arm, str(len(runs)), _show_mean(accuracies, 2), _show_mean(losses, 4)]
    seeds = [seed for seed in runs if seed in paired]
    if arm == reference or not seeds:
        cells += ["–"] * 5
    else:
        v = suggest_rates([paired[seed] for seed in seeds], [runs[seed] for seed in seeds], scope)
        cells += [_show(v.accuracy_seeds, 100, 2), _show(v.accuracy_photos, 100, 2)]
        cells += [_show(v.log_loss_seeds, 1, 4), _show(v.log_loss_photos, 1, 4)]
        cells.append(("yes" if v.is_equivalent else "not shown") + f" ({len(seeds)} pairs)")
    cells.append(f"{statistics.median(one.seconds for one in runs.values()):.0f}")
    return "| " + " | ".join(cells) + " |"


def _show_mean(values: Sequence[float], digits: int) -> str:
    spread = f" ({statistics.stdev(values):.{digits}f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _show(test: Equivalence | None, scale: float, digits: int) -> str:
    if test is None:
        return "needs 2 seeds"
    low, high = test.interval.low * scale, test.interval.high * scale
    return f"{test.difference * scale:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
