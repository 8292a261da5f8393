from __future__ import annotations

import importlib.util
import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from finetunekit_builtin.imagefolder import HuggingfaceOptions, build_huggingface
from finetunekit_builtin.table import TableOptions, build_table

from finetunekit import DataError, PhotoListing, SourceContext
from finetunekit.data.index import build_index, check_listing
from finetunekit.data.tables import open_table
from finetunekit.testing import check_data_source, tiny_photos

NAMES = [
    f"{split}-{label}-{n}.jpg" for split in ("train", "val", "test") for label in ("cat", "lynx") for n in range(2)
]


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def rows(header: str = "file_name,label,split", names: list[str] = NAMES) -> str:
    return "\n".join([header, *(f"{name},{name.split('-')[1]},{name.split('-')[0]}" for name in names)]) + "\n"


def listed(table: Path, **options: object) -> PhotoListing:
    context = SourceContext(root=table, cache_dir=Path("unused"), seed=0, say=print)
    return build_table(TableOptions.model_validate(options), context)


def written(root: Path, text: str | bytes, name: str = "photos.csv") -> Path:
    put(root, *NAMES)
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root / name


def places(listing: PhotoListing) -> list[tuple[str, str | None, str]]:
    return [(photo.path.name, photo.label, photo.split) for photo in listing.photos]


EXPECTED = [(name, name.split("-")[1], {"val": "valid"}.get(name.split("-")[0], name.split("-")[0])) for name in NAMES]


def test_a_table_names_files_labels_and_splits(tmp_path: Path) -> None:
    listing = listed(written(tmp_path, rows()))
    assert places(listing) == EXPECTED
    assert (listing.root, listing.notes) == (tmp_path, ())
    assert check_listing(listing) == ()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xef\xbb\xbf" + rows().encode(), id="byte order mark"),
        pytest.param(rows().replace("\n", "\r\n").encode(), id="windows"),
        pytest.param(rows().replace("\n", "\r").encode(), id="old mac"),
        pytest.param(rows().encode("utf-16"), id="utf-16"),
        pytest.param(rows().replace(",", ";").encode(), id="semicolons"),
        pytest.param(rows().replace(",", "\t").encode(), id="tabs"),
        pytest.param(rows().replace("cat,", '"cat",').encode(), id="quoted"),
        pytest.param((rows().replace("\n", "\n\n") + ",,\n").encode(), id="blank lines"),
        pytest.param(rows("File Name,Class,Subset").encode(), id="other names"),
        pytest.param(rows().replace("train-", "./train-").encode(), id="dots"),
    ],
)
def test_csv_as_programs_write_it(tmp_path: Path, text: bytes) -> None:
    assert places(listed(written(tmp_path, text))) == EXPECTED


def test_json_lines_and_parquet_give_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    objects = [dict(zip(("file_name", "label", "split"), place, strict=True)) for place in EXPECTED]
    lines = "\n".join(json.dumps(row) for row in objects)
    assert places(listed(written(tmp_path, lines, "photos.jsonl"))) == EXPECTED
    parquet.write_table(pyarrow.Table.from_pylist(objects), tmp_path / "photos.parquet")
    assert places(listed(tmp_path / "photos.parquet")) == EXPECTED


