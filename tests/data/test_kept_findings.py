"""Findings that people decided to keep stop no run; for anything else that was decided they stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetunekit.data.audit.findings import AuditReport, Exclusion, Finding, Seen
from finetunekit.data.audit.kept import without_kept
from finetunekit.data.decisions import DecidedAbout, open_decisions

A, B, C = (Seen(f"{name}.jpg", "train", "cat", name * 64) for name in "abc")
LEAK = Finding(
    "leak",
    "error",
    "2 photos are there as 4 files",
    "Look.",
    ((A, B), (A, C)),
    (Exclusion("c.jpg", "", "train", "cat", ""),),
)
REPORT = AuditReport("photos", {}, {}, {}, None, (LEAK,), (), 0.0, 0)


def decided(tmp_path: Path, *lines: tuple[str, Seen, str]) -> Finding:
    file = tmp_path / "decisions.csv"
    with open_decisions(file) as decisions:
        for kind, seen, why in lines:
            decisions.add(kind, [DecidedAbout(seen.path, seen.sha256, "cat")], who="Ann", now="cat", why=why)  # type: ignore[arg-type]
    (found,) = without_kept(REPORT, str(file)).findings
    return found


def test_what_is_kept_photo_by_photo_is_no_error_any_more(tmp_path: Path) -> None:
    found = decided(tmp_path, ("keep", A, "leak: mirrored"), ("keep", B, "leak: mirrored"))
    assert (found.severity, found.groups) == ("error", ((A, C),))
    assert found.title == "2 photos are there as 4 files (1 of them is kept by decision)"
    assert len(found.exclusions) == 1, "what is not kept may still be left out"
    found = decided(tmp_path, ("keep", C, "leak"))
    assert (found.severity, found.exclusions) == ("note", ())
    assert found.groups == LEAK.groups, "it can still be looked at"


@pytest.mark.parametrize(
    "lines",
    [
        (("keep", A, "leak: x"),),
        (("keep", A, "label: x"), ("keep", B, "label: x")),
        (("keep", A, "leak: x"), ("keep", B, "leak: x"), ("unsure", A, "")),
        (("keep", A, "leak: x"), ("keep", Seen("b.jpg", "train", "cat", "f" * 64), "leak: x")),
    ],
    ids=["one of two", "for another kind", "another word since", "of another photo"],
)
def test_nothing_else_settles_a_finding(tmp_path: Path, lines: tuple[tuple[str, Seen, str], ...]) -> None:
    assert decided(tmp_path, *lines) == LEAK


def test_without_decisions_the_report_is_as_it_was() -> None:
    assert without_kept(REPORT, None) is REPORT
