"""Photos at an address: listed, read and named as files are; what goes wrong is one line."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TESTS

from finetunekit.data.remote_photos import find_remote_photos, read_remote_photo
from finetunekit.errors import ConfigError, DataError, RunFolderError
from finetunekit.evaluation.shards.drive import Making, Written, make_here, write_shards
from finetunekit.evaluation.shards.jobs import features_job
from finetunekit.evaluation.shards.photos import labelled_photos
from finetunekit.experiments.feature_ranking import rank_features
from finetunekit.system.progress import Progress
from finetunekit.system.shard_folder import ShardRecord

parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")
pytestmark = pytest.mark.usefixtures("own_cache")
QUIET = Progress(is_quiet=True)
TINY_NETWORK = (f"plugins=[{TESTS / 'tiny_plugin.py'}]", "weights.mode=random", "pixels.size_px=8")


@pytest.fixture
def memory() -> Iterator[Any]:
    """A storage of fsspec's that lives in this process."""
    storage = fsspec.filesystem("memory")
    yield storage
    for folder in ("/photos", "/out"):
        if storage.exists(folder):
            storage.rm(folder, recursive=True)


def upload(storage: Any, photos: Path, root: str) -> None:
    for path in sorted(photos.rglob("*.png")):
        storage.pipe_file(f"{root}/{path.relative_to(photos).as_posix()}", path.read_bytes())
    storage.pipe_file(f"{root}/train/notes.txt", b"no photo")
    storage.pipe_file(f"{root}/.hidden/a.png", b"hidden")
    storage.pipe_file(f"{root}/train/red/broken.png", (photos / "train/red/red-0.png").read_bytes()[:60])


def rows(data: str, out: Path) -> list[dict[str, Any]]:
    photos = labelled_photos(data, (), QUIET, is_unlabelled=True)
    job = features_job("tiny", settings=TINY_NETWORK, dtype="float32")
    write_shards(job, photos, out, QUIET, shard_photos=10)
    found: list[dict[str, Any]] = []
    for file in sorted((out / "rows").iterdir()):
        found += parquet.read_table(file).to_pylist()
    return found


def compare(storage_url: str, photos: Path, out: Path) -> None:
    far, near = rows(storage_url, out / "far"), rows(str(photos), out / "near")
    assert [row["path"].removeprefix(storage_url) for row in far] == [
        row["path"].removeprefix(str(photos)) for row in near
    ]
    assert [(row["sha256"], row["features"]) for row in far] == [(row["sha256"], row["features"]) for row in near]
    (bad,) = (row for file in (out / "far/unreadable").iterdir() for row in parquet.read_table(file).to_pylist())
    assert bad["path"] == f"{storage_url}/train/red/broken.png"
    assert bad["reason"].startswith("the file is truncated")


def test_photos_at_an_address_give_the_rows_of_files(memory: Any, photos: Path, tmp_path: Path) -> None:
    upload(memory, photos, "/photos")
    assert find_remote_photos("memory://photos")[1] == ["2 files are not photos"]
    compare("memory://photos", photos, tmp_path)


def test_what_cannot_be_reached_is_one_line(memory: Any, photos: Path) -> None:
    upload(memory, photos, "/photos")
    with pytest.raises(DataError, match=r"memory://photos/none: no photos there. Check the address"):
        find_remote_photos("memory://photos/none")
    with pytest.raises(DataError, match=r"memory://photos/gone.png: no such file. Check the address."):
        read_remote_photo("memory://photos/gone.png", most_bytes=10)
    with pytest.raises(DataError, match=r"nowhere://a: is no address of storage that is known"):
        find_remote_photos("nowhere://a")
    with pytest.raises(ConfigError, match=r"an address with a password is refused"):
        find_remote_photos("https://me:secret@host/photos")
    assert len(read_remote_photo("memory://photos/train/red/red-0.png", most_bytes=10)) == 11


def write(photos: Path, out: Path | str) -> Written:
    listed = labelled_photos(str(photos), (), QUIET, is_unlabelled=True)
    return write_shards(
        features_job("tiny", settings=TINY_NETWORK, dtype="float32"), listed, out, QUIET, shard_photos=10
    )


def fetched(storage: Any, root: str) -> dict[str, bytes]:
    storage.invalidate_cache()
    return {name.partition(root)[2]: storage.cat_file(name) for name in storage.find(root)}