def test_columns_and_folder_can_be_named(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", *NAMES)
    (tmp_path / "t.csv").write_text(rows("what,kind,fold_or_so"), encoding="utf-8")
    options = {"file_column": "what", "label_column": "kind", "split_column": "fold_or_so"}
    listing = listed(tmp_path / "t.csv", photos=str(tmp_path / "elsewhere"), **options)
    assert places(listing) == EXPECTED
    with pytest.raises(DataError, match=r"no column 'whta'\. Did you mean 'what'"):
        listed(tmp_path / "t.csv", **{**options, "file_column": "whta"})


def test_columns_that_could_be_meant_are_not_guessed(tmp_path: Path) -> None:
    table = written(tmp_path, rows("file_name,label,class"))
    with pytest.raises(DataError, match=r"columns 'label', 'class' could each be the label\. Say which: label_column"):
        listed(table)
    with pytest.raises(DataError, match=r"no file column \(file_name.*among: a, b, c\. Say which it is: file_column"):
        listed(written(tmp_path, rows("a,b,c")))


def test_names_are_shown_and_found_whatever_bytes_they_hold(tmp_path: Path) -> None:
    odd = ["new\nline-cat-1.jpg", os.fsdecode(b"caf\xe9-cat-2.jpg")]
    put(tmp_path, *odd)
    cells = [f'"{name}",cat,train\n'.encode(errors="surrogateescape") for name in odd]
    listing = listed(written(tmp_path, rows().encode() + b"".join(cells)))
    assert [photo.path.name for photo in listing.photos[-2:]] == odd
    bad = rows().encode().replace(b",cat,", b",c\x81t,", 1)  # no letter of Windows-1252 either
    with pytest.raises(
        DataError, match=r"labels that are no plain text \(1\): c\\udc81t \(line 2\)\. Save the table as UTF-8"
    ):
        listed(written(tmp_path, bad))


# ---- rows that cannot be used ----------------------------------------------------------------------------------------------------


def test_every_kind_of_problem_is_counted_and_named_once(tmp_path: Path) -> None:
    text = rows() + "".join(f"gone-{n}.jpg,cat,train\n" for n in range(5))
    text += "../out.jpg,cat,train\n/etc/out.jpg,cat,train\nC:\\out.jpg,cat,train\nhttp://x/y.jpg,cat,train\n"
    text += ",cat,train\ntrain-cat-0.jpg,lynx,train\ntest-cat-0.jpg,cat,train\n"
    put(tmp_path, "more.jpg", "less.jpg", "none.jpg")
    text += "more.jpg,,train\nless.jpg,cat,holdout\nnone.jpg,cat,\n"
    with pytest.raises(DataError, match="file names that lead out") as caught:
        listed(written(tmp_path, text))
    problems = [line.split(": ", 1)[1] for line in caught.value.problems]
    assert len(problems) == 8
    expected = [
        rf"file names that lead out of {tmp_path} (4): ../out.jpg (line 19), /etc/out.jpg (line 20), C:\\out.jpg (line 21) and 1",
        "rows without one file name (1): line 23",
        "photos with more than one label (1): train-cat-0.jpg: cat and lynx (line 24). A photo has one label here",
        "photos in more than one split (1): test-cat-0.jpg: test and train (line 25)",
        "rows without a label (1): more.jpg (line 26)",
        "rows with an unknown split (1): holdout (line 27). Allowed: train, valid, test, display",
        "rows without a split (1): none.jpg (line 28)",
        "5 of 17 files are missing: gone-0.jpg, gone-1.jpg, gone-2.jpg and 2 more. Names are relative to",
    ]
    for problem, begin in zip(problems, expected, strict=True):
        assert problem.startswith(begin)


def test_rows_of_missing_files_can_be_left_out(tmp_path: Path) -> None:
    listing = listed(written(tmp_path, rows() + "gone.jpg,cat,train\n"), skip_missing=True)
    assert places(listing) == EXPECTED
    assert listing.notes == ("rows left out, their files are missing: 1 (gone.jpg)",)


def test_files_outside_have_to_be_allowed(tmp_path: Path) -> None:
    outside = put(tmp_path / "outside", "x.jpg") / "x.jpg"
    table = written(tmp_path / "in", rows() + f"{outside},cat,train\n../outside/./x.jpg,cat,train\n")
    with pytest.raises(DataError, match=r"file names that lead out of .* \(2\): .*allow_outside: true"):
        listed(table)
    listing = listed(table, allow_outside=True)
    assert len(listing.photos) == len(NAMES) + 1
    assert listing.notes == ("rows that repeat another one, taken once: 1",)


@pytest.mark.parametrize("label", ['["cat", "lynx"]', '{"cat": 1}'])
def test_lists_of_labels_are_refused_in_words(tmp_path: Path, label: str) -> None:
    table = written(tmp_path, f'{{"file_name": "{NAMES[0]}", "label": {label}}}', "t.jsonl")
    with pytest.raises(
        DataError, match=r"rows with several labels \(1\): train-cat-0.jpg \(line 1\)\. A photo has one label"
    ):
        listed(table)


@pytest.mark.parametrize("joined", ["cat;lynx", "cat | lynx", "cat+lynx", '"cat, lynx"'])
def test_joined_labels_are_refused_in_words(tmp_path: Path, joined: str) -> None:
    put(tmp_path, "both.jpg")
    with pytest.raises(DataError, match=r"labels that are several \(1\): cat.*A photo has one label here"):
        listed(written(tmp_path, rows() + f"both.jpg,{joined},train\n"))


def test_a_separator_in_a_class_name_is_no_second_label(tmp_path: Path) -> None:
    text = rows().replace(",lynx,", ",cat/dog,")
    assert {photo.label for photo in listed(written(tmp_path, text)).photos} == {"cat", "cat/dog"}


def test_numbers_are_labels_by_name(tmp_path: Path) -> None:
    lines = [{"file": name, "label": float(i % 2), "split": name.split("-")[0]} for i, name in enumerate(NAMES)]
    table = written(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl")
    assert {photo.label for photo in listed(table).photos} == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"file,label\na.jpg,cat,3\n", r"t\.csv:2: 3 fields where the header has 2"),
        ("t.csv", b'file,label\n"a.jpg,cat\n', r"t\.csv:2: unexpected end of data"),
        ("t.csv", b"file,file,label\n", "two columns are called 'file'"),
        ("t.csv", b"file,label\n", "names no photo"),
        ("t.csv", b"file,label\n" + b"x" * 200_000, "field larger than field limit"),
        ("t.jsonl", b"\n\n", "is empty; each line must be a JSON object"),
        ("t.jsonl", b'{"file": 1}\n[1]\n', r"t\.jsonl:2: is not a JSON object"),
        ("t.jsonl", b"{'file': 1}\n", r"t\.jsonl:1: is not JSON"),
        ("t.jsonl", b"[" * 100_000, r"t\.jsonl:1: is not JSON"),
        ("t.parquet", b"PAR1 no more PAR1", r"t\.parquet: .*Mend the table"),
    ],
)
def test_broken_tables_are_one_line(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=cause) as caught:
        listed(tmp_path / name)
    assert len(caught.value.problems) == 1


