"""What `data split` is pointed at: a folder of photos, a table or an archive of them, a run, a preset."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetunekit.cli.common import load_host
from finetunekit.errors import ConfigError

if TYPE_CHECKING:
    from finetunekit.progress import Progress
    from finetunekit.types import PhotoListing

#: Ending of a file → the data source that lists it.
SOURCES = {
    (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"): "table",
    (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"): "archive",
}
FOLDER_SOURCE = "folders"


def list_argument(
    argument: str, progress: Progress, *, source: str | None = None, options: Sequence[str] = ()
) -> tuple[PhotoListing, int]:
    """The photos that an argument means.

    Args:
        argument: A folder, run, table or archive that exists; else a preset's name or path.
        progress: Receives warnings.
        source: Data source to list it with; None: by what it is.
        options: `NAME=VALUE` texts, VALUE being YAML: options of that data source.

    Returns:
        The listing, and the most pixels that a photo may have.

    Raises:
        ConfigError: If the argument means nothing, or an option is wrong.
        DataError: If the photos cannot be listed.
    """
    from finetunekit.config import DataSection
    from finetunekit.engine import prepare
    from finetunekit.sources import list_photos

    path = Path(argument).expanduser()
    is_data = path.is_dir() or (path.exists() and path.suffix not in (".yaml", ".yml"))
    if is_data or source is not None:
        limit: int = DataSection.model_fields["max_photo_pixels"].default
        return _list(path, source or _source_of(path), options, progress), limit
    if options:
        raise ConfigError("--option: is for a folder, table or archive. A preset's options stand in the preset.")
    plan, _ = prepare(argument, progress=progress)
    return list_photos(plan, progress), plan.config.data.max_photo_pixels


def _source_of(path: Path) -> str:
    name = path.name.lower()
    return next(
        (source for endings, source in SOURCES.items() if path.is_file() and name.endswith(endings)), FOLDER_SOURCE
    )


def _list(path: Path, source: str, options: Sequence[str], progress: Progress) -> PhotoListing:
    import pydantic

    from finetunekit.errors import PluginError
    from finetunekit.folders import cache_dir
    from finetunekit.model import blame, call_builder
    from finetunekit.plan import Chosen
    from finetunekit.problems import describe_problems
    from finetunekit.types import PhotoListing, SourceContext

    registered = load_host().find("data source", source, "--source")
    try:
        values = registered.options.model_validate_json(json.dumps(dict(map(_option, options))))
    except pydantic.ValidationError as exc:
        raise ConfigError(describe_problems(exc, registered.options, {}, "--option", ())) from exc
    chosen = Chosen("data source", registered, values, ("data",))
    context = SourceContext(root=path, cache_dir=cache_dir(), seed=0, say=progress.say)
    listing = call_builder(chosen, context)
    if not isinstance(listing, PhotoListing):
        raise PluginError(f"{blame(chosen)} must return finetunekit.PhotoListing. Received: {listing!r:.200}")
    return listing


def _option(text: str) -> tuple[str, Any]:
    from finetunekit.yamls import parse_yaml, plain

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--option {text}: needs the form NAME=VALUE.")
    return name.strip(), plain(parse_yaml(value, f"--option {name}"), f"--option {name}")