def check_written_there(storage: Any, root: str, url: str, photos: Path, tmp_path: Path) -> None:
    """Shards at an address have the bytes of those in a folder, also when one was damaged and one has no record."""
    whole = write(photos, tmp_path / "here")
    assert write(photos, url) == dataclasses.replace(whole, folder=url)
    here = {f"/{file.relative_to(tmp_path / 'here')}": file.read_bytes() for file in (tmp_path / "here").rglob("*.*")}
    del here["/.finetunekit-lock"]
    assert fetched(storage, root) == here
    assert len(here) == 5
    records = here["/shards.jsonl"].splitlines(keepends=True)
    storage.pipe_file(f"{root}/shards.jsonl", b"".join(records[:2]))
    storage.pipe_file(f"{root}/rows/part-00000.parquet", b"damaged")
    assert write(photos, url).made == 2
    assert fetched(storage, root) == here
    assert not list((tmp_path / "cache/to-buckets").rglob("*.[pj]*"))
    with pytest.raises(ConfigError, match=rf"{url}: was started differently \(shard_photos"):
        write_shards(
            features_job("tiny", settings=TINY_NETWORK, dtype="float32"),
            labelled_photos(str(photos), (), QUIET, is_unlabelled=True),
            url,
            QUIET,
            shard_photos=20,
        )


def test_shards_at_an_address_are_those_of_a_folder(memory: Any, photos: Path, tmp_path: Path) -> None:
    check_written_there(memory, "/out", "memory://out", photos, tmp_path)
    memory.pipe_file("/photos/own/file.txt", b"something else")
    with pytest.raises(ConfigError, match="memory://photos/own: is not empty and holds no shards"):
        write(photos, "memory://photos/own")


def test_what_was_made_before_a_stop_is_recorded_there(memory: Any, photos: Path) -> None:
    def stop(making: Making) -> Iterator[ShardRecord]:
        yield next(make_here(making))
        raise KeyboardInterrupt

    listed = labelled_photos(str(photos), (), QUIET, is_unlabelled=True)
    job = features_job("tiny", settings=TINY_NETWORK, dtype="float32")
    with pytest.raises(KeyboardInterrupt):
        write_shards(job, listed, "memory://out", QUIET, shard_photos=10, make=stop)
    assert len(memory.cat_file("/out/shards.jsonl").splitlines()) == 1
    assert write(photos, "memory://out").made == 2


def check_probed_there(storage: Any, root: str, url: str, here: Path) -> None:
    """A probe on shards at an address is that on the same shards in a folder; what is wrong with them is one line."""
    said = io.StringIO()
    found = rank_features([url, str(here)], Progress(said), folds=2)
    assert "reading 3 shards of " + url + " over the network, " in said.getvalue()
    assert found.ranked[0].score == found.ranked[1].score
    storage.pipe_file(f"{root}/rows/part-00001.parquet", b"damaged")
    with pytest.raises(DataError, match=rf"{url}/rows/part-00001.parquet: is damaged \(it does not match its"):
        rank_features([url], QUIET)
    storage.rm(f"{root}/rows/part-00001.parquet")
    with pytest.raises(DataError, match=rf"{url}/rows/part-00001.parquet: is damaged \(.*no such file"):
        rank_features([url], QUIET)
    with pytest.raises(ConfigError, match=rf"{url}/none: holds no features. Make some"):
        rank_features([f"{url}/none"], QUIET)


def test_features_at_an_address_are_probed_as_those_in_a_folder(memory: Any, photos: Path, tmp_path: Path) -> None:
    labelled = labelled_photos(str(photos), (), QUIET, is_unlabelled=False)
    write_shards(
        features_job("tiny", settings=TINY_NETWORK, dtype="float16"), labelled, tmp_path / "f", QUIET, shard_photos=10
    )
    memory.put(str(tmp_path / "f"), "/out", recursive=True)
    check_probed_there(memory, "/out", "memory://out", tmp_path / "f")


@pytest.mark.slow
def test_a_bucket_is_read_over_http(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the client of S3, from a server on loopback."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        storage = fsspec.filesystem("s3")
        storage.mkdir("bucket")
        upload(storage, photos, "bucket/photos")
        compare("s3://bucket/photos", photos, tmp_path)
        check_written_there(storage, "bucket/out", "s3://bucket/out", photos, tmp_path)
        storage.rm("bucket/out", recursive=True)
        labelled = labelled_photos(str(photos), (), QUIET, is_unlabelled=False)
        for out in ("s3://bucket/out", tmp_path / "labelled"):
            write_shards(
                features_job("tiny", settings=TINY_NETWORK, dtype="float16"), labelled, out, QUIET, shard_photos=10
            )
        check_probed_there(storage, "bucket/out", "s3://bucket/out", tmp_path / "labelled")
        with pytest.raises(RunFolderError, match=r"s3://none/out: cannot be "):
            write(photos, "s3://none/out")
        with pytest.raises(DataError, match=r"s3://none/photos: "):
            find_remote_photos("s3://none/photos")
    finally:
        server.stop()
