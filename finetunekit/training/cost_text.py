"""A preview for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finetunekit.models.flops import COUNTED
from finetunekit.models.freezing import rule_lines, show_rate
from finetunekit.models.layer_table import LayerRow
from finetunekit.system.formatting import counted, show_bytes, show_duration
from finetunekit.system.terminal import WIDTH_COLUMNS, shorten, table, terminal_width, wrap
from finetunekit.training.cost_preview import Entries, Estimate, Preview, StagePreview

_HEADER = ("layer", "class", "block", "output", "parameters", "multiply-adds", "rate")
#: Least width of the columns that are shortened.
_LEAST = {0: 16, 1: 12, 2: 6}


def preview_lines(preview: Preview, width: int = WIDTH_COLUMNS) -> Iterator[str]:
    """Tables and figures of every stage, then cache and time of the run.

    Args:
        preview: Of a plan.
        width: Columns that the table of layers may take; about 100 are enough for names in full.
    """
    counts = ", ".join(f"{count} {split}" for split, count in preview.photos.items() if count)
    name = shorten(preview.name, 24)
    yield f"preview of {name}: {counts}; {preview.num_classes} classes; {preview.precision}"
    if preview.stand_in:
        yield from wrap(f"NOTE {preview.stand_in}")
    shown: dict[tuple[LayerRow, ...], int] = {}
    for number, stage in enumerate(preview.stages, start=1):
        yield ""
        yield f"stage {number}: {stage.name}, {stage.epochs} epochs of {stage.draws} draws"
        if stage.layers in shown:
            yield f"  layers: as in stage {shown[stage.layers]}"
        else:
            shown[stage.layers] = number
            yield from table_lines(stage, width)
        yield from _stage_lines(stage)
    yield ""
    yield from _cache_lines(preview)
    if preview.estimate:
        yield from _time_lines(preview.estimate)


def table_lines(stage: StagePreview, width: int) -> list[str]:
    """The layer table; `|` marks what lies before the cut. Long names are shortened in their middle, no line is wrapped."""
    rows = [_cells(row, stage.not_counted) for row in stage.layers]
    widths = [max(map(terminal_width, column)) for column in zip(_HEADER, *rows, strict=True)]
    while sum(widths) + 2 * len(widths) >= width and (names := [i for i in _LEAST if widths[i] > _LEAST[i]]):
        widths[max(names, key=widths.__getitem__)] -= 1
    cut = [[shorten(cell, widths[i], keep="middle") for i, cell in enumerate(row)] for row in rows]
    marks = ("|" if row.is_before_cut else "" for row in stage.layers)
    return table([(mark, *row) for mark, row in zip(marks, cut, strict=True)], ("", *_HEADER), right=(5, 6, 7))


def _cells(row: LayerRow, not_counted: Sequence[str]) -> tuple[str, ...]:
    shape = "x".join(str(side or "?") for side in row.output_shape[1:]) if row.output_shape else "-"
    unknown = "?" if f"{row.path} ({row.class_name})" in not_counted else "-"
    multiply_adds = unknown if row.multiply_adds is None else show_count(row.multiply_adds)
    rate = "-" if row.rate is None else show_rate(row.rate)
    return (row.path, row.class_name, row.block or "-", shape, f"{row.parameters:,}", multiply_adds, rate)


def show_count(count: int) -> str:
    """`0`, `850`, `17.3 k`, `2.96 G`: three digits."""
    for size, unit in ((10**12, " T"), (10**9, " G"), (10**6, " M"), (10**3, " k")):
        if count >= size:
            return f"{count / size:#.3g}".rstrip(".") + unit
    return str(count)


def _stage_lines(stage: StagePreview) -> Iterator[str]:
    claims = {row.path: row.claimed_by for row in stage.layers if row.claimed_by}
    for line in rule_lines(claims, {row.path: row.rate for row in stage.layers if row.rate is not None}):
        yield from wrap(line, indent=2, hanging=2)
    facts = [
        ("parameters", f"{stage.trainable_parameters:,} trained, {stage.frozen_parameters:,} frozen"),
        ("multiply-adds", f"{show_count(stage.multiply_adds)} a photo forward"),
        ("counted", COUNTED),
        *(("not counted", shorten(name, 60, keep="middle")) for name in stage.not_counted),
    ]
    if not stage.boundary:
        yield from table([*facts, ("cut", "none: the whole network is computed at every draw")], indent=2)
        return
    names = shorten(", ".join(stage.boundary), 30, keep="middle")
    facts += [
        ("cut", f"after {names}: {counted(len(stage.layers_before_cut), 'layer')} before it (marked |)"),
        ("before it", f"{100 * stage.share_before_cut:.1f} % of the multiply-adds of a forward pass"),
        ("features", f"{stage.bytes_per_photo:,} bytes a photo; cache.mode {stage.mode}"),
    ]
    yield from table(facts, indent=2)
    sizes = [(_what(one), show_bytes(one.count * one.photos * stage.bytes_per_photo)) for one in stage.entries]
    yield from table(sizes, right=(1,), indent=4)


def _what(entries: Entries) -> str:
    if entries.views:
        return f"{entries.views} views of {entries.photos} {entries.split} photos"
    return f"{entries.photos} {entries.split} photos"


def _cache_lines(preview: Preview) -> Iterator[str]:
    yield f"cache  {show_bytes(preview.cache_bytes)} in {shorten(preview.cache_folder, 55, keep='middle')}"
    yield f"       {show_bytes(preview.free_bytes)} free there; kept below {show_bytes(preview.cache_bound_bytes)}"
    if preview.cache_bytes > min(preview.free_bytes, preview.cache_bound_bytes):
        yield "       NOT ENOUGH ROOM: lower cache.views, set cache.mode: exact, or free space"


def _time_lines(estimate: Estimate) -> Iterator[str]:
    yield f"time   about {show_duration(estimate.total_s)} from an empty cache, at the speed this machine has now:"
    rows = (
        ("start", estimate.start_s),
        ("features of the prefix", estimate.extraction_s),
        ("training", estimate.training_s),
        ("evaluation and saving", estimate.evaluation_s),
    )
    yield from table([(what, show_duration(seconds)) for what, seconds in rows], right=(1,), indent=7)
