"""The cache of features: content-keyed, checked, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from finetunekit.models.feature_cache import Extractor, FeatureCache, features_key
from finetunekit.models.feature_files import META
from finetunekit.models.frozen_prefix import Cut


def make(folder: Path, max_bytes: int = 1 << 30) -> tuple[FeatureCache, list[str]]:
    said: list[str] = []
    return FeatureCache(folder, max_bytes, said.append), said


def arrays(dtype: object = np.float32) -> list[np.ndarray]:
    return [np.arange(24, dtype=np.float32).reshape(4, 3, 2).astype(dtype), np.ones((4, 5), np.float32)]


def put(cache: FeatureCache, key: str = "k", dtype: object = np.float32) -> tuple[np.ndarray, ...]:
    first, second = arrays(dtype)
    return cache.put(key, iter([(first[:3], second[:3]), (first[3:], second[3:])]), 4, "a note")


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_what_is_put_is_got_bit_for_bit(tmp_path: Path, dtype: object) -> None:
    cache, said = make(tmp_path)
    put(cache, dtype=dtype)
    for got, expected in zip(cache.get("k") or (), arrays(dtype), strict=True):
        assert got.dtype == expected.dtype
        assert np.array_equal(got, expected)
    assert said == []


def test_a_flipped_byte_is_found_said_and_made_again(tmp_path: Path) -> None:
    cache, said = make(tmp_path)
    put(cache)
    path = tmp_path / "k" / "0.bin"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert cache.get("k") is None
    assert "entry k is damaged (0.bin does not match its checksum)" in said[0]
    put(cache)
    assert cache.get("k") is not None


DESCRIBED = '{"photos": 4, "note": "n", "tensors": [%s]}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[" * 100_000,
        "\udcff",
        DESCRIBED % "null",
        DESCRIBED % '{"shape": [4, 3, 2], "dtype": "O", "crc32": 0}',
        DESCRIBED % '{"shape": [1e999, 1], "dtype": "float32", "crc32": 0}',
        DESCRIBED % '{"shape": [-4, -6], "dtype": "float32", "crc32": 0}',
        '{"photos": "4", "note": "n"}',
        " " * (2 << 20),
    ],
)
def test_a_damaged_description_is_found_and_listed_nowhere(tmp_path: Path, text: str) -> None:
    cache, said = make(tmp_path)
    put(cache)
    (tmp_path / "k" / META).write_bytes(text.encode(errors="surrogateescape"))
    assert len(cache.entries()) <= 1
    assert cache.get("k") is None
    assert "entry k is damaged" in said[0]
    put(cache)
    assert cache.get("k") is not None


def test_a_truncated_or_half_deleted_entry_is_found(tmp_path: Path) -> None:
    cache, said = make(tmp_path)
    put(cache, "cut")
    put(cache, "lost")
    os.truncate(tmp_path / "cut" / "0.bin", 5)
    (tmp_path / "lost" / "1.bin").unlink()
    assert cache.get("cut") is None
    assert cache.get("lost") is None
    assert len(said) == 2


def test_an_extraction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache, _ = make(tmp_path)

    def batches():  # noqa: ANN202
        yield (np.ones((2, 3), np.float32),)
        raise ValueError("no photo")

    with pytest.raises(ValueError, match="no photo"):
        cache.put("k", batches(), 4, "")
    assert cache.get("k") is None
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_entries_make_room_but_not_those_in_use(tmp_path: Path) -> None:
    cache, _ = make(tmp_path)
    put(cache)
    size = cache.entries()[0].size_bytes
    cache.clear()
    for number, key in enumerate(("older", "old")):
        put(make(tmp_path)[0], key)  # a cache of its own, which lets go of the entry at once
        os.utime(tmp_path / key / "meta.json", (number, number))
    cache, _ = make(tmp_path, max_bytes=2 * size)
    put(cache, "new")
    assert {entry.key for entry in cache.entries()} == {"old", "new"}
    put(cache, "newer")
    assert {entry.key for entry in cache.entries()} == {"new", "newer"}
    put(cache, "newest")
    assert {entry.key for entry in cache.entries()} == {"new", "newer", "newest"}


def test_entries_and_clear(tmp_path: Path) -> None:
    cache, _ = make(tmp_path)
    put(cache)
    (entry,) = cache.entries()
    assert (entry.photos, entry.note) == (4, "a note")
    assert cache.clear() == entry.size_bytes
    assert cache.entries() == []


def test_keys_follow_every_part() -> None:
    keys = {features_key(parts) for parts in (["a", 1], ["a", 2], ["b", 1], ["a", [1]], ["a", 1, None])}
    assert len(keys) == 5


def test_an_entry_s_signature_follows_layers_and_weights_and_nothing_of_the_process() -> None:
    import keras

    from finetunekit.models.feature_cache import prefix_signature
    from finetunekit.models.frozen_prefix import find_cut

    def signature(activation: str, seed: int) -> object:
        keras.utils.set_random_seed(seed)
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 3, activation=activation, name="a")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(2, name="b")(keras.layers.Flatten(name="flat")(x * 2.0)))
        model.get_layer("a").trainable = False
        cut = find_cut(model)
        assert cut is not None
        assert cut.boundary[0].startswith("flat")
        return prefix_signature(cut, [8], "float32")

    assert signature("relu", 0) == signature("relu", 0)
    assert signature("relu", 0) != signature("tanh", 0)
    assert signature("relu", 0) != signature("relu", 1)


def test_any_number_of_entries_is_made_by_one_graph() -> None:
    import keras

    traced: list[object] = []

    class Noticed(keras.layers.Layer):
        def call(self, x: object) -> object:
            traced.append(x)
            return 2 * x

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, Noticed()(inputs))
    extractor = Extractor(Cut(prefix=model, suffix=model, boundary=("noticed",), prefix_layers=("noticed",)))
    before = len(traced)
    pixels = np.random.default_rng(0).random((20, 8, 8, 3), dtype=np.float32)
    entries = [list(extractor(iter([pixels[:16], pixels[16:]]))) for _ in range(3)]
    assert len(traced) == before + 1
    for entry in entries:
        assert [len(part[0]) for part in entry] == [16, 4]
        assert np.array_equal(np.concatenate([part[0] for part in entry]), 2 * pixels)


@pytest.mark.parametrize("name", ["meta.json", "0.bin", "1.bin"])
@pytest.mark.parametrize("where", [0.0, 0.2, 0.4, 0.6, 0.8, 0.99])
def test_an_entry_with_a_flipped_byte_is_right_or_made_again(tmp_path: Path, name: str, where: float) -> None:
    cache, said = make(tmp_path)
    wanted = [array.copy() for array in put(cache)]
    path = tmp_path / "k" / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 0x55
    path.write_bytes(data)
    cache.entries()  # a listing survives it
    found = cache.get("k")
    if found is None:
        assert "is damaged" in said[-1]
        found = put(cache)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(found, wanted, strict=True))


def test_where_the_cache_cannot_be_written_features_stay_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache, said = make(tmp_path / "file" / "features")
    first, second = put(cache)
    assert (first.shape[0], second.shape[0]) == (4, 4)
    assert "are kept in memory for this run" in said[0]


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the file size is POSIX")
def test_a_disk_that_fills_up_in_the_middle_costs_nothing_but_the_entry(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys, numpy as np\nfrom pathlib import Path\nfrom finetunekit.models.feature_cache import FeatureCache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "parts = [np.random.default_rng(i).random((5, 100)).astype('f4') for i in range(10)]\nsaid = []\n"
        "cache = FeatureCache(Path(sys.argv[1]), 1 << 30, said.append)\n"
        "(found,) = cache.put('k', ((part,) for part in parts), 50, '')\n"
        "assert np.array_equal(found, np.concatenate(parts)), 'features'\nassert 'in memory' in said[0], said\n"
        "assert list(Path(sys.argv[1]).iterdir()) == [], 'left behind'\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_entry_that_another_process_uses_is_not_evicted(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom finetunekit.models.feature_cache import FeatureCache\n"
        "cache = FeatureCache(Path(sys.argv[1]), 1 << 30, print)\nassert cache.get('old') is not None\n"
        "print('holding', flush=True)\nsys.stdin.read()\n"
    )
    for number, key in enumerate(("old", "older")):
        put(make(tmp_path)[0], key)
        os.utime(tmp_path / key / "meta.json", (9 - number, 9 - number))
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holding\n"
        os.utime(tmp_path / "old" / "meta.json", (1, 1))
        put(make(tmp_path, max_bytes=1)[0], "new")
        assert {entry.key for entry in make(tmp_path)[0].entries()} == {"old", "new"}
        other.communicate("")
    put(make(tmp_path, max_bytes=1)[0], "newer")
    assert {entry.key for entry in make(tmp_path)[0].entries()} == {"newer"}
