"""What people decide about photos: written line by line, read again letter by letter, applied to a listing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetunekit import split_by_class
from finetunekit.data.apply_decisions import DecidedPhoto, apply_decisions
from finetunekit.data.decisions import DecidedAbout, in_force, open_decisions, read_decisions
from finetunekit.data.known_photos import photo_sha256
from finetunekit.errors import DataError, RunFolderError
from finetunekit.types import PhotoListing, PhotoRecord

HEADER = "number,when,who,path,sha256,kind,was,now,why\n"


def about(path: str, label: str = "cat") -> DecidedAbout:
    return DecidedAbout(path, "", label)


def photo(root: Path, name: str, group: str | None = None) -> PhotoRecord:
    split, label, _ = name.split("/")
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
    return PhotoRecord(path, label, split, group)


def listing(root: Path, *names: str, dealt: tuple[str, ...] = ()) -> PhotoListing:
    return PhotoListing(tuple(photo(root, name) for name in names), root, dealt=dealt)


def written(tmp_path: Path, *rows: str) -> Path:
    file = tmp_path / "decisions.csv"
    file.write_text("path,kind,now\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return file


def applied(decided: tuple[DecidedPhoto, ...]) -> list[tuple[str, str, str, str]]:
    return [(one.path, one.kind, one.was, one.now) for one in decided]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1).filter(lambda name: name.strip()), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_names_and_remarks_come_back_letter_by_letter(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], why: str
) -> None:
    names = [os.fsdecode(name.encode("utf-8", "replace")) for name in names] + [os.fsdecode(b"caf\xe9.jpg")]
    file = tmp_path_factory.mktemp("decisions") / "decisions.csv"
    with open_decisions(file) as decisions:
        decisions.add("leave out", [about(name) for name in names], who="=Ann", why=why)
    read = read_decisions(file)
    assert [one.path for one in read] == names
    assert {(one.who, one.number, one.why.strip()) for one in read} == {("=Ann", 1, why.strip())}
    with open_decisions(file) as decisions:
        assert decisions.decisions == list(read)


def test_a_decision_is_undone_by_a_further_line_and_the_last_one_counts(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    with open_decisions(file) as decisions:
        decisions.add("leave out", [about("a.jpg")], who="Ann")
        second = decisions.add("label", [about("a.jpg")], who="Bo", now="lynx", why="tufted ears")
        decisions.undo(second, who="Ann")
        with pytest.raises(DataError, match="undoes '2', which is not a decision above"):
            decisions.undo(second, who="Ann")
        with pytest.raises(DataError, match="label needs the name of a class"):
            decisions.add("label", [about("a.jpg")], who="Bo", now=" ")
    assert file.read_text(encoding="utf-8").count("\n") == 4, "lines are added, never taken away"
    assert [(one.kind, one.who) for one in in_force(read_decisions(file))] == [("leave out", "Ann")]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    with (
        open_decisions(file),
        pytest.raises(RunFolderError, match="another review is writing it"),
        open_decisions(file),
    ):
        raise AssertionError


@pytest.mark.parametrize(
    "torn",
    ["2,2026", '2,2026-01-01T00:00:00Z,Ann,"b\n', '2,2026-01-01T00:00:00Z,Ann,"b\nc.jpg', "2,,Ann,b.jpg,,keep,cat"],
)
def test_what_a_crash_cut_off_was_not_decided(tmp_path: Path, torn: str) -> None:
    file = tmp_path / "decisions.csv"
    whole = HEADER + '1,2026-01-01T00:00:00Z,Ann,"a\nb.jpg",,keep,cat,,\n'
    file.write_text(whole + torn, encoding="utf-8", newline="")
    assert [one.path for one in read_decisions(file)] == ["a\nb.jpg"]
    with open_decisions(file) as decisions:
        assert file.read_text(encoding="utf-8") == whole
        assert decisions.add("unsure", [about("c.jpg")], who="Bo") == 2
    assert [one.path for one in read_decisions(file)] == ["a\nb.jpg", "c.jpg"]


def test_a_file_that_a_spreadsheet_saved_is_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "decisions.csv"
    rows = [HEADER.strip().replace(",", ";"), "1;;Ann;Bär.jpg;;label;cat;lynx;'=1+1"]
    file.write_bytes("\r\n".join(rows).encode("utf-8-sig"))
    with open_decisions(file) as decisions:
        assert [(one.path, one.now, one.why) for one in decisions.decisions] == [("Bär.jpg", "lynx", "=1+1")]
        decisions.undo(1, who="Ann")
    assert file.read_text(encoding="utf-8").startswith(HEADER)
    assert in_force(read_decisions(file)) == ()


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, "a.jpg,delete,", ",keep,", "a.jpg,label,", ",undo,7", "a.jpg,keep,")
    with pytest.raises(DataError) as caught:
        read_decisions(file)
    said = [problem.partition("decisions.csv:")[2] for problem in caught.value.problems]
    assert [line[0] for line in said] == ["2", "3", "4", "5"]
    assert "unknown kind 'delete'. Allowed: keep, label, leave out, group, unsure, undo." in said[0]
    with pytest.raises(DataError, match=r"data\.decisions: .*none\.csv cannot be read"):
        read_decisions(tmp_path / "none.csv")
    (tmp_path / "table.csv").write_text("name,label\nx,y\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.csv:1: no column 'path'"):
        read_decisions(tmp_path / "table.csv")


def test_labels_are_changed_photos_left_out_and_what_is_unsure_stays(tmp_path: Path) -> None:
    photos = listing(tmp_path, "train/cat/a.jpg", "train/cat/b.jpg", "test/lynx/c.jpg", "test/lynx/d.jpg")
    file = written(
        tmp_path,
        "train/cat/a.jpg,label,lynx",
        "train/cat/b.jpg,label,lynx",
        "train/cat/b.jpg,leave out,",
        "test/lynx/c.jpg,unsure,",
        "test/lynx/d.jpg,leave out,",
        "test/lynx/d.jpg,keep,",
        "gone.jpg,leave out,",
    )
    changed, decided = apply_decisions(photos, file)
    assert [(one.path.name, one.label) for one in changed.photos] == [
        ("a.jpg", "lynx"),
        ("c.jpg", "lynx"),
        ("d.jpg", "lynx"),
    ]
    assert applied(decided) == [
        ("train/cat/a.jpg", "label", "cat", "lynx"),
        ("train/cat/b.jpg", "leave out", "cat", ""),
        ("test/lynx/c.jpg", "unsure", "lynx", "lynx"),
    ]
    assert changed.notes[-1].endswith("photos 1 relabelled, 1 left out, 1 unsure, which changes nothing")
    assert [one.read_bytes() for one in sorted(tmp_path.rglob("*.jpg"))], "photos are never touched"


def test_a_decision_is_about_what_the_photo_held(tmp_path: Path) -> None:
    photos = listing(tmp_path, "train/cat/a.jpg", "train/cat/b.jpg")
    file = tmp_path / "decisions.csv"
    with open_decisions(file) as decisions:
        for name in ("train/cat/a.jpg", "train/cat/b.jpg"):
            decided_about = DecidedAbout(name, photo_sha256(tmp_path / name), "cat")
            decisions.add("label", [decided_about], who="Ann", now="lynx")
    (tmp_path / "train/cat/a.jpg").write_bytes(b"another photo")
    changed, decided = apply_decisions(photos, file)
    assert [one.label for one in changed.photos] == ["cat", "lynx"]
    assert [one.path for one in decided] == ["train/cat/b.jpg"]
    assert "'train/cat/a.jpg' has changed since the decision about it, which is skipped" in changed.notes[-1]


def test_a_label_for_a_photo_that_is_not_there_is_an_error_unless_it_is_excluded(tmp_path: Path) -> None:
    photos = listing(tmp_path, "train/cat/a.jpg", "train/cat/b.jpg")
    file = written(tmp_path, "train/cat/b.jpg,label,lynx")
    fewer = PhotoListing(photos.photos[:1], tmp_path)
    assert apply_decisions(fewer, file, listed=photos)[0].photos == fewer.photos
    with pytest.raises(DataError, match=r"decision 1: no photo 'train/cat/b\.jpg'"):
        apply_decisions(fewer, file)


def test_one_animal_stays_together_where_the_source_dealt_the_splits(tmp_path: Path) -> None:
    names = ("train/cat/a.jpg", "test/cat/b.jpg", "test/cat/c.jpg", "train/cat/d.jpg")
    file = written(tmp_path, *(f"{name},group,Tom" for name in names[:3]))
    came_so, decided = apply_decisions(listing(tmp_path, *names), file)
    assert [one.group for one in came_so.photos] == ["Tom"] * 3 + [None]
    assert [one.split for one in came_so.photos] == ["train", "test", "test", "train"]
    assert {one.kind for one in decided} == {"group"}
    dealt, decided = apply_decisions(listing(tmp_path, *names, dealt=("train", "valid", "test")), file)
    assert [one.split for one in dealt.photos] == ["test", "test", "test", "train"]
    assert ("train/cat/a.jpg", "split", "train", "test") in applied(decided)


def test_a_decided_group_joins_those_of_the_source(tmp_path: Path) -> None:
    photos = PhotoListing(
        (
            photo(tmp_path, "train/cat/a.jpg", "Tom"),
            photo(tmp_path, "train/cat/b.jpg", "Tom"),
            photo(tmp_path, "train/cat/c.jpg", "Felix"),
            photo(tmp_path, "train/cat/d.jpg", "Minka"),
            photo(tmp_path, "train/cat/e.jpg", "Minka"),
        ),
        tmp_path,
    )
    rows = ("train/cat/b.jpg,group,one", "train/cat/c.jpg,group,one", "train/cat/e.jpg,group,")
    changed, _ = apply_decisions(photos, written(tmp_path, *rows))
    assert [one.group for one in changed.photos] == ["Tom", "Tom", "Tom", "Minka", None]
    keys = [one.group or one.path.name for one in changed.photos]
    assert len(set(split_by_class(keys, ["cat"] * 5, valid=0.2, test=0.2, seed=0)[:3])) == 1
