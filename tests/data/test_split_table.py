from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from finetunekit_builtin.table import TableOptions, build_table
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from finetunekit import SourceContext
from finetunekit.cli import main
from finetunekit.data.splitting import (
    assign,
    assign_by_hash,
    count_targets,
    fold_targets,
    merge_groups,
    share_targets,
    split_by_class,
)

pytestmark = pytest.mark.usefixtures("own_cache")


def put(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    """Photos whose content is their own, `root/<class>/<class>-<n>.png`."""
    for label, count in counts.items():
        (root / label).mkdir(parents=True, exist_ok=True)
        for n in range(start, start + count):
            rng = np.random.default_rng([n, *label.encode()])
            Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8)).save(root / label / f"{label}-{n}.png")
    return root


def split(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["data", "split", *map(str, arguments)], catch_exceptions=False)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- the rules -----------------------------------------------------------------------------------------------------------------

LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


@given(LABELS, st.floats(0, 0.49), st.floats(0, 0.49), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_photos_by_themselves_reach_their_targets_exactly(
    labels: list[str], valid: float, test: float, seed: int
) -> None:
    keys = [str(i) for i in range(len(labels))]
    targets = share_targets(labels, valid=valid, test=test)
    counted = Counter(zip(labels, assign(keys, labels, targets, seed=seed), strict=True))
    for label, parts in targets.items():
        assert sum(parts.values()) == labels.count(label)
        assert parts["train"] >= 1
        assert {part: counted[label, part] for part in parts} == parts
        if labels.count(label) >= 3:
            assert (parts["valid"] > 0) == (valid > 0)
            assert (parts["test"] > 0) == (test > 0)


@given(LABELS, st.integers(3, 7))
@settings(max_examples=60, deadline=None)
def test_folds_differ_by_one_photo_at_most(labels: list[str], folds: int) -> None:
    targets = fold_targets(labels, folds)
    for label, parts in targets.items():
        assert sum(parts.values()) == labels.count(label)
        assert max(parts.values()) - min(parts.values()) <= 1
    sizes = [sum(parts[str(fold + 1)] for parts in targets.values()) for fold in range(folds)]
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 25)), min_size=60, max_size=200), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_groups_stay_together_and_parts_come_near(photos: list[tuple[str, int]], seed: int) -> None:
    labels, keys = [label for label, _ in photos], [f"{label}{group}" for label, group in photos]
    parts = split_by_class(keys, labels, valid=0.2, test=0.2, seed=seed)
    assert len(set(zip(keys, parts, strict=True))) == len(set(keys))
    largest = max(Counter(keys).values())
    for label, targets in share_targets(labels, valid=0.2, test=0.2).items():
        for part, target in targets.items():
            count = sum((label, part) == pair for pair in zip(labels, parts, strict=True))
            assert abs(count - target) <= largest


