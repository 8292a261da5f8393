"""What docs/recipes.md shows can be run: fragments reach a plan, and the lines that it quotes are printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from finetunekit.cli import main
from finetunekit.config.planning import prepare
from finetunekit.system.progress import Progress
from finetunekit.training.cost_preview import preview
from finetunekit.training.cost_text import preview_lines

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
FRAGMENTS = re.findall(r"```yaml\n(.+?)```", PAGE, flags=re.DOTALL)
FREEZING = re.findall(r"^\| `(\{name: .+?\})` \| ([\d,]+) \| ([\d.]+) % \| ([\d,–]+) \|$", PAGE, flags=re.MULTILINE)
QUIET = Progress(is_quiet=True)


def write(folder: Path, fragment: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(f"extends: felidae4\nname: recipe\nexpected: null\n{fragment}", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_a_fragment_reaches_a_plan(fragment: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["plan", write(tmp_path, fragment)])
    assert result.exit_code == 0, result.output
    quoted = re.search(r"^note: .+$", PAGE, flags=re.MULTILINE)
    assert quoted is not None
    assert (quoted.group() in result.stdout) == ("keras_layers" in fragment)


def previewed(path: str, *settings: str) -> tuple[list[str], tuple[int, float, int]]:
    plan, _ = prepare(path, settings=settings, progress=QUIET)
    counts = {"train": 8, "valid": 4, "test": 4, "display": 4}
    found = preview(plan, photo_counts=counts, num_classes=4, is_calibrated=False, progress=QUIET)
    stage = found.stages[0]
    return preview_lines(found), (stage.trainable_parameters, stage.share_before_cut, stage.bytes_per_photo)


def test_the_pattern_claims_what_the_page_says(tmp_path: Path) -> None:
    (fragment,) = [text for text in FRAGMENTS if "name: pattern" in text]
    lines, _ = previewed(write(tmp_path, fragment))
    quoted = PAGE.split("```text\nno pattern", 1)[1].split("```", 1)[0]
    for line in f"no pattern{quoted}".splitlines():
        assert f"  {line}" in lines


def test_freezing_costs_what_the_page_says() -> None:
    assert len(FREEZING) == 5
    for freeze, trained, share, kept in FREEZING:
        _, found = previewed("felidae4", "precision=float32", f"stages[0].freeze={freeze}")
        assert (f"{found[0]:,}", round(100 * found[1], 1)) == (trained, float(share))
        assert (f"{found[2]:,}" if found[2] else "–") == kept
