from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_folders import CLASSES, COMPONENTS, STAND_IN, answers, make_run, photo_row, spread

from finetunekit.cli import main
from finetunekit.errors import ConfigError, RunFolderError
from finetunekit.experiments.compare import bonferroni, compare_runs
from finetunekit.reports.comparison_text import comparison_lines
from finetunekit.runs.config_diff import Change


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """13 wrong; 10 wrong, of which 8 are the same photos."""
    return [
        make_run(tmp_path / "a", answers(range(13))),
        make_run(tmp_path / "b", answers([*range(8), 20, 21]), seed=1),
    ]


def test_pairs_photos_by_content_not_by_order(tmp_path: Path, two: list[Path]) -> None:
    shuffled = [{**row, "path": f"moved/{i}.jpg"} for i, row in enumerate(answers([*range(8), 20, 21]))][::-1]
    second = make_run(tmp_path / "c", shuffled)
    straight, moved = (compare_runs([two[0], other]).pairs[0] for other in (two[1], second))
    assert straight.scores == moved.scores
    assert (len(straight.gained), len(straight.lost)) == (5, 2)
    assert [photo.path for photo in moved.lost] == ["test/cat/photo_20.jpg", "test/lion/photo_21.jpg"]


def test_scores_agree_with_other_libraries(two: list[Path]) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.multitest import multipletests

    scores = compare_runs(two).pairs[0].scores
    assert scores.mcnemar.p_exact == pytest.approx(binomtest(2, 7).pvalue)
    assert scores.accuracy_difference == pytest.approx(3 / 160)
    assert bonferroni([0.03, 0.01, 0.4]) == pytest.approx(multipletests([0.03, 0.01, 0.4], method="bonferroni")[1])


def test_changed_photos_carry_both_answers(two: list[Path]) -> None:
    photo = compare_runs(two).pairs[0].gained[0]
    assert (photo.true, photo.first, photo.second) == ("cat", "lion", "cat")
    assert (photo.first_probability, photo.second_probability) == pytest.approx((0.9, 0.9))


def test_class_order_does_not_matter(tmp_path: Path, two: list[Path]) -> None:
    turned = make_run(tmp_path / "c", answers([*range(8), 20, 21]), classes=CLASSES[::-1])
    assert compare_runs([two[0], turned]).pairs[0].scores == compare_runs(two).pairs[0].scores


def test_differing_test_photos_use_the_intersection_aloud(tmp_path: Path, two: list[Path]) -> None:
    longer = make_run(tmp_path / "c", answers(range(5), 165)[10:])
    comparison = compare_runs([two[0], longer])
    pair = comparison.pairs[0]
    assert (pair.common, pair.only_first, pair.only_second) == (150, 10, 5)
    assert pair.scores.photos == 150
    assert "only the 150 they share count here" in _flat(comparison_lines(comparison))
    with pytest.raises(ConfigError, match=r"150 common, 10 and 5 in one only.*--strict"):
        compare_runs([two[0], longer], is_strict=True)


def test_copies_count_once(tmp_path: Path, two: list[Path]) -> None:
    rows = answers(range(13))
    copies = make_run(tmp_path / "c", [*rows, *({**row, "path": "copy.jpg"} for row in rows[:5])])
    comparison = compare_runs([copies, two[1]])
    assert (comparison.runs[0].photos, comparison.runs[0].copies) == (160, 5)
    assert comparison.pairs[0].scores == compare_runs(two).pairs[0].scores
    assert "5 test photos left out: copies of others" in _flat(comparison_lines(comparison))


def test_copies_with_two_classes_are_refused(tmp_path: Path, two: list[Path]) -> None:
    odd = photo_row("photo 0", "lynx", dict.fromkeys(CLASSES, 0.25))
    bad = make_run(tmp_path / "c", [*answers(), odd])
    with pytest.raises(ConfigError, match="the same photo with two classes"):
        compare_runs([two[0], bad])