def test_the_order_of_photos_changes_nothing() -> None:
    labels = ["a", "b"] * 20
    keys = [str(i // 2) for i in range(40)]
    forward = dict(zip(keys, split_by_class(keys, labels, valid=0.3, test=0.1, seed=5), strict=True))
    backward = split_by_class(keys[::-1], labels[::-1], valid=0.3, test=0.1, seed=5)
    assert dict(zip(keys[::-1], backward, strict=True)) == forward
    assert dict(zip(keys, split_by_class(keys, labels, valid=0.3, test=0.1, seed=6), strict=True)) != forward


@given(st.sets(st.text(max_size=8), max_size=40), st.sets(st.text(max_size=8), max_size=40))
@settings(max_examples=40, deadline=None)
def test_by_hash_photos_added_later_move_none(before: set[str], added: set[str]) -> None:
    shares = {"test": 0.2, "valid": 0.2, "train": 0.6}
    first = dict(zip(before, assign_by_hash([*before], shares, seed=1), strict=True))
    both = [*(added | before)]
    second = dict(zip(both, assign_by_hash(both, shares, seed=1), strict=True))
    assert {key: second[key] for key in before} == first


def test_by_hash_parts_come_near_their_shares() -> None:
    parts = Counter(assign_by_hash([str(i) for i in range(20_000)], {"test": 0.2, "valid": 0.1, "train": 0.7}, seed=0))
    assert abs(parts["test"] - 4000) < 5 * (20_000 * 0.2 * 0.8) ** 0.5
    assert abs(parts["valid"] - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5


def test_counts_of_each_class_and_classes_too_small_for_them() -> None:
    targets = count_targets(["a"] * 10 + ["b"] * 4, valid=2, test=3)
    assert targets == {"a": {"train": 5, "valid": 2, "test": 3}, "b": {"train": 1, "valid": 0, "test": 3}}


def test_groups_are_merged_along_the_chain() -> None:
    assert merge_groups([["x", "x", None, None, "y"], [None, 1, 1, None, 2]]) == (0, 0, 0, 3, 4)
    assert merge_groups([["a", "b", "c"], ["p", "q", "p"], [None, 7, 7]]) == (0, 0, 0)
    assert merge_groups([]) == ()


# ---- the command ---------------------------------------------------------------------------------------------------------------


def test_a_folder_is_split_and_nothing_is_copied(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 10, "lynx": 20})
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    found = split(root, "--out", tmp_path / "splits.csv")
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines() == [
        "class  train  valid  test  all",
        "cat        6      2     2   10",
        "lynx      12      4     4   20",
        "all       18      6     6   30",
        f"data: {{source: table, root: {tmp_path / 'splits.csv'}}}",
        str(tmp_path / "splits.csv"),
    ]
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    context = SourceContext(root=tmp_path / "splits.csv", cache_dir=tmp_path, seed=0, say=print)
    listing = build_table(TableOptions(), context)
    assert Counter(photo.split for photo in listing.photos) == {"train": 18, "valid": 6, "test": 6}
    assert all(photo.path.parent.name == photo.label for photo in listing.photos)


def test_a_table_elsewhere_names_photos_from_their_root(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 5, "lynx": 5})
    found = json.loads(split(root, "--out", tmp_path / "elsewhere/splits.csv", "--json").stdout)
    assert found["data"]["options"] == {"photos": str(root)}
    assert found["counts"]["cat"] == {"train": 3, "valid": 1, "test": 1}
    context = SourceContext(root=Path(found["path"]), cache_dir=tmp_path, seed=0, say=print)
    assert len(build_table(TableOptions.model_validate(found["data"]["options"]), context).photos) == 10


def test_another_table_is_not_overwritten_and_the_same_one_is(tmp_path: Path) -> None:
    root, out = put(tmp_path / "photos", {"cat": 5, "lynx": 5}), tmp_path / "splits.csv"
    assert split(root, "--out", out).exit_code == split(root, "--out", out).exit_code == 0
    other = split(root, "--out", out, "--seed", "1")
    assert other.exit_code == 2
    assert "already exists with different content. Name another file, or add --replace." in other.stderr
    assert split(root, "--out", out, "--seed", "1", "--replace").exit_code == 0
    assert "Name a file that ends in .csv" in split(root, "--out", tmp_path / "x.parquet").stderr


def test_a_table_is_split_by_its_groups(tmp_path: Path) -> None:
    put(tmp_path, {"cat": 30, "lynx": 30})
    lines = [f"{c}/{c}-{n}.png,{c},{c}{n // 6}" for c in ("cat", "lynx") for n in range(30)]
    (tmp_path / "in.csv").write_text("\n".join(["file,class,group", *lines]), encoding="utf-8")
    found = split(tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert found.exit_code == 0, found.output
    rows = table(tmp_path / "out.csv")
    assert list(rows[0]) == ["file_name", "label", "split", "group"]
    assert len({(row["group"], row["split"]) for row in rows}) == 10
    assert Counter(row["split"] for row in rows) == {"train": 36, "valid": 12, "test": 12}


def test_groups_by_expression_and_clusters_are_merged(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 24, "lynx": 24})
    (tmp_path / "clusters.csv").write_text("file,cluster\ncat/cat-1.png,7\nlynx/lynx-20.png,7\n", encoding="utf-8")
    found = split(
        root, "--out", tmp_path / "out.csv", "--group-by", r"(\w+-\d?)\d\.png", "--clusters", tmp_path / "clusters.csv"
    )
    assert found.exit_code == 0, found.output
    assert "note: 46 of 48 photos in no group, placed one by one" in found.stderr
    split_of = {row["file_name"]: row["split"] for row in table(tmp_path / "out.csv")}
    together = ["cat/cat-0.png", "cat/cat-1.png", "cat/cat-9.png", "lynx/lynx-20.png", "lynx/lynx-23.png"]
    assert len({split_of[f"photos/{name}"] for name in together}) == 1


def test_rules_that_match_nothing_are_errors(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 5, "lynx": 5})
    (tmp_path / "clusters.csv").write_text("file,cluster\nx.png,7\n", encoding="utf-8")
    for arguments, message in (
        (("--group-by", "burst"), "--group-by burst: matches none of 10 photos. The first is cat/cat-0.png."),
        (("--group-by", "("), "is not a regular expression"),
        (("--clusters", tmp_path / "clusters.csv"), "names none of the photos"),
        (("--by", "hash", "--clusters", tmp_path / "clusters.csv"), "clusters change with the photos"),
        (("--by", "hash", "--valid", "0", "--test", "2"), "gives parts, not numbers"),
        (("--valid", "0.6", "--test", "0.4"), "add up to less than 1"),
        (("--valid", "0.2", "--test", "4"), "or two whole numbers of photos of each class"),
        (("--valid", "1.5"), "1.5: give a part from 0 to 1, or a whole number of photos"),
        (("--option", "valid_fraction=2"), "--option: valid_fraction: "),
    ):
        found = split(root, "--out", tmp_path / "out.csv", *arguments)
        assert found.exit_code == 2
        assert message in found.stderr
    assert not (tmp_path / "out.csv").exists()


