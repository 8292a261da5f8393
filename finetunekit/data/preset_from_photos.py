"""A new preset: another one, pointed at a folder of other classes. Its photos are listed and counted, not opened."""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetunekit.config.json_schema import preset_schema
from finetunekit.config.own_photos import photo_settings
from finetunekit.config.plan import Plan
from finetunekit.config.planning import prepare
from finetunekit.config.preset import is_path, setting_text
from finetunekit.config.sections import DataSection, RunConfig
from finetunekit.data.index import check_listing
from finetunekit.data.listing import list_photos
from finetunekit.errors import ConfigError, DataError, RunFolderError
from finetunekit.plugins.host import PluginHost
from finetunekit.system.files import to_json, write_whole
from finetunekit.system.progress import Progress
from finetunekit.system.terminal import printable, table
from finetunekit.system.user_dirs import expand_home
from finetunekit.types import DISPLAY, TEST, TRAIN, VALID, PhotoListing

SCHEMA_NAME = "finetunekit.schema.json"
MOST_PASSES = 10
"""Passes over a small folder that one epoch may wrap around: beyond it, the same few photos come too often between validations."""
_CLASSES_NAMED = 8
_CLASSES_COUNTED = 40
#: What a new preset shows as comments, in the order of a run.
_SHOWN = (
    "seed",
    "precision",
    "pixels",
    "backbone",
    "backbones",
    "weights",
    "head",
    "augment",
    "stages",
    "cache",
    "save",
    "reports",
)


@dataclass(frozen=True, slots=True)
class NewPreset:
    """What was written.

    Attributes:
        path: The preset.
        schema: The JSON Schema beside it, which its editor line names.
        counts: Class → split → number of photos.
        notes: What the data source said: photos passed over, a split made by name.
    """

    path: Path
    schema: Path
    counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]

    @property
    def command(self) -> str:
        """What runs it."""
        return _command(self.path)


def write_preset(name: str, base: str, data: Path, out: Path | None = None, *, progress: Progress) -> NewPreset:
    """Write a preset that goes over another one and reads a folder of other classes.

    Args:
        name: Its name; runs are named by it.
        base: Name or path of the preset to go over.
        data: A folder of photos, `train`, `valid` and `test` in it or class folders only; or a table or an archive.
        out: The file; default: `NAME.yaml` in the working directory.
        progress: Receives warnings.

    Returns:
        What was written; nothing is, unless it reaches a plan.

    Raises:
        ConfigError: If the name is not allowed, the file exists, or the base does not reach a plan.
        DataError: If the photos cannot be listed, or are no photos that a run would take: fewer than two classes, a class
            that a split lacks.
        RunFolderError: If the file cannot be written.
    """
    out = check_out(out or Path(f"{check_name(name)}.yaml"))
    settings = [*photo_settings(data), setting_text("name", name)]
    plan, _ = prepare(base, settings=settings, progress=progress)
    listing = list_photos(plan, progress)
    counts = _count(listing)
    if len(counts) < 2:
        raise DataError(f"{data}: photos of {len(counts)} class. A classifier needs two or more.")
    if problems := check_listing(listing):
        raise DataError(problems)
    text = "\n".join(_lines(plan, _relative(base, out), out, data, counts, is_flat=_is_flat(plan, listing))) + "\n"
    host = write_checked(out, text, progress)
    schema = out.with_name(SCHEMA_NAME)
    write_whole(schema, to_json(preset_schema(host)))
    return NewPreset(out, schema, counts, listing.notes)


def check_name(name: str) -> str:
    """A name that runs can have.

    Raises:
        ConfigError: If it is not one.
    """
    rule = RunConfig.model_json_schema()["properties"]["name"]
    if not re.search(rule["pattern"], name) or len(name) > rule["maxLength"]:
        raise ConfigError(
            f"'{name}': a preset's name begins with a letter or digit, goes on with those and . _ - only, and has at most "
            f"{rule['maxLength']} of them."
        )
    return name


