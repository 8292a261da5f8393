from __future__ import annotations

import io

import pytest
from helpers_terminal import Terminal

from finetunekit.system import progress as module
from finetunekit.system.progress import Progress

HARMFUL = "cat\x1b[31m\x07 [bold]x[/bold] :smile:"
SHOWN = r"cat\x1b[31m\x07 [bold]x[/bold] :smile:"


@pytest.fixture(autouse=True)
def every_change_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REFRESH_S", 0.0)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")


def test_a_bar_is_drawn_anew_in_its_line_and_gone_before_a_whole_one() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.show("epoch 1/2", 3, 12, 61.0)
    progress.show("epoch 1/2", 6, 12, 41.0)
    progress.say("whole")
    screens = stream.screens()
    assert ["━━━━━━                    3/12  epoch 1/2  1 min 01 s left"] in screens
    assert ["━━━━━━━━━━━━              6/12  epoch 1/2  41 s left"] in screens
    assert screens[-1] == ["whole"]
    assert max(map(len, screens)) == 1


def test_what_takes_too_much_room_is_cut_and_the_count_stays() -> None:
    stream = Terminal()
    Progress(stream).show("x" * 200, 6, 12, 41.0)
    (line,) = stream.screens()[-1]
    assert len(line) <= 80
    assert "6/12" in line
    assert line.endswith("xx…  41 s left")


def test_a_counter_that_is_done_and_a_closed_progress_leave_nothing() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.counter("reading")(2, 2)
    assert any("2/2  reading  0 s left" in line for screen in stream.screens() for line in screen)
    assert stream.screens()[-1] == []
    progress.show("evaluating")
    progress.close()
    assert ["evaluating"] in stream.screens()
    assert stream.screens()[-1] == []
    written = stream.getvalue()
    progress.close()
    assert stream.getvalue() == written


def test_nothing_reaches_a_terminal_as_a_command_a_colour_or_a_picture() -> None:
    stream = Terminal()
    progress = Progress(stream)
    progress.show(HARMFUL, 1, 2)
    progress.say(HARMFUL)
    assert any(SHOWN in "".join(screen) for screen in stream.screens()[:-1])
    assert stream.screens()[-1] == [SHOWN]
    assert "\x1b[31m" not in stream.getvalue()


def test_only_whole_lines_off_a_terminal_and_nothing_at_all_when_quiet() -> None:
    class Pipe(io.StringIO):
        encoding = "ascii"

    stream = Pipe()
    progress = Progress(stream)
    progress.show("live", 1, 2)
    progress.counter("reading")(1, 2)
    progress.say("猫 cat")
    progress.say(f"{HARMFUL}\nand more")
    assert stream.getvalue() == f"\\u732b cat\n{SHOWN} and more\n"
    quiet = Terminal()
    progress = Progress(quiet, is_quiet=True)
    progress.say("whole")
    progress.show("live", 1, 2)
    assert quiet.getvalue() == ""


def test_a_long_line_is_wrapped_between_words_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    line = "weights: " + "word " * 12 + "/a/path/that/is/longer/than/the/terminal/is/wide.npz"
    stream = Terminal()
    Progress(stream).say(line)
    lines = stream.getvalue().splitlines()
    assert all(len(part) <= 40 for part in lines[:-1])
    assert lines[-1] == "  /a/path/that/is/longer/than/the/terminal/is/wide.npz"
    pipe = io.StringIO()
    Progress(pipe).say(line)
    assert pipe.getvalue() == line + "\n"
