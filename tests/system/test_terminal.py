from __future__ import annotations

import pytest

from finetunekit.system.formatting import show_duration
from finetunekit.system.terminal import printable, shorten, table, terminal_width, wrap


def test_durations_are_readable() -> None:
    assert [show_duration(s) for s in (0.4, 59.4, 60, 3599, 7500)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 05 min",
    ]


def test_what_a_terminal_would_obey_or_hide_is_spelled_out_and_letters_stay() -> None:
    assert printable("a\x1b[2Jb\r\n\x9b\u202ec\udcff") == r"a\x1b[2Jb\r\n\x9b\u202ec\udcff"
    for name in ("猫ライオン", "e\u0301", "क्\u200dष", "two words", "ideographic\u3000blank", "[red] :cat:"):
        assert printable(name) == name


def test_names_are_measured_as_a_terminal_shows_them() -> None:
    assert (terminal_width("猫cat"), terminal_width("e\u0301")) == (5, 1)
    assert table([("猫", "1"), ("e\u0301e\u0301", "22")], right=(1,)) == ["猫   1", "e\u0301e\u0301  22"]


def test_columns_stand_below_their_titles_and_hold_text_as_it_is() -> None:
    rows = [("[red]lion[/red]", 12, ":cat:"), ("a\x1bb\nc", 3, "")]
    assert table(rows, ("class", "photos", ""), right=(1,), indent=2) == [
        "  class            photos",
        "  [red]lion[/red]      12  :cat:",
        r"  a\x1bb\nc             3",
    ]
    assert table([], ()) == []
    assert table([], ("class",)) == ["class"]


def test_only_columns_that_may_are_wrapped_and_no_word_is_broken() -> None:
    path = "/a/path/that/is/longer/than/the/line.npz"
    lines = table([("lion", "one two three four", path)], width=30, wrapped=(1,))
    assert lines == [f"lion  one    {path}", "      two", "      three", "      four"]
    assert table([("lion", f"one two {path}")], width=20, wrapped=(1,)) == ["lion  one two", f"      {path}"]
    wide = table([("lion", "one two three four")], wrapped=(1,))
    assert wide == ["lion  one two three four"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_same_bytes_whatever_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    lines = [*table([("lion", "word " * 30)], wrapped=(1,)), *wrap("word " * 30)]
    parts = [f"lion  {'word ' * 15}", f"      {'word ' * 15}", "word " * 16, "word " * 14]
    assert lines == [part.rstrip() for part in parts]


def test_sentences_are_broken_at_blanks_only() -> None:
    command = "finetunekit resume /a/path/that-has-hyphens/and/is/longer/than/the/line"
    assert wrap(f"resume\nwith: {command}", width=30, indent=2, hanging=2) == [
        "  resume with: finetunekit",
        "    resume",
        "    /a/path/that-has-hyphens/and/is/longer/than/the/line",
    ]
    assert wrap("猫" * 8 + " " + "猫" * 8, width=20) == ["猫" * 8, "猫" * 8]
    assert wrap("") == [""]


def test_what_is_too_long_keeps_what_tells_it_apart() -> None:
    assert shorten("short", 16) == "short"
    assert shorten("a" * 40, 28) == "a" * 27 + "…"
    assert shorten("global_average_pooling2d", 16, keep="middle") == "global_…ooling2d"
    assert shorten("photos/test/lion/7.jpg", 11, keep="end") == "…lion/7.jpg"
    assert all(terminal_width(shorten("猫" * 40, 27, keep)) <= 27 for keep in ("start", "middle", "end"))
