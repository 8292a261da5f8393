"""What a command means by DIR, PRESET or RUN: photos of a folder, of a preset's data source, or those that a run used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetunekit.config import DataSection
from finetunekit.engine import prepare
from finetunekit.errors import DataError, PluginError
from finetunekit.folders import cache_dir
from finetunekit.model import blame, call_builder
from finetunekit.pixels import contract_from, contract_of
from finetunekit.plan import Chosen
from finetunekit.plugins import PluginHost, load_plugins
from finetunekit.progress import Progress
from finetunekit.runs import CONFIG, PHOTOS, FinishedRun
from finetunekit.sources import list_photos
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


def open_photo_set(argument: str, *, settings: Sequence[str] = (), progress: Progress) -> PhotoSet:
    """List the photos of a folder, a run or a preset.

    A folder that exists is meant before a preset of the same name. One that `data fetch` made stands for its `images`.

    Args:
        argument: Path of a folder or a run, preset name, or path of a YAML file.
        settings: `a.b=VALUE` texts, for a preset.
        progress: Receives warnings.

    Raises:
        ConfigError: If there is no such preset, or it is wrong.
        DataError: If the photos cannot be listed.
    """
    path = Path(argument).expanduser()
    if not path.is_dir():
        return _of_preset(argument, settings, progress)
    if settings:
        raise DataError(f"{argument}: is a folder, and --set changes presets. Leave it out.")
    if (path / CONFIG).is_file() and (path / PHOTOS).is_file():
        return _of_run(path)
    return _of_folder(path, progress)


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


def _of_folder(path: Path, progress: Progress) -> PhotoSet:
    inner = path / "images"
    root = inner if (path / "ATTRIBUTION.csv").is_file() and inner.is_dir() else path
    listing = _list_folder(load_plugins(progress.say), root, progress)
    return unfed_set(root.resolve().name, listing, _DATA.max_photo_pixels)


def unfed_set(name: str, listing: PhotoListing, max_pixels: int) -> PhotoSet:
    """Photos that no preset says anything about: their pixels are told as fractions."""
    return PhotoSet(name, listing, max_pixels, PLAIN, "RGB / 255", {})


def _list_folder(host: PluginHost, root: Path, progress: Progress) -> PhotoListing:
    registered = host.find("data source", _DATA.source, str(root))
    chosen = Chosen("data source", registered, registered.options(), ("data",))
    context = SourceContext(root=root, cache_dir=cache_dir(), seed=0, say=progress.say)
    listing = call_builder(chosen, context)
    if not isinstance(listing, PhotoListing):
        raise PluginError(f"{blame(chosen)} must return finetunekit.PhotoListing. Received: {listing!r:.200}")
    return listing
