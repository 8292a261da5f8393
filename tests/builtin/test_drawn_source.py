from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from finetunekit_builtin import drawn
from finetunekit_builtin.drawn import DrawnOptions, build_drawn

from finetunekit import DataError, PhotoListing, SourceContext
from finetunekit.data.index import build_index

TINY = DrawnOptions(per_class_train=2, per_class_valid=1, per_class_test=1, size_px=16)


def listed(cache: Path, options: DrawnOptions = TINY, said: list[str] | None = None) -> PhotoListing:
    say = print if said is None else said.append
    return build_drawn(options, SourceContext(root=None, cache_dir=cache, seed=3, say=say))


def contents(listing: PhotoListing) -> dict[str, bytes]:
    return {str(photo.path.relative_to(listing.root)): photo.path.read_bytes() for photo in listing.photos}


def test_it_draws_four_balanced_classes_and_says_they_are_no_photos(tmp_path: Path) -> None:
    index = build_index(listed(tmp_path), max_pixels=10_000)
    assert index.classes == ("cat", "lion", "lynx", "tiger")
    assert index.stand_in == "drawn cats, lions, lynxes and tigers, not photos: a stand-in"
    assert [len(index.split(split)) for split in ("train", "valid", "test", "display")] == [8, 4, 4, 4]
    assert not any(photo.label for photo in index.split("display"))
    assert {(photo.width_px, photo.height_px) for photo in index.photos} == {(16, 16)}
    assert (
        len({photo.sha256 for photo in index.photos}) == 16
    )  # display shows the test pictures, no other two are alike


def test_the_defaults_are_the_sizes_of_the_experiment() -> None:
    sizes = DrawnOptions()
    assert (sizes.per_class_train, sizes.per_class_valid, sizes.per_class_test, sizes.size_px) == (150, 50, 40, 75)


def test_it_is_drawn_once_and_then_reused(tmp_path: Path) -> None:
    said: list[str] = []
    first = listed(tmp_path, said=said)
    times = {photo.path: photo.path.stat().st_mtime_ns for photo in first.photos}
    again = listed(tmp_path, said=said)
    assert again == first
    assert {photo.path: photo.path.stat().st_mtime_ns for photo in again.photos} == times
    assert len(said) == 1
    assert said[0].startswith("drawing 4 pictures of each class into ")
    assert first.root.parent == tmp_path / "drawn"
    assert [path.name for path in first.root.parent.iterdir()] == [first.root.name]  # no scratch folder is left


def test_other_options_are_other_pictures_in_another_folder(tmp_path: Path) -> None:
    first = listed(tmp_path)
    other = listed(tmp_path, TINY.model_copy(update={"draw_seed": 1}))
    assert other.root != first.root
    pairs = [(content, contents(other)[name]) for name, content in contents(first).items() if name.startswith("train")]
    assert len(pairs) == 8
    assert all(one != two for one, two in pairs)


def test_the_runs_seed_does_not_change_the_pictures(tmp_path: Path) -> None:
    context = SourceContext(root=tmp_path / "not looked at", cache_dir=tmp_path, seed=99, say=print)
    assert build_drawn(TINY, context) == listed(tmp_path)


@pytest.mark.parametrize("damage", ["picture", "marker", "garbled"])
def test_a_damaged_copy_is_drawn_anew(tmp_path: Path, damage: str) -> None:
    first = listed(tmp_path)
    wanted = contents(first)
    if damage == "picture":
        first.photos[0].path.unlink()
    elif damage == "marker":
        (first.root / drawn.MARKER).unlink()
    else:
        (first.root / drawn.MARKER).write_text("{")
    assert contents(listed(tmp_path)) == wanted
    assert [path.name for path in first.root.parent.iterdir()] == [first.root.name]


def test_a_copy_that_stopped_half_way_is_not_taken_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt("by the user")

    with monkeypatch.context() as patch:
        patch.setattr(drawn, "_put_in_place", stop)
        with pytest.raises(KeyboardInterrupt, match="by the user"):
            listed(tmp_path)
    assert list((tmp_path / "drawn").iterdir()) == []
    assert len(listed(tmp_path).photos) == 20


def test_processes_that_draw_at_once_agree(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from finetunekit import SourceContext\n"
        "from finetunekit_builtin.drawn import DrawnOptions, build_drawn\n"
        "options = DrawnOptions(per_class_train=2, per_class_valid=1, per_class_test=1, size_px=16)\n"
        "context = SourceContext(root=None, cache_dir=pathlib.Path(sys.argv[1]), seed=0, say=lambda line: None)\n"
        "print(len(build_drawn(options, context).photos))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    assert [process.communicate()[0].strip() for process in running] == ["20"] * 3
    assert [process.returncode for process in running] == [0] * 3
    (folder,) = (tmp_path / "drawn").iterdir()
    assert json.loads((folder / drawn.MARKER).read_text())["pictures"] == len(drawn._pictures(folder))


def test_the_first_to_finish_wins(tmp_path: Path) -> None:
    finished = listed(tmp_path)
    wanted = contents(finished)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    drawn._put_in_place(scratch, finished.root)
    assert contents(finished) == wanted
    assert scratch.is_dir()


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "drawn").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="the drawn pictures cannot be written there") as caught:
        listed(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_classes_look_different_from_each_other(tmp_path: Path) -> None:
    from finetunekit.data.decode import decode_photo

    listing = listed(tmp_path, DrawnOptions(per_class_train=8, per_class_valid=1, per_class_test=1, size_px=24))
    train = [photo for photo in listing.photos if photo.split == "train"]
    assert Counter(photo.label for photo in train) == dict.fromkeys(("cat", "lion", "lynx", "tiger"), 8)
    pixels = np.stack([decode_photo(photo.path, max_pixels=10_000) for photo in train]).astype(float)
    assert pixels.std(axis=(1, 2, 3)).min() > 5  # none is a blank sheet
    means = np.stack([pixels[n : n + 8].mean(axis=0) for n in range(0, 32, 8)])
    assert min(np.abs(means[a] - means[b]).mean() for a in range(4) for b in range(a)) > 2