def check_out(out: Path) -> Path:
    """The file of a new preset.

    Raises:
        ConfigError: If its ending is another than a preset's, or it exists.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"--out {out}: a preset's file ends in .yaml.")
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: exists and is not overwritten. Choose another name, or another file with --out.")
    return out


def _relative(base: str, out: Path) -> str:
    """`extends:` is relative to the file that says it."""
    if not is_path(base):
        return base
    path = expand_home(base).resolve()
    try:
        relative = Path(os.path.relpath(path, out.resolve().parent)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
    return relative if relative.startswith("../") else f"./{relative}"


def _count(listing: PhotoListing) -> dict[str, dict[str, int]]:
    labels = sorted({photo.label for photo in listing.photos if photo.label is not None and photo.split != DISPLAY})
    counts = {label: dict.fromkeys((TRAIN, VALID, TEST), 0) for label in labels}
    for photo in listing.photos:
        if photo.label is not None and photo.split in counts[labels[0]]:
            counts[photo.label][photo.split] += 1
    return counts


def _is_flat(plan: Plan, listing: PhotoListing) -> bool:
    """Whether class folders lie in the root itself, so that the data source chose the split."""
    if plan.config.data.source != DataSection.model_fields["source"].default:
        return False
    inside = [(photo.label, photo.path.relative_to(listing.root).parts[0]) for photo in listing.photos if photo.label]
    return all(label == top for label, top in inside)


def choose_draws(photos: int, draws: int | None) -> int | None:
    """Draws an epoch for a folder of another size: whole passes, so that each photo comes equally often.

    Args:
        photos: Training photos.
        draws: Draws an epoch of the base preset; None where it draws each photo once.

    Returns:
        As near to `draws` as whole passes come, at most `MOST_PASSES` of them; None for one pass.
    """
    passes = min(max(1, round((draws or photos) / photos)), MOST_PASSES)
    return None if passes == 1 else passes * photos


# ---- the text --------------------------------------------------------------------------------------------------------------------


def _lines(
    plan: Plan, extends: str, out: Path, data: Path, counts: Mapping[str, Mapping[str, int]], *, is_flat: bool
) -> Iterator[str]:
    yield f"# {_command(out)}"
    yield f"# yaml-language-server: $schema={SCHEMA_NAME}"
    yield "#"
    yield f"# {printable(extends)} with other photos. What is not written here comes from there. To see all of it, with defaults:"
    yield f"# {_command(out, 'plan')}"
    yield f"extends: {_flow(extends)}"
    yield f"name: {_flow(plan.config.name)}"
    yield f"description: {_flow(_describe(list(counts), extends))}"
    yield from ("", "# The folder is relative to the working directory. Number of photos when this file was written:")
    yield from (f"#   {line}" for line in _table(counts))
    yield "data:"
    yield f"  source: {_flow(plan.config.data.source)}"
    yield f"  root: {_flow(plan.config.data.root)}"
    if is_flat:
        yield "  # The folder has no train, valid and test folders: each class is split by the names of its photos."
        yield f"  # options: {_flow(plan.data_source.options.model_dump(mode='json'))}"
    yield ""
    yield from _draws(plan, sum(count[TRAIN] for count in counts.values()))
    yield from ("", f"# What {printable(extends)} expects is about its own photos.", "expected: null", "")
    yield f"# To change something, remove the #. These are the values of {printable(extends)}."
    yield from _commented(plan)


def _describe(classes: Sequence[str], extends: str) -> str:
    base = Path(extends).stem if is_path(extends) else extends
    names = ", ".join(map(printable, classes[:_CLASSES_NAMED]))
    more = f" and {len(classes) - _CLASSES_NAMED} more" if len(classes) > _CLASSES_NAMED else ""
    return f"{names}{more}; as {printable(base)}"


def _table(counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    splits = (TRAIN, VALID, TEST)
    rows = [(label, *(count[split] for split in splits)) for label, count in counts.items()]
    yield from table(rows[:_CLASSES_COUNTED], ("class", *splits), right=(1, 2, 3))
    if len(rows) > _CLASSES_COUNTED:
        yield f"and {len(rows) - _CLASSES_COUNTED} classes more"


def _draws(plan: Plan, photos: int) -> Iterator[str]:
    draws = choose_draws(photos, plan.config.train.draws_per_epoch)
    if draws is None:
        yield "# An epoch uses each training photo and each validation photo once."
    else:
        yield f"# An epoch uses each of the {photos} training photos {draws // photos} times, and each validation photo once."
    yield f"train: {{draws_per_epoch: {draws or 'null'}, validation_draws: null}}"


def _commented(plan: Plan) -> Iterator[str]:
    asked = plan.config.model_dump(mode="json", exclude_unset=True)
    for key in _SHOWN:
        value = asked.get(key)
        if key == "pixels" and plan.config.pixels.contract != "backbone":
            yield f"# {plan.spec.title} was pretrained on other pixels than these; `contract: backbone` feeds it those."
        if isinstance(value, list):
            yield f"# {key}:" + ("" if value else " []")
            yield from (f"#   - {_flow(item)}" for item in value)
        elif value is not None:
            yield f"# {key}: {_flow(value)}"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.allow_unicode = True
    yaml.width = 1_000_000
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(value, stream)
    return stream.getvalue().removesuffix("...\n").strip()


def _command(path: Path, verb: str = "run") -> str:
    return f"finetunekit {verb} {shlex.quote(path.as_posix())}"


def write_checked(out: Path, text: str, progress: Progress) -> PluginHost:
    """Plan from a scratch file beside its place, since `extends:` is relative to it; then create the file, never replace one."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = out.with_name(f".{out.stem}-{os.getpid()}.yaml")
        try:
            scratch.write_text(text, encoding="utf-8")
            _, host = prepare(str(scratch), progress=progress)
        finally:
            scratch.unlink(missing_ok=True)
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as exc:
        raise ConfigError(f"{out}: exists and is not overwritten.") from exc
    except OSError as exc:
        raise RunFolderError(f"{out}: cannot be written ({exc.strerror or exc}).") from exc
    return host
