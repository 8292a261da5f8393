"""A preview for a terminal: the summary in 80 columns, the layer table in at most 100."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from finetunekit.models.flops import COUNTED
from finetunekit.models.freezing import rule_lines, show_rate
from finetunekit.models.layer_table import LayerRow
from finetunekit.system.formatting import show_bytes
from finetunekit.system.progress import show_duration
from finetunekit.training.cost_preview import Entries, Estimate, Preview, StagePreview

_WIDTH = 80
_HEADER = ("layer", "class", "block", "output", "parameters", "multiply-adds", "rate")
_NUMBERS = (4, 5, 6)
#: Least width of the columns that are shortened, in the order of `_HEADER`.
_LEAST = {0: 16, 1: 12, 2: 6}


def preview_lines(preview: Preview) -> list[str]:
    """Tables and figures of every stage, then cache and time of the run."""
    return list(_lines(preview))


def _lines(preview: Preview) -> Iterator[str]:
    counts = ", ".join(f"{count} {split}" for split, count in preview.photos.items() if count)
    name = shorten(preview.name, 24)
    yield f"preview of {name}: {counts}; {preview.num_classes} classes; {preview.precision}"
    if preview.stand_in:
        yield from textwrap.wrap(f"NOTE {preview.stand_in}", _WIDTH)
    shown: dict[tuple[LayerRow, ...], int] = {}
    for number, stage in enumerate(preview.stages, start=1):
        yield ""
        yield f"stage {number}: {stage.name}, {stage.epochs} epochs of {stage.draws} draws"
        if stage.layers in shown:
            yield f"  layers: as in stage {shown[stage.layers]}"
        else:
            shown[stage.layers] = number
            yield from table_lines(stage)
        yield from _stage_lines(stage)
    yield ""
    yield from _cache_lines(preview)
    if preview.estimate:
        yield from _time_lines(preview.estimate)


def table_lines(stage: StagePreview) -> list[str]:
    """The layer table; `|` marks what lies before the cut. Long names are shortened in their middle, no line is wrapped."""
    rows = [_HEADER, *(_cells(row, stage.not_counted) for row in stage.layers)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
    while sum(widths) + 2 * len(widths) > _WIDTH and any(widths[i] > least for i, least in _LEAST.items()):
        widths[max((i for i in _LEAST if widths[i] > _LEAST[i]), key=lambda i: widths[i])] -= 1
    marks = [" ", *("|" if row.is_before_cut else " " for row in stage.layers)]
    return [_line(mark, row, widths) for mark, row in zip(marks, rows, strict=True)]


def _line(mark: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if i in _NUMBERS else shorten(cell, width).ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"{mark} {'  '.join(aligned)}".rstrip()


def _cells(row: LayerRow, not_counted: Sequence[str]) -> tuple[str, ...]:
    shape = "x".join(str(side or "?") for side in row.output_shape[1:]) if row.output_shape else "-"
    unknown = "?" if f"{row.path} ({row.class_name})" in not_counted else "-"
    multiply_adds = unknown if row.multiply_adds is None else show_count(row.multiply_adds)
    rate = "-" if row.rate is None else show_rate(row.rate)
    return (row.path, row.class_name, row.block or "-", shape, f"{row.parameters:,}", multiply_adds, rate)


def shorten(text: str, width: int) -> str:
    """Text of at most `width` characters, its middle left out."""
    if len(text) <= width:
        return text
    kept = width - 2
    return f"{text[: kept - kept // 2]}..{text[len(text) - kept // 2 :]}"


def show_count(count: int) -> str:
    """`0`, `850`, `17.3 k`, `2.96 G`: three digits."""
    for size, unit in ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:#.3g}".rstrip(".") + unit
    return str(count)


def _stage_lines(stage: StagePreview) -> Iterator[str]:
    claims = {row.path: row.claimed_by for row in stage.layers if row.claimed_by}
    for line in rule_lines(claims, {row.path: row.rate for row in stage.layers if row.rate is not None}):
        yield from textwrap.wrap(line, _WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield f"  parameters     {stage.trainable_parameters:,} trained, {stage.frozen_parameters:,} frozen"
    yield f"  multiply-adds  {show_count(stage.multiply_adds)} a photo forward"
    yield f"  counted        {COUNTED}"
    for name in stage.not_counted:
        yield shorten(f"  not counted    {name}", _WIDTH)
    if not stage.boundary:
        yield "  cut            none: the whole network is computed at every draw"
        return
    names = shorten(", ".join(stage.boundary), 40)
    yield f"  cut            after {names}: {len(stage.layers_before_cut)} layers before it (marked |)"
    yield f"  before it      {100 * stage.share_before_cut:.1f} % of the multiply-adds of a forward pass"
    yield f"  features       {stage.bytes_per_photo:,} bytes a photo; cache.mode {stage.mode}"
    for entries in stage.entries:
        size = entries.count * entries.photos * stage.bytes_per_photo
        yield f"    {_what(entries):<28} {show_bytes(size):>10}"


def _what(entries: Entries) -> str:
    if entries.views:
        return f"{entries.views} views of {entries.photos} {entries.split} photos"
    return f"{entries.photos} {entries.split} photos"


def _cache_lines(preview: Preview) -> Iterator[str]:
    yield f"cache  {show_bytes(preview.cache_bytes)} in {shorten(preview.cache_folder, 55)}"
    yield f"       {show_bytes(preview.free_bytes)} free there; kept below {show_bytes(preview.cache_bound_bytes)}"
    if preview.cache_bytes > min(preview.free_bytes, preview.cache_bound_bytes):
        yield "       NOT ENOUGH ROOM: lower cache.views, set cache.mode: exact, or free space"


def _time_lines(estimate: Estimate) -> Iterator[str]:
    yield f"time   about {show_duration(estimate.total_s)} from an empty cache, at the speed this machine has now:"
    for what, seconds in (
        ("start", estimate.start_s),
        ("features of the prefix", estimate.extraction_s),
        ("training", estimate.training_s),
        ("evaluation and saving", estimate.evaluation_s),
    ):
        yield f"       {what:<22} {show_duration(seconds):>12}"