def test_a_root_that_is_no_table(tmp_path: Path) -> None:
    written(tmp_path, rows())
    with pytest.raises(DataError, match=r"is a folder\. Name the table itself\. In it: photos\.csv"):
        listed(tmp_path)
    with pytest.raises(DataError, match=r"photos\.csv/x|photso\.csv does not exist\. Did you mean .*photos\.csv"):
        listed(tmp_path / "photso.csv")
    with pytest.raises(DataError, match=r"\.jpg is not a table\. Allowed: \.csv"):
        listed(tmp_path / NAMES[0])


def test_a_parquet_table_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else real(name))
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"Parquet needs pyarrow: pip install 'finetunekit\[table\]'"):
        open_table(tmp_path / "t.parquet")


def test_parquet_with_embedded_photos_and_lists_of_labels_is_refused_in_words(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    put(tmp_path, "1.jpg")
    rows = [{"file_name": "1.jpg", "image": {"bytes": b"x"}, "label": ["cat", "lynx"], "none": float("nan")}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"columns 'file_name', 'image' could each be the file"):
        listed(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"rows with several labels \(1\)"):
        listed(tmp_path / "t.parquet", file_column="file_name")
    with pytest.raises(DataError, match=r"rows without one file name \(1\)"):
        listed(tmp_path / "t.parquet", file_column="image", label_column="file_name")


# ---- splits --------------------------------------------------------------------------------------------------------------------


def many(root: Path, columns: str = "file_name,label", per_class: int = 30, group: int = 0) -> Path:
    lines = [columns]
    for label in ("cat", "lynx"):
        for n in range(per_class):
            put(root, f"{label}-{n}.jpg")
            lines.append(f"{label}-{n}.jpg,{label}" + (f",{label}{n // group}" if group else ""))
    (root / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return root / "t.csv"


def test_a_table_without_splits_is_split_by_class(tmp_path: Path) -> None:
    listing = listed(many(tmp_path), valid_fraction=0.1, test_fraction=0.2)
    counted = Counter((photo.label, photo.split) for photo in listing.photos)
    assert counted == {
        (label, split): n for label in ("cat", "lynx") for split, n in (("train", 21), ("valid", 3), ("test", 6))
    }
    assert listing.notes == (
        f"{tmp_path / 't.csv'} has no valid and no test photos: train was split (42 train, 6 valid, 12 test; split_seed 0)",
    )


def test_groups_stay_together(tmp_path: Path) -> None:
    listing = listed(many(tmp_path, "file_name,label,group", group=5))
    splits_of: dict[str | None, set[str]] = {}
    for photo in listing.photos:
        splits_of.setdefault(photo.group, set()).add(photo.split)
    assert len(splits_of) == 12
    assert all(len(splits) == 1 for splits in splits_of.values())
    assert Counter(photo.split for photo in listing.photos).keys() == {"train", "valid", "test"}


def test_missing_validation_photos_come_out_of_train_and_no_test_photo_moves(tmp_path: Path) -> None:
    table = written(tmp_path, rows().replace(",val\n", ",train\n"))
    listing = listed(table)
    assert [place for place in places(listing) if place[2] == "test"] == [
        place for place in EXPECTED if place[2] == "test"
    ]
    assert Counter((photo.label, photo.split) for photo in listing.photos)["cat", "valid"] == 1


def test_classes_too_small_to_split_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"classes with too few photos to split: 'cat' \(2\), 'lynx' \(2\)"):
        listed(many(tmp_path, per_class=2))


def test_a_fold_is_tested_and_the_next_one_validates(tmp_path: Path) -> None:
    table = many(tmp_path)
    lines = table.read_text(encoding="utf-8").splitlines()
    folded = [f"{line},{'fold' if i == 0 else i % 4 + 1}" for i, line in enumerate(lines)]
    table.write_text("\n".join(folded), encoding="utf-8")
    with pytest.raises(DataError, match=r"has folds 1, 2, 3, 4\. Set data\.options\.test_fold"):
        listed(table)
    listing = listed(table, test_fold=4)
    by_fold = {line.split(",")[0]: line.split(",")[-1] for line in folded[1:]}
    for photo in listing.photos:
        assert photo.split == {"4": "test", "1": "valid"}.get(by_fold[photo.path.name], "train")


@pytest.mark.parametrize("twin", ["Lynx", "lynx "])
def test_labels_differing_in_case_are_refused_and_in_blanks_are_one(tmp_path: Path, twin: str) -> None:
    listing = listed(written(tmp_path, rows().replace("val-lynx-0.jpg,lynx", f"val-lynx-0.jpg,{twin}")))
    problems = check_listing(listing)
    assert len(problems) == (twin == "Lynx")
    assert all("classes 'Lynx' and 'lynx' differ only in case" in problem for problem in problems)


# ---- huggingface ---------------------------------------------------------------------------------------------------------------


def imagefolder(root: Path, **options: object) -> PhotoListing:
    context = SourceContext(root=root, cache_dir=Path("unused"), seed=0, say=print)
    return build_huggingface(HuggingfaceOptions.model_validate(options), context)


def test_a_metadata_file_in_each_split(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        put(tmp_path / split, *(f"{n}.jpg" for n in range(4)))
        lines = ["file_name,label", *(f"{n}.jpg,{('cat', 'lynx')[n % 2]}" for n in range(4))]
        (tmp_path / split / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    listing = imagefolder(tmp_path)
    assert Counter((photo.split, photo.label) for photo in listing.photos) == {
        (split, label): 2 for split in ("train", "valid", "test") for label in ("cat", "lynx")
    }
    (tmp_path / "test/metadata.csv").unlink()
    with pytest.raises(DataError, match=r"no metadata file in test/\. Each split needs its own"):
        imagefolder(tmp_path)


@pytest.mark.parametrize("base", ["", "data"])
def test_one_metadata_file_for_all_splits(tmp_path: Path, base: str) -> None:
    names = [f"{split}/{label}-{n}.jpg" for split in ("train", "test") for label in ("cat", "lynx") for n in range(5)]
    put(tmp_path / base, *names)
    lines = [json.dumps({"file_name": name, "species": name.split("/")[1].split("-")[0]}) for name in names]
    (tmp_path / base / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    listing = imagefolder(tmp_path)
    assert Counter(photo.split for photo in listing.photos) == {"train": 8, "valid": 2, "test": 10}


def test_without_metadata_folders_are_labels(tmp_path: Path) -> None:
    put(tmp_path, *(f"data/{split}/{label}/1.jpg" for split in ("train", "validation", "test") for label in "ab"))
    assert Counter(photo.split for photo in imagefolder(tmp_path).photos) == {"train": 2, "valid": 2, "test": 2}


def test_metadata_that_is_no_classification_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "1.jpg")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg", "label": ["cat", "dog"]}', encoding="utf-8")
    with pytest.raises(DataError, match="rows with several labels"):
        imagefolder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_names": ["1.jpg"], "label": "cat"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"several photos per row \(file_names\) are not a classification"):
        imagefolder(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg", "text": "a cat"}', encoding="utf-8")
    with pytest.raises(DataError, match="no label column"):
        imagefolder(tmp_path)


# ---- the contract --------------------------------------------------------------------------------------------------------------


def test_the_sources_keep_the_contract(tmp_path: Path) -> None:
    root = tiny_photos(tmp_path / "photos")
    photos = sorted(path for path in root.rglob("*.png") if path.parent.parent.parent == root)
    lines = ["file_name,label,split"]
    lines += [f"{path.relative_to(root)},{path.parent.name},{path.parent.parent.name}" for path in photos]
    (root / "metadata.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in lines), encoding="utf-8")
    check_data_source(build_huggingface, HuggingfaceOptions(), root=root)
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    options = TableOptions(photos=str(root))
    check_data_source(build_table, options, root=tmp_path / "t.csv")


# ---- labels are bound by name ----------------------------------------------------------------------------------------------------


def test_neither_the_order_of_rows_nor_that_of_splits_shifts_a_label(tmp_path: Path) -> None:
    from PIL import Image

    table = written(tmp_path, rows())
    for n, name in enumerate(NAMES):
        Image.new("RGB", (4, 4), (n, 0, 0)).save(tmp_path / name)
    first = build_index(listed(table), max_pixels=100)
    for seed in range(3):
        shuffled = [*NAMES]
        random.Random(seed).shuffle(shuffled)
        again = build_index(listed(written_only(tmp_path, rows(names=shuffled))), max_pixels=100)
        assert again.classes == first.classes == ("cat", "lynx")
        assert again.photos == first.photos
        for split in ("train", "valid", "test"):
            assert [again.classes[i] for i in again.labels(split)] == [
                p.path.name.split("-")[1] for p in again.split(split)
            ]


def written_only(root: Path, text: str) -> Path:
    (root / "photos.csv").write_text(text, encoding="utf-8")
    return root / "photos.csv"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_that_a_split_lacks_is_an_error_and_never_shifts_the_others(tmp_path: Path, split: str) -> None:
    left = [name for name in NAMES if not name.startswith(f"{split}-cat")]
    problems = check_listing(listed(written(tmp_path, rows(names=left))))
    assert problems
    assert all("class 'cat'" in problem or "one class only, 'lynx'" in problem for problem in problems)