def test_labels_that_contradict_are_refused(tmp_path: Path, two: list[Path]) -> None:
    rows = answers()
    other = make_run(tmp_path / "c", [{**rows[0], "true": "lynx"}, *rows[1:]])
    with pytest.raises(ConfigError, match=r"is a 'cat' in .* and a 'lynx' in"):
        compare_runs([two[0], other])


def test_other_classes_are_refused(tmp_path: Path, two: list[Path]) -> None:
    classes = (*CLASSES[:3], "tigre")
    row = photo_row("x", "cat", dict.fromkeys(classes, 0.25))
    other = make_run(tmp_path / "c", [row], classes=classes)
    with pytest.raises(ConfigError, match=r"'tiger' that .* has not. Did you mean 'tigre'"):
        compare_runs([two[0], other])


def test_no_common_photo_is_refused(tmp_path: Path, two: list[Path]) -> None:
    other = make_run(tmp_path / "c", answers((), 200)[160:])
    with pytest.raises(ConfigError, match="no test photo in common"):
        compare_runs([two[0], other])


@pytest.mark.parametrize(
    ("choose", "margin", "message"),
    [
        (lambda runs: runs[:1], None, "two runs or more"),
        (lambda runs: [runs[0], runs[0]], None, "given twice"),
        (lambda runs: runs, 150.0, "percentage points, between 0 and 100"),
    ],
)
def test_impossible_requests_are_refused(
    two: list[Path], choose: Callable[[list[Path]], list[Path]], margin: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare_runs(choose(two), margin_points=margin)


def test_unfinished_or_damaged_runs_are_refused(tmp_path: Path, two: list[Path]) -> None:
    failed = make_run(tmp_path / "failed", answers(), status="failed")
    torn = make_run(tmp_path / "torn", [*answers()[:-1], {"split": "test", "path": "test/cat/x.jpg"}])
    untested = make_run(tmp_path / "untested", [{**row, "split": "valid"} for row in answers()])
    for path, message in (
        (failed, "not finished"),
        (torn, "x.jpg: the row is damaged"),
        (untested, "no test photos"),
    ):
        with pytest.raises(RunFolderError, match=message):
            compare_runs([two[0], path])


def test_probabilities_that_are_none_are_refused(tmp_path: Path, two: list[Path]) -> None:
    bad = make_run(tmp_path / "c", [photo_row("photo 0", "cat", dict.fromkeys(CLASSES, 0.5))])
    with pytest.raises(RunFolderError, match="do not sum to 1"):
        compare_runs([two[0], bad])


def test_configuration_diff_is_dotted_and_knows_defaults(tmp_path: Path) -> None:
    first = {"head": {"name": "gap_dense"}, "stages": [{"optimizer": {"learning_rate": 1e-4}}]}
    second = {
        "head": {"name": "gap_dense", "units": 1024},
        "stages": [{"optimizer": {"learning_rate": 1e-3}}],
    }
    newer = [{**COMPONENTS[0], "version": "0.2.0"}]
    a = make_run(tmp_path / "a", answers(), config=first)
    b = make_run(tmp_path / "b", answers(), config=second, components=newer)
    assert compare_runs([a, b]).pairs[0].configuration == (
        Change("stages[0].optimizer.learning_rate", 1e-4, 1e-3),
        Change("version of finetunekit", "0.1.0", "0.2.0"),
    )


def test_of_stages_of_two_kinds_only_the_kind_and_what_both_have_is_said_to_differ(tmp_path: Path) -> None:
    solve = {"kind": "solve", "name": "one", "penalty": 0.1}
    fit = {"kind": "fit", "name": "two", "epochs": 40, "freeze": {"name": "all"}, "optimizer": {"name": "adamw"}}
    runs = [make_run(tmp_path / stage["kind"], answers(), config={"stages": [stage]}) for stage in (solve, fit)]
    both = (Change("stages[0].kind", "solve", "fit"), Change("stages[0].name", "one", "two"))
    assert compare_runs(runs).pairs[0].configuration == both
    other = make_run(tmp_path / "other", answers(), config={"stages": [{**solve, "penalty": 1.0}]})
    assert compare_runs([runs[0], other]).pairs[0].configuration == (Change("stages[0].penalty", 0.1, 1.0),)


def test_what_matters_comes_first_and_reporters_are_one_difference(tmp_path: Path) -> None:
    base = {
        "reports": [{"name": "html"}, {"name": "model_card"}], "evaluate": {"flip": False}, "augment": [{"name": "flip"}],
        "pixels": {"size_px": 224}, "stages": [{"kind": "fit", "name": "tune", "epochs": 8}], "backbone": {"name": "vgg16"},
        "data": {"source": "folders", "root": "a"},
    }  # fmt: skip
    other = {
        "reports": [{"name": "model_card"}], "evaluate": {"flip": True}, "augment": [], "pixels": {"size_px": 96},
        "stages": [{"kind": "fit", "name": "tune", "epochs": 9}], "backbone": {"name": "efficientnet_lite0"},
        "data": {"source": "folders", "root": "b"},
    }  # fmt: skip
    runs = [make_run(tmp_path / str(i), answers(), config=config) for i, config in enumerate((base, other))]
    changes = compare_runs(runs).pairs[0].configuration
    keys = [change.key for change in changes]
    order = [
        "data.root",
        "backbone.name",
        "stages[0].epochs",
        "pixels.size_px",
        "augment[0].name",
        "evaluate.flip",
        "reports",
    ]
    assert [key for key in keys if key in order] == order
    assert not [key for key in keys if key.startswith("reports[")]
    assert changes[keys.index("reports")] == Change("reports", "html, model_card", "model_card")
    flip = make_run(
        tmp_path / "flip",
        answers(),
        config={**base, "reports": [{"name": "html", "mistakes": 3}, {"name": "model_card"}]},
    )
    assert compare_runs([runs[0], flip]).pairs[0].configuration == (
        Change("reports", "html, model_card", "html, model_card; other options"),
    )


def test_machines_are_told_apart(tmp_path: Path) -> None:
    machines = (
        {"processor": "one", "versions": {"keras": "3.1"}},
        {"processor": "other", "versions": {"keras": "3.1"}},
    )
    runs = [make_run(tmp_path / str(i), answers(), environment=m) for i, m in enumerate(machines)]
    pair = compare_runs(runs).pairs[0]
    assert pair.machine == (Change("processor", "one", "other"),)
    assert pair.is_machine_known
    assert pair.configuration == ()
    assert pair.is_identical


def test_verdict_comes_first(two: list[Path]) -> None:
    lines = comparison_lines(compare_runs(two))
    assert _flat(lines).startswith(
        "Run 2 and run 1 cannot be told apart on 160 photos (p = 0.45). Telling 1 point apart"
    )
    needed = compare_runs(two).pairs[0].scores.photos_needed
    assert needed.photos > 1000
    assert "0.1" not in lines[0]


def test_verdict_tells_apart_what_differs(tmp_path: Path, two: list[Path]) -> None:
    worse = make_run(tmp_path / "c", answers(range(60)))
    lines = comparison_lines(compare_runs([two[0], worse]))
    assert _flat(lines).startswith("Run 2 is less accurate than run 1 on the same 160 photos (p < 0.001).")
    assert "and 37 more: --all shows them" in _flat(lines)
    assert "--all" not in _flat(comparison_lines(compare_runs([two[0], worse]), is_all=True))


def test_several_pairs_are_adjusted(tmp_path: Path, two: list[Path]) -> None:
    # 1 lost, 9 gained: p = 0.021 alone, which two pairs do not bear out
    third = make_run(tmp_path / "c", answers([*range(4), 30]))
    assert compare_runs([two[0], third]).pairs[0].is_told_apart
    pairs = compare_runs([two[0], third, make_run(tmp_path / "d", answers([*range(4), 31]))]).pairs
    alone = compare_runs([two[0], third, two[1]])
    assert [pair.p_adjusted for pair in pairs] == pytest.approx([2 * pair.scores.mcnemar.p_exact for pair in pairs])
    assert "adjusted for 2 pairs" in _flat(comparison_lines(alone))


def test_margin_answers_as_good_as(tmp_path: Path) -> None:
    few = [make_run(tmp_path / f"few{i}", answers(range(5 + i))) for i in range(2)]
    comparison = compare_runs(few, margin_points=1.5)
    equivalence = comparison.pairs[0].scores.accuracy_equivalence
    assert equivalence is not None
    assert not equivalence.is_equivalent
    assert "That takes 178 photos even if none changes sides." in _flat(comparison_lines(comparison))
    many = [make_run(tmp_path / f"many{i}", answers(range(15 * i, 30 + 15 * i), 1000)) for i in range(2)]
    text = _flat(comparison_lines(compare_runs(many, margin_points=1.5, log_loss_margin=0.1)))
    assert "They are equally accurate to within 1.5 points (90 % interval" in text
    assert "Their log losses are equal to within 0.1 nats" in text


def test_stand_in_is_said_in_the_first_line(tmp_path: Path, two: list[Path]) -> None:
    drawn = make_run(tmp_path / "c", answers(), stand_in=STAND_IN)
    lines = comparison_lines(compare_runs([two[0], drawn]))
    assert lines[0].startswith("STAND-IN PHOTOS in run 2: These photos are drawn")


def test_every_line_fits_80_columns(tmp_path: Path) -> None:
    classes = ("a class with quite a long name", "another class with quite a long name")
    rows = [photo_row(f"{i} {'long ' * 30}", classes[i % 2], {classes[0]: 0.7, classes[1]: 0.3}) for i in range(40)]
    other = [photo_row(f"{i} {'long ' * 30}", classes[i % 2], {classes[0]: 0.2, classes[1]: 0.8}) for i in range(40)]
    config = {"data": {"options": {"a_long_key_that_never_ends_and_more": ["a long value " * 9]}}}
    a = make_run(tmp_path / "a", rows, classes=classes, stand_in=STAND_IN)
    b = make_run(tmp_path / ("b" * 120), other, classes=classes, config=config)
    c = make_run(tmp_path / "c", rows[5:], classes=classes)
    lines = comparison_lines(compare_runs([a, b, c], margin_points=1.5, log_loss_margin=0.001), is_all=True)
    assert max(map(len, lines)) <= 80


def test_command_prints_words_and_json(two: list[Path]) -> None:
    words = CliRunner().invoke(main, ["compare", *map(str, two)])
    assert words.exit_code == 0
    assert words.stdout.startswith("Run 2 and run 1 cannot be told apart")
    printed = CliRunner().invoke(main, ["compare", "b", "a", "--out", str(two[0].parent), "--json", "--margin", "3"])
    found = json.loads(printed.stdout)
    expected = compare_runs([two[1], two[0]], margin_points=3.0)
    assert found == json.loads(json.dumps(dataclasses.asdict(expected), default=str))
    assert found["pairs"][0]["scores"]["accuracy_equivalence"]["margin"] == pytest.approx(0.03)


def test_command_turns_errors_into_one_line(tmp_path: Path, two: list[Path]) -> None:
    other = make_run(tmp_path / "c", answers(spread(3, 165), 165))
    refused = CliRunner().invoke(main, ["compare", "--strict", str(two[0]), str(other)])
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("error: ")
    unfinished = make_run(tmp_path / "d", answers(), status="running")
    assert CliRunner().invoke(main, ["compare", str(two[0]), str(unfinished)]).exit_code == 1


def _flat(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())
