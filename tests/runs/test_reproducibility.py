"""What several runs say of the machines that carried them out."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_folders import answers, make_run

from finetunekit import FinishedRun
from finetunekit.runs.reproducibility import processor_lines


@pytest.mark.parametrize(
    ("processors", "said"),
    [
        (("A", "A"), ""),
        (("A", None), ""),
        (
            ("B", "A", "B"),
            "These runs were carried out on 2 kinds of processors (A; B). Each can be repeated bit for bit on its own kind only.",
        ),
    ],
)
def test_runs_of_several_processors_say_so(processors: tuple[str | None, ...], said: str, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / str(number), answers(photos=4), environment=name and {"processor": name})
        for number, name in enumerate(processors)
    ]
    lines = processor_lines(map(FinishedRun, runs))
    assert " ".join(lines) == said
    assert all(len(line) <= 80 for line in lines)
