"""Tables as people have them: read right, or told exactly what to set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetunekit_builtin.table import TableOptions, build_table

from finetunekit import DataError, PhotoListing, SourceContext
from finetunekit.data.exclusions import leave_out

LABELS = ("cat", "dog")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def rows(ending: str = ".jpg", *, cut: str = ",", end: str = "\n", label: str = "{}") -> str:
    """Six files of each label, a line each."""
    return "".join(f"{name}{n}{ending}{cut}{label.format(name)}{end}" for name in LABELS for n in range(6))


def names(ending: str = ".jpg") -> list[str]:
    return [f"{name}{n}{ending}" for name in LABELS for n in range(6)]


def listed(folder: Path, content: str | bytes, **options: object) -> PhotoListing:
    table = folder / "t.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return build_table(
        TableOptions.model_validate_json(json.dumps(options)), SourceContext(table, folder, 0, lambda line: None)
    )


def labels(listing: PhotoListing) -> set[str | None]:
    assert len(listing.photos) == 12
    return {photo.label for photo in listing.photos}


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\nfile;label\n" + rows(cut=";"),
        "SEP=;\r\nfile;label\r\n" + rows(cut=";", end="\r\n"),
        "\ufeffsep=|\nfile|label\n" + rows(cut="|"),
        "file;label;;\n" + rows(cut=";", end=";;\n"),
        "file,label\n" + rows(end=",,\n"),
        "file,label,\n" + rows(),
        "file|label\n" + rows(cut="|"),
        "file,label\n\n,\n" + rows() + ",,,\n",
    ],
)
def test_marks_and_separators_that_spreadsheets_leave_are_read(content: str, tmp_path: Path) -> None:
    put(tmp_path, *names())
    assert labels(listed(tmp_path, content)) == {*LABELS}


def test_cells_in_windows_1252_are_read_and_said(tmp_path: Path) -> None:
    put(tmp_path, *names(), "über.jpg")
    content = "file,label,größe\n" + rows(label="Kätzchen {}", end=",1\n") + "über.jpg,Kätzchen cat,2\n"
    listing = listed(tmp_path, content.encode("cp1252"))
    assert {photo.label for photo in listing.photos} == {"Kätzchen cat", "Kätzchen dog"}
    assert (tmp_path / "über.jpg") in {photo.path for photo in listing.photos}
    assert any("read as Windows-1252: 13 (Kätzchen cat" in note for note in listing.notes)


def test_file_names_in_another_case_are_found_where_one_is_meant(tmp_path: Path) -> None:
    put(tmp_path, *(f"Images/{name.upper()}" for name in names()))
    content = "file,label\n" + "".join(f"images/{line}\n" for line in rows().splitlines())
    listing = listed(tmp_path, content)
    assert labels(listing) == {*LABELS}
    assert any("other upper and lower case than in the table: 12" in note for note in listing.notes)
    put(tmp_path, "Images/cat0.JPG")
    with pytest.raises(DataError, match=r"1 of 12 files are missing: images/cat0\.jpg"):
        listed(tmp_path, content)


def test_no_header_is_told_and_read_when_said(tmp_path: Path) -> None:
    put(tmp_path, *names())
    with pytest.raises(DataError, match=r"first line names a photo \(cat0\.jpg\).*set data\.options\.header: false"):
        listed(tmp_path, rows())
    assert labels(listed(tmp_path, rows(), header=False)) == {*LABELS}
    turned = "".join(f"1,{line.split(',')[1]},{line.split(',')[0]},train\n" for line in rows().splitlines())
    found = listed(tmp_path, turned, header=False, label_column="2")
    assert labels(found) == {*LABELS}


def test_ids_without_ending_are_told_and_read_when_said(tmp_path: Path) -> None:
    put(tmp_path, *names(".JPG"))
    content = "id,label\n" + rows("")
    with pytest.raises(DataError, match=r"12 of 12 files are missing.*set data\.options\.suffix: \.JPG \("):
        listed(tmp_path, content, file_column="id")
    assert labels(listed(tmp_path, content, file_column="id", suffix=".JPG")) == {*LABELS}


def test_photos_in_two_folders_are_told_and_read_when_said(tmp_path: Path) -> None:
    first, second = names()[:6], names()[6:]
    put(tmp_path, *(f"part 1/{name}" for name in first), *(f"part 2/{name}" for name in second), "other/x.jpg")
    content = "file,label\n" + rows()
    with pytest.raises(DataError, match=r'set data\.options\.folders: \["part 1", "part 2"\]'):
        listed(tmp_path, content)
    assert labels(listed(tmp_path, content, folders=["part 1", "part 2"])) == {*LABELS}
    put(tmp_path, f"part 2/{first[0]}")
    with pytest.raises(DataError, match=r"names that several of data\.options\.folders have \(1\): cat0\.jpg"):
        listed(tmp_path, content, folders=["part 1", "part 2"])


def test_one_hot_columns_are_told_and_read_when_said(tmp_path: Path) -> None:
    put(tmp_path, *names())
    content = "file,cat,dog,width\n" + rows(label="{}", end="\n").replace(",cat", ",1,0.0,640").replace(
        ",dog", ",0,1,480"
    )
    with pytest.raises(DataError, match=r'set data\.options\.one_hot: \["cat", "dog"\] \(without'):
        listed(tmp_path, content)
    assert labels(listed(tmp_path, content, one_hot=["cat", "dog"])) == {*LABELS}
    with pytest.raises(DataError, match=r"rows with several labels \(1\): cat0\.jpg"):
        listed(tmp_path, content.replace("cat0.jpg,1,0.0", "cat0.jpg,1,1"), one_hot=["cat", "dog"])
    with pytest.raises(DataError, match=r"rows without a label \(1\): cat0\.jpg"):
        listed(tmp_path, content.replace("cat0.jpg,1,0.0", "cat0.jpg,0,0"), one_hot=["cat", "dog"])
    with pytest.raises(DataError, match="no label column"):  # nothing below the header is nothing to advise from
        listed(tmp_path, "file,cat,dog\n")
    with pytest.raises(ValueError, match="one_hot and label_column both"):
        listed(tmp_path, content, one_hot=["cat"], label_column="dog")


@pytest.mark.parametrize(
    "content",
    [
        "sep=;\npath;reason\ncat0.jpg;old\n",
        "path;reason;;\r\ncat0.jpg;old;;\r\n",
        "file_name\tnote\nCAT0.JPG\tx\n",
        "cat0.jpg\n",
        ".\\cat0.jpg\n",
        "path\nROOT/cat0.jpg\n",
        "path,reason\ncat0.jpg,zu groß\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_lists_of_exclusions_are_read_as_tables_are(content: str, encoding: str, tmp_path: Path) -> None:
    put(tmp_path, *names())
    listing = listed(tmp_path, "file,label\n" + rows())
    exclude = tmp_path / "exclude.txt"
    exclude.write_bytes(content.replace("ROOT", str(tmp_path)).encode(encoding))
    kept, out = leave_out(listing, [exclude])
    assert (len(out), len(kept.photos)) == (1, 11)
    assert "cat0.jpg" not in {photo.path.name for photo in kept.photos}


def test_a_list_finds_names_in_another_unicode_form(tmp_path: Path) -> None:
    put(tmp_path, "Ba\u0308r.jpg", *names())
    listing = listed(tmp_path, "file,label\nBär.jpg,cat\n" + rows())
    exclude = tmp_path / "exclude.csv"
    exclude.write_text("path\nB\u00e4r.jpg\n", encoding="utf-8")
    assert len(leave_out(listing, [exclude])[0].photos) == 12
