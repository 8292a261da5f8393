"""What a command means by PHOTOS: a folder, a table or an archive of them, those that a run used, or a preset's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from finetunekit.config.own_photos import check_photos, means_photos, photo_root, source_of
from finetunekit.config.pixel_contract import contract_from, contract_of
from finetunekit.config.plan import Chosen
from finetunekit.config.planning import prepare
from finetunekit.config.sections import DataSection
from finetunekit.config.validation_errors import describe_problems
from finetunekit.config.yaml_source import parse_yaml, plain
from finetunekit.data.listing import ask_source, list_photos
from finetunekit.errors import ConfigError, DataError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.runs.folder import CONFIG, PHOTOS, FinishedRun
from finetunekit.system.progress import Progress
from finetunekit.system.user_dirs import cache_dir, expand_home
from finetunekit.types import PhotoListing, PhotoRecord, PixelContract, SourceContext

#: Pixels as fractions, for a folder that no preset says anything about.
PLAIN = PixelContract(scale=1 / 255)
#: What a preset would say where it says nothing.
_DATA = DataSection()


@dataclass(frozen=True, slots=True)
class PhotoSet:
    """Photos, listed and not opened.

    Attributes:
        name: What the user called it, or its folder.
        listing: The photos.
        max_pixels: A photo whose header claims more is refused.
        contract: How they would be fed.
        contract_name: In words.
        sha256: Shown path → checksum, as a run recorded it; empty where no run did.
    """

    name: str
    listing: PhotoListing
    max_pixels: int
    contract: PixelContract
    contract_name: str
    sha256: dict[Path, str]


def open_photo_set(
    argument: str,
    *,
    settings: Sequence[str] = (),
    source: str | None = None,
    options: Sequence[str] = (),
    progress: Progress,
) -> PhotoSet:
    """List the photos of a folder, a table, an archive, a run or a preset.

    A preset's name is a preset; `./NAME` is the folder of that name. A folder that `data fetch` made stands for its `images`.

    Args:
        argument: Path of a folder, table, archive or run, preset name, or path of a YAML file.
        settings: `a.b=VALUE` texts, for a preset.
        source: Data source to list a path with; None: by what it is.
        options: `NAME=VALUE` texts, VALUE being YAML: options of that data source.
        progress: Receives warnings.

    Raises:
        ConfigError: If there is no such preset, or it is wrong, or an option is.
        DataError: If the photos cannot be listed.
    """
    path = expand_home(argument)
    is_run = (path / CONFIG).is_file() and (path / PHOTOS).is_file()
    is_preset = source is None and not is_run and not means_photos(argument, load_plugins(progress.say).presets)
    if options and source is None and (is_preset or is_run):
        raise ConfigError("--option: is for a folder, table or archive. A preset's options are in the preset.")
    if is_preset:
        return _of_preset(argument, settings, progress)
    if settings:
        raise DataError(f"{argument}: is not a preset, and --set changes presets. Leave it out.")
    if is_run and source is None:
        return _of_run(path)
    if source is None:
        check_photos(path)
    return _of_path(path, source or source_of(path), options, progress)


def _of_preset(argument: str, settings: Sequence[str], progress: Progress) -> PhotoSet:
    plan, _ = prepare(argument, settings=settings, progress=progress)
    data, pixels = plan.config.data, plan.config.pixels
    listing = list_photos(plan, progress)
    name = plan.spec.title if pixels.contract == "backbone" else pixels.contract
    contract = contract_of(pixels, plan.spec)
    return PhotoSet(plan.config.name, listing, data.max_photo_pixels, contract, f"as {name} is fed", {})


def _of_run(path: Path) -> PhotoSet:
    run = FinishedRun(path)
    pairs = [(run.photo_path(row["path"]), row) for row in run.photos]
    records = tuple(PhotoRecord(photo, row["label"] or None, row["split"]) for photo, row in pairs)
    listing = PhotoListing(records, Path(run.state["photo_root"]), stand_in=run.stand_in)
    max_pixels = int(run.config["data"]["max_photo_pixels"])
    contract = contract_from(run.state["pixels"]) if "pixels" in run.state else PLAIN
    checksums = {photo: row["sha256"] for photo, row in pairs}
    return PhotoSet(path.resolve().name, listing, max_pixels, contract, "as the run fed them", checksums)


def _of_path(path: Path, source: str, options: Sequence[str], progress: Progress) -> PhotoSet:
    """Photos that no preset says anything about: their pixels are told as fractions."""
    root = photo_root(path)
    context = SourceContext(root=root, cache_dir=cache_dir(), seed=0, say=progress.say)
    listing = ask_source(choose_source(source, options, load_plugins(progress.say)), context)
    name = path.stem if path.is_file() else root.resolve().name
    return PhotoSet(name, listing, _DATA.max_photo_pixels, PLAIN, "RGB / 255", {})


def choose_source(source: str, options: Sequence[str], host: PluginHost) -> Chosen:
    """A data source with its options.

    Args:
        source: Its name.
        options: `NAME=VALUE` texts, VALUE being YAML.
        host: Loaded plugins.

    Raises:
        ConfigError: If there is no such source, or an option is wrong.
    """
    registered = host.find("data source", source, "--source")
    try:
        values = registered.options.model_validate_json(json.dumps(dict(map(_option, options))))
    except pydantic.ValidationError as exc:
        raise ConfigError(describe_problems(exc, registered.options, {}, "--option", ())) from exc
    return Chosen("data source", registered, values, ("data",))


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option {text}: needs the form NAME=VALUE.")
    return name.strip(), plain(parse_yaml(value, f"--option {name}"), f"--option {name}")
