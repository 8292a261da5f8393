"""`finetunekit data split`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from finetunekit.cli.common import json_option, make_progress, print_json, print_lines, print_table
from finetunekit.system.files import to_json

if TYPE_CHECKING:
    from finetunekit.data.split_table import Split

#: Words that YAML takes for something else than a text.
_NO_TEXT = frozenset({"null", "true", "false", ".inf", ".nan"})


def _part(ctx: click.Context, param: click.Parameter, value: str) -> float | int:
    """A part below 1, or a whole number."""
    try:
        number = float(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is not a number.", ctx, param) from exc
    if not 0 <= number < 1 and not (number >= 1 and number.is_integer()):
        raise click.BadParameter(f"{value}: give a part from 0 to 1, or a whole number of photos.", ctx, param)
    return number if number < 1 else int(number)


@click.command("split")
@click.argument("photos", metavar="DIR|TABLE|ARCHIVE|RUN|PRESET")
@click.option("--out", type=click.Path(path_type=Path), default="splits.csv", show_default=True, help="Table to write.")
@click.option(
    "--valid",
    callback=_part,
    default="0.2",
    metavar="NUMBER",
    show_default=True,
    help="Fraction of each class, or number of photos per class.",
)
@click.option("--test", callback=_part, default="0.2", metavar="NUMBER", show_default=True, help="Likewise.")
@click.option(
    "--folds", type=click.IntRange(3, 100), metavar="K", help="Write K folds instead of train, valid and test."
)
@click.option("--by", type=click.Choice(["class", "hash"]), default="class", show_default=True,
              help="class: exact fractions of each class; hash: adding photos later moves no other photo.")  # fmt: skip
@click.option("--group-by", metavar="REGEX", help="Photos with the same match in their path stay together.")
@click.option(
    "--clusters", type=click.Path(path_type=Path), metavar="TABLE", help="Table of clusters that stay together."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Seed of the split.")
@click.option(
    "--source", metavar="NAME", help="Data source that lists the photos; the default depends on the argument."
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the source. Repeatable.")
@click.option("--replace", is_flag=True, help="Overwrite a table with different content.")
@json_option
def split(
    *,
    photos: str,
    out: Path,
    valid: float,
    test: float,
    folds: int | None,
    by: Literal["class", "hash"],
    group_by: str | None,
    clusters: Path | None,
    seed: int,
    source: str | None,
    options: tuple[str, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Split photos and write the result to a table; no photo is copied or moved.

    Groups stay together: those of a table's group column, of --group-by, of --clusters, and copies of one file. Use
    the table with
    data: {source: table, root: splits.csv}.
    """
    from finetunekit.data.known_photos import open_known_photos
    from finetunekit.data.profile.photo_set import open_photo_set
    from finetunekit.data.split_table import SplitRequest, make_split, write_split

    progress = make_progress()
    chosen = open_photo_set(photos, source=source, options=options, progress=progress)
    with open_known_photos(progress.say) as known:
        found = make_split(
            chosen.listing,
            SplitRequest(by, valid, test, folds, seed, group_by, clusters),
            max_pixels=chosen.max_pixels,
            known=known,
            progress=progress.counter("reading photos"),
        )
    base = write_split(found, out, chosen.listing.root, is_replacing=replace)
    data = {"source": "table", "root": str(out), "options": _options(base, folds)}
    if as_json:
        groups = len({group for group in found.groups if group is not None})
        print_json({"path": out, "counts": found.counts(), "groups": groups, "notes": found.notes,
                    "warnings": found.warnings, "data": data})  # fmt: skip
        return
    print_lines((f"note: {line}" for line in found.notes), file=sys.stderr)
    _print(found, data)


def _options(base: Path | None, folds: int | None) -> dict[str, Any]:
    return {**({"photos": str(base)} if base else {}), **({"test_fold": 1} if folds else {})}


def _print(found: Split, data: dict[str, Any]) -> None:
    counts = found.counts()
    header = ("class", *(f"fold {name}" if name.isdigit() else name for name in found.names), "all")
    rows: list[tuple[object, ...]] = [(c, *parts.values(), sum(parts.values())) for c, parts in counts.items()]
    rows.append(("all", *(found.parts.count(name) for name in found.names), len(found.parts)))
    print_table(rows, header, right=range(1, len(header)))
    print_lines([*(f"warning: {line}" for line in found.warnings), f"data: {flow(data)}", data["root"]])


def flow(value: Any) -> str:
    """Plain values as one line of YAML; texts that need it in quotes, as JSON, which is YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items() if inner != {}) + "}"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_./][\w./-]*", value) and value.lower() not in _NO_TEXT:
        return value
    return to_json(value).rstrip("\n")
