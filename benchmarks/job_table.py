"""The tables of `bench_job.py`: whole jobs with their parts and ratios, and how near each phase comes to the best convolution rate."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import conv_rates
from common import DRAWS, EPOCHS, STEPS, Job, show_spread
from plain_draws import expected_draws

PLAIN = "plain Keras"
OPPONENTS = {PLAIN: "plain_keras.py", "plain PyTorch": "plain_torch.py"}
"""Contestant → its script. Ratios are against the first."""
PHOTOS, BATCH_SIZE = 600, 32
Round = Mapping[str, tuple[Job, Mapping[str, Any]]]
"""Contestant → its job and what it reported."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way of running finetunekit's job.

    Attributes:
        settings: Over the preset's.
        views: Views of each photo that the whole job keeps; None: training steps start from pixels.
        target: Least ratio of the plain script's time to this one's; None where none was set.
    """

    settings: tuple[str, ...]
    views: int | None
    target: float | None


def _bank(views: int, precision: str, target: float | None) -> Mode:
    return Mode(("cache.mode=bank", f"cache.views={views}", f"precision={precision}"), views, target)


MODES = {
    "preset": Mode((), 64, None),
    "warm": Mode((), 64, 8.0),
    "bank8-bf16": _bank(8, "auto", None),
    "bank8-fp32": _bank(8, "float32", 4.0),
    "exact-bf16": Mode(("cache.mode=exact",), None, None),
    "exact-fp32": Mode(("cache.mode=exact", "precision=float32"), None, 1.15),
}
"""Targets: on 2 CPUs with AVX-512 bf16. `warm` is `preset` started again: its features are there."""


def whole_s(name: str, job: Job, is_full: bool) -> float:
    """Seconds of the whole job."""
    if is_full:
        return job.whole_s
    draws = sum(expected_draws(PHOTOS, BATCH_SIZE, STEPS, EPOCHS)) / EPOCHS if name in OPPONENTS else DRAWS
    return job.extrapolate(EPOCHS, draws)


def show_jobs(rounds: Sequence[Round], is_full: bool) -> list[str]:
    """One line a contestant: whole job, ratio within rounds, target, parts, memory."""
    lines = [
        f"{'contestant':13} {'whole job, s':>26} {'x plain':>22} {'target':>14}   "
        "extraction  a 50-step epoch  a validation  evaluation  start-up and rest  peak MB (of plain)"
    ]
    plain_peak = max(done[PLAIN][0].peak_bytes for done in rounds)
    for name in rounds[0]:
        jobs = [done[name][0] for done in rounds]
        times = [whole_s(name, job, is_full) for job in jobs]
        ratios = [whole_s(PLAIN, done[PLAIN][0], is_full) / t for done, t in zip(rounds, times, strict=True)]
        once = [
            statistics.median(getattr(job, part) for job in jobs) for part in ("extraction_s", "evaluation_s", "rest_s")
        ]
        epoch_s = statistics.median(job.image_s * DRAWS for job in jobs)
        validation_s = statistics.median(job.validation_s for job in jobs)
        peak = max(job.peak_bytes for job in jobs)
        lines.append(
            f"{name:13} {show_spread(times):>26} {show_spread(ratios, 2):>22} {_verdict(name, ratios):>14}   "
            f"{once[0]:8.1f} s {epoch_s:14.2f} s {validation_s:11.2f} s {once[1]:9.1f} s {once[2]:16.1f} s "
            f"{peak / 1e6:8.0f} ({peak / plain_peak:.0%})"
        )
    return lines


def _verdict(name: str, ratios: Sequence[float]) -> str:
    target = MODES[name].target if name in MODES else None
    if target is None:
        return "-"
    ratio = statistics.median(ratios)
    return f"{target:g} {'met' if ratio >= target else 'missed'}"


def show_fractions(rounds: Sequence[Round], rates: conv_rates.Rates) -> list[str]:
    """How near each phase comes to the machine's best convolution rate at its layers' shapes."""
    lines = [f"{'contestant':13} {'phase':26} {'images/s':>10} {'at best rate':>13} {'reached':>8}"]
    for name in rounds[0]:
        precision = rounds[0][name][1].get("precision", "float32")
        for shown, phase, rate in _phases(name, [done[name] for done in rounds]):
            best = 1 / conv_rates.limit_s(phase, rates, precision)
            lines.append(f"{name:13} {shown:26} {rate:10.1f} {best:13.1f} {rate / best:8.0%}   {precision}")
    return lines


def _phases(name: str, done: Sequence[tuple[Job, Mapping[str, Any]]]) -> list[tuple[str, str, float]]:
    """What is shown, the phase of `conv_rates`, images a second."""

    def rate(images: Callable[[Job, Mapping[str, Any]], float]) -> float:
        return statistics.median(images(job, report) for job, report in done)

    is_cached = name in MODES and MODES[name].views is not None
    step = ("training step", "train_suffix" if is_cached else "train_whole", rate(lambda job, _: 1 / job.image_s))
    if name in OPPONENTS:
        draws = [job.epochs[-1].validation_draws for job, _ in done]
        return [step, ("validation", "forward", rate(lambda job, _: draws[0] / job.validation_s))]
    phases = [step]
    if done[0][1]["extracted"]:
        made = rate(lambda _, report: report["extracted"] / report["extraction_s"])
        phases.append(("extraction of features", "prefix", made))
    validated = rate(lambda job, report: report["validation_photos"] / job.validation_s)
    return [*phases, ("validation, from features", "suffix", validated)]


def best_rates(rounds: Sequence[conv_rates.Rates]) -> dict[str, dict[str, float]]:
    """The best of every round."""
    return {
        name: {precision: max(rates[name][precision] for rates in rounds) for precision in rounds[0][name]}
        for name in rounds[0]
    }