def test_by_hash_no_photo_moves_when_photos_are_added_renamed_or_leave(tmp_path: Path) -> None:
    root, out = put(tmp_path / "photos", {"cat": 30, "lynx": 30}), tmp_path / "out.csv"
    assert split(root, "--out", out, "--by", "hash").exit_code == 0
    before = {row["file_name"]: row["split"] for row in table(out)}
    put(root, {"cat": 15, "puma": 10}, start=30)
    (root / "lynx/lynx-0.png").rename(root / "lynx/renamed.png")
    (root / "lynx/lynx-1.png").unlink()
    assert split(root, "--out", out, "--by", "hash", "--replace").exit_code == 0
    after = {row["file_name"]: row["split"] for row in table(out)}
    assert after["photos/lynx/renamed.png"] == before["photos/lynx/lynx-0.png"]
    for name in before.keys() & after.keys():
        assert after[name] == before[name]
    assert len(before.keys() & after.keys()) == 58


def test_folds_are_written_and_read(tmp_path: Path) -> None:
    root, out = put(tmp_path / "photos", {"cat": 10, "lynx": 11}), tmp_path / "folds.csv"
    found = split(root, "--out", out, "--folds", "5")
    assert found.stdout.splitlines()[:4] == [
        "class  fold 1  fold 2  fold 3  fold 4  fold 5  all",
        "cat         2       2       2       2       2   10",
        "lynx        3       2       2       2       2   11",
        "all         5       4       4       4       4   21",
    ]
    assert "options: {test_fold: 1}" in found.stdout
    context = SourceContext(root=out, cache_dir=tmp_path, seed=0, say=print)
    tested = [
        {photo.path for photo in build_table(TableOptions(test_fold=fold), context).photos if photo.split == "test"}
        for fold in range(1, 6)
    ]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 21


def test_copies_stay_together_and_contradictions_and_empty_parts_are_said(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 12, "lynx": 12})
    for n in range(6):
        (root / f"cat/copy-{n}.png").write_bytes((root / "cat/cat-0.png").read_bytes())
    (root / "lynx/stray.png").write_bytes((root / "cat/cat-1.png").read_bytes())
    put(root, {"puma": 3})
    for n in (1, 2):
        (root / f"puma/puma-{n}.png").write_bytes((root / "puma/puma-0.png").read_bytes())
    found = split(root, "--out", tmp_path / "out.csv")
    split_of = {Path(row["file_name"]).name: row["split"] for row in table(tmp_path / "out.csv")}
    assert len({split_of[name] for name in ("cat-0.png", *(f"copy-{n}.png" for n in range(6)))}) == 1
    warnings = [line for line in found.stdout.splitlines() if line.startswith("warning")]
    assert len(warnings) == 3
    assert all("class 'puma' (3 photos) has none in" in line for line in warnings[:2])
    assert (
        warnings[2]
        == "warning: photos that are there more than once, with different labels: 1 (finetunekit data audit)"
    )


def test_splits_that_were_there_are_not_used_and_display_photos_left_out(tmp_path: Path, photos: Path) -> None:
    (photos / "display").mkdir()
    (photos / "train/red/red-0.png").rename(photos / "display/x.png")
    found = split(photos, "--out", tmp_path / "out.csv")
    assert "note: left out, display photos or photos without a label: 1" in found.stderr
    rows = table(tmp_path / "out.csv")
    assert len(rows) == 23
    assert any("/train/" in row["file_name"] and row["split"] == "test" for row in rows)


def test_a_preset_an_archive_and_another_source_can_be_split(tmp_path: Path, tiny_yaml: Path, photos: Path) -> None:
    import shutil

    assert split(tiny_yaml, "--out", tmp_path / "a.csv").exit_code == 0
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    found = json.loads(split(packed, "--out", tmp_path / "tables/b.csv", "--json").stdout)
    assert sum(sum(parts.values()) for parts in found["counts"].values()) == 24
    assert Path(found["data"]["options"]["photos"]).is_dir()
    assert split(photos, "--source", "huggingface", "--out", tmp_path / "c.csv").exit_code == 0
    assert "unknown data source 'nothing'" in split(photos, "--source", "nothing", "--out", tmp_path / "d.csv").stderr


def test_names_that_are_no_text_are_written_and_found(tmp_path: Path) -> None:
    root = put(tmp_path / "photos", {"cat": 4, "lynx": 4})
    odd = root / "cat" / os.fsdecode(b'caf\xe9\nx,".png')
    (root / "cat/cat-0.png").rename(odd)
    assert split(root, "--out", tmp_path / "out.csv").exit_code == 0
    context = SourceContext(root=tmp_path / "out.csv", cache_dir=tmp_path, seed=0, say=print)
    assert odd in [photo.path for photo in build_table(TableOptions(), context).photos]
