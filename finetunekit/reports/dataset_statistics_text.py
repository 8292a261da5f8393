"""Statistics of a set in lines for a terminal, at most 80 columns where class names allow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from finetunekit.data.profile.summary_statistics import QUANTILES, SetStatistics, shown_root
from finetunekit.system.formatting import counted
from finetunekit.system.terminal import shorten, table
from finetunekit.types import SPLITS

_TITLES = {"min": "min", "p05": "5 %", "median": "median", "p95": "95 %", "max": "max"}
_QUANTITIES = {
    "width_px": ("width, px", "{:.0f}"),
    "height_px": ("height, px", "{:.0f}"),
    "short_side_px": ("short side, px", "{:.0f}"),
    "aspect_ratio": ("width / height", "{:.2f}"),
    "size_kb": ("file, kB", "{:.1f}"),
}
_ORIENTATIONS = "EXIF orientation"
LONGEST_NAME = 28
SHOWN_PROBLEMS = 5


def statistics_lines(found: SetStatistics) -> Iterator[str]:
    """Lines for `data stats`."""
    if found.stand_in:
        yield f"NOTE {found.stand_in}"
    yield f"{found.name}: {counted(found.photos, 'photo')}, {counted(len(found.classes), 'class')}, in {shown_root(found.root)}"
    yield ""
    yield from _class_lines(found)
    yield ""
    yield from _quantity_lines(found)
    yield ""
    yield f"formats: {_counted(found.formats)}"
    yield f"modes: {_counted(found.modes)}"
    turned = sum(found.orientations.values())
    yield f"stored turned ({_ORIENTATIONS}): {turned}" + (f" ({_counted(found.orientations)})" if turned else "")
    if found.grey is not None:
        yield f"without colour: {found.grey} ({found.grey / found.photos:.1%})".replace("%", " %")
    if found.channels:
        yield ""
        yield from _channel_lines(found)
    yield from _problem_lines(found.unreadable)


def _class_lines(found: SetStatistics) -> Iterator[str]:
    splits = [split for split in SPLITS if split in found.counts]
    head = ["class", *splits, "all", "median px", "median kB"]
    rows: list[list[object]] = [
        [
            shorten(label, LONGEST_NAME),
            *(of.counts.get(split, 0) for split in splits),
            of.photos,
            f"{of.median_width_px:.0f} x {of.median_height_px:.0f}",
            f"{of.median_size_kb:.1f}",
        ]
        for label, of in found.classes.items()
    ]
    total = ["all", *(found.counts[split] for split in splits), found.photos, "", ""]
    yield from table([*rows, total], head, right=range(1, len(head)))


def _quantity_lines(found: SetStatistics) -> Iterator[str]:
    rows = [
        [title, *(form.format(found.quantiles[name][quantile]) for quantile in QUANTILES)]
        for name, (title, form) in _QUANTITIES.items()
    ]
    yield from table(rows, ["", *_TITLES.values()], right=range(1, 1 + len(_TITLES)))


def _channel_lines(found: SetStatistics) -> Iterator[str]:
    yield f"channels, {found.contract}; every photo weighs the same:"
    names = {"r": "red", "g": "green", "b": "blue"}
    # fractions have four decimals, levels of 255 one
    form = "{:.4f}, {:.4f}" if max(max(of.std) for of in found.channels.values()) < 10 else "{:.1f}, {:.1f}"
    head = ["split", *(f"{names[channel]} mean, std" for channel in found.order)]
    rows = [
        [split, *(form.format(mean, std) for mean, std in zip(of.mean, of.std, strict=True))]
        for split, of in found.channels.items()
    ]
    yield from table(rows, head, right=range(1, len(head)))


def _problem_lines(problems: Sequence[str]) -> Iterator[str]:
    if not problems:
        return
    yield ""
    yield f"cannot be read: {len(problems)}"
    yield from (f"  {problem}" for problem in problems[:SHOWN_PROBLEMS])
    if len(problems) > SHOWN_PROBLEMS:
        yield f"  and {len(problems) - SHOWN_PROBLEMS} more"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'none'} {count}" for name, count in counts.items())
