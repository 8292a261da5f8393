"""`presets new`: a preset for a folder of other classes, which is checked, commented and runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TESTS, write_counted_photos
from helpers_plugins import invoke, write
from jsonschema import Draft202012Validator
from test_imports import HEAVY, RUNNER, report_of

from finetunekit.config.planning import prepare
from finetunekit.config.yaml_source import read_yaml
from finetunekit.data.preset_from_photos import NewPreset, choose_draws, write_preset
from finetunekit.errors import ConfigError, DataError, FinetuneKitError
from finetunekit.system.progress import Progress
from finetunekit.system.terminal import terminal_width

QUIET = Progress(is_quiet=True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test: `birds` with split folders, `flat` with class folders only."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(tmp_path / "cache"))
    write_counted_photos(Path("birds"), {"train": 4, "valid": 2, "test": 1}, ("robin", "wren"))
    write_counted_photos(Path("flat"), {".": 10}, ("robin", "wren"))
    return tmp_path


def make(name: str = "mine", base: str = "felidae4", data: str = "birds", out: str | None = None) -> NewPreset:
    return write_preset(name, base, Path(data), Path(out) if out else None, progress=QUIET)


def uncommented(path: Path, pattern: str) -> Path:
    """The preset with the comments that match turned into values, as a user would."""
    text = re.sub(rf"(?m)^( *)# ({pattern})", r"\1\2", path.read_text(encoding="utf-8"))
    return write(path.with_name(f"un-{path.name}"), text)


# ---- what is written -------------------------------------------------------------------------------------------------------------


def test_it_goes_over_the_base_and_reads_the_folder() -> None:
    made = make()
    plan, _ = prepare("mine.yaml")
    base, _ = prepare("felidae4")
    assert (made.path, made.command) == (Path("mine.yaml"), "finetunekit run mine.yaml")
    assert made.counts == {label: {"train": 4, "valid": 2, "test": 1} for label in ("robin", "wren")}
    assert (plan.config.name, plan.config.description) == ("mine", "robin, wren; as felidae4")
    assert (plan.config.data.source, plan.config.data.root, plan.stand_in) == ("folders", "birds", None)
    assert plan.config.expected is None
    assert (plan.config.train.draws_per_epoch, plan.config.train.validation_draws) == (80, None)
    for section in ("pixels", "backbone", "head", "augment", "stages", "reports", "cache"):
        assert getattr(plan.config, section) == getattr(base.config, section)


def test_it_opens_with_its_command_and_leads_an_editor_to_a_schema_that_accepts_it() -> None:
    made = make()
    first, second, *_ = made.path.read_text(encoding="utf-8").splitlines()
    assert first == "# finetunekit run mine.yaml"
    name = second.removeprefix("# yaml-language-server: $schema=")
    assert Path(name) == made.schema
    values, _ = read_yaml(made.path, "mine.yaml")
    validator = Draft202012Validator(json.loads(made.schema.read_text(encoding="utf-8")))
    assert list(validator.iter_errors(values)) == []
    assert list(validator.iter_errors({**values, "sead": 3}))


def test_what_stands_there_as_comments_is_the_base_and_can_be_uncommented() -> None:
    made = make()
    keys = "seed|pixels|backbone|head|augment|stages|save|reports"
    changed = uncommented(made.path, rf"(?:{keys}):|  - {{name: .*")
    written, _ = read_yaml(changed, "changed")
    assert set(keys.split("|")) <= set(written)
    assert prepare(str(changed))[0].config == prepare("mine.yaml")[0].config


def test_class_folders_only_are_split_and_it_says_how() -> None:
    made = make(data="flat")
    assert made.counts == {label: {"train": 6, "valid": 2, "test": 2} for label in ("robin", "wren")}
    assert "each class was split by name" in made.notes[0]
    changed = uncommented(made.path, "options:")
    values, _ = read_yaml(changed, "changed")
    assert values["data"]["options"] == {
        "split": True,
        "valid_fraction": 0.2,
        "test_fraction": 0.2,
        "split_seed": 0,
    }
    assert prepare(str(changed))[0].data_source.options == prepare("mine.yaml")[0].data_source.options


def test_a_folder_that_is_split_already_gets_no_options_to_split_it() -> None:
    assert "options:" not in make().path.read_text(encoding="utf-8")


def test_the_other_presets_can_be_gone_over_too() -> None:
    made = make(base="felidae4-noaug")
    config = prepare(str(made.path))[0].config
    assert (config.augment, config.train.draws_per_epoch) == ((), None)
    assert "# augment: []" in made.path.read_text(encoding="utf-8")


def test_a_base_given_as_a_path_is_found_from_where_the_new_file_lies() -> None:
    write(Path("base/mine.yaml"), "extends: felidae4\nname: base\nseed: 7\n")
    made = make("other", base="base/mine.yaml", out="below/deeper/other.yaml")
    values, _ = read_yaml(made.path, "other")
    assert values["extends"] == "../../base/mine.yaml"
    assert prepare("below/deeper/other.yaml")[0].config.seed == 7
    values, _ = read_yaml(make("beside", base="base/mine.yaml", out="base/beside.yaml").path, "beside")
    assert values["extends"] == "./mine.yaml"


def test_no_path_of_the_machine_is_written_where_none_was_given(folder: Path) -> None:
    make()
    assert str(folder) not in Path("mine.yaml").read_text(encoding="utf-8")
    assert str(folder) not in Path("finetunekit.schema.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("label", ["it's: #1", '"quoted"', "лев 狮子 🦁", "null", "- a", "{x}", "two\nlines"])
def test_any_name_of_a_class_stays_a_name(label: str) -> None:
    write_counted_photos(Path("odd"), {".": 3}, (label, "other"))
    made = make(data="odd")
    assert set(made.counts) == {label, "other"}
    description = prepare(str(made.path))[0].config.description
    assert label.replace("\n", r"\n") in description
    assert [line for line in made.path.read_text(encoding="utf-8").splitlines() if line.startswith("lines")] == []


def test_many_classes_are_counted_and_the_description_stays_short() -> None:
    write_counted_photos(Path("many"), {".": 3}, tuple(f"class-{n:02d}" for n in range(50)))
    made = make(data="many")
    assert len(made.counts) == 50
    assert prepare(str(made.path))[0].config.description.endswith("class-07 and 42 more; as felidae4")
    assert "and 10 classes more" in made.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("photos", "draws", "chosen"),
    [
        (600, None, None),
        (600, 1584, 1800),
        (1584, 1584, None),
        (5000, 1584, None),
        (300, 1584, 1500),
        (60, 1584, 600),
        (12, 30, 24),
    ],
)
def test_an_epoch_is_whole_passes_as_near_to_the_base_as_they_come(
    photos: int, draws: int | None, chosen: int | None
) -> None:
    assert choose_draws(photos, draws) == chosen


# ---- what is refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        ({"data": "brids"}, DataError, r"brids: does not exist\. Did you mean 'birds'\?"),
        ({"data": "birds/train/robin"}, DataError, r"2|no class folders"),
        ({"data": "one"}, DataError, r"one: photos of 1 class\."),
        ({"name": "a/b"}, ConfigError, r"'a/b': a preset's name begins with"),
        ({"name": "-x"}, ConfigError, r"'-x': a preset's name begins with"),
        ({"name": "x" * 81}, ConfigError, r"at most 80 of them"),
        ({"base": "felidae5"}, ConfigError, r"unknown preset 'felidae5'\. Did you mean 'felidae4'\?"),
        ({"base": "gone.yaml"}, ConfigError, r"gone\.yaml: no such file"),
        ({"base": "broken.yaml"}, ConfigError, r"broken\.yaml:2: sead: unknown key\. Did you mean 'seed'\?"),
        ({"out": "mine"}, ConfigError, r"--out mine: a preset's file ends in \.yaml"),
        ({"out": "broken.yaml"}, ConfigError, r"broken\.yaml: exists and is not overwritten"),
        ({"out": "broken.yaml/x.yaml"}, FinetuneKitError, r"broken\.yaml/x\.yaml: (cannot be written|exists)"),
    ],
)
def test_what_cannot_be_is_one_clear_line_and_nothing_is_written(
    arguments: dict[str, str], kind: type[FinetuneKitError], says: str, folder: Path
) -> None:
    write(Path("broken.yaml"), "extends: felidae4\nsead: 3\n")
    write_counted_photos(Path("one"), {".": 5}, ("robin",))
    before = sorted(folder.rglob("*"))
    with pytest.raises(kind, match=says) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def test_a_file_that_is_there_stays_as_it_is() -> None:
    made = make()
    text = made.path.read_text(encoding="utf-8") + "seed: 9\n"
    made.path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.yaml: exists and is not overwritten\."):
        make()
    assert made.path.read_text(encoding="utf-8") == text


# ---- the command -----------------------------------------------------------------------------------------------------------------


def test_the_command_counts_the_photos_and_says_what_to_do_next() -> None:
    result = invoke("presets", "new", "mine", "--from", "felidae4", "--data", "flat")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()[:3]] == [
        ["class", "train", "valid", "test"],
        ["robin", "6", "2", "2"],
        ["wren", "6", "2", "2"],
    ]
    assert result.stdout.splitlines()[-1].strip() == "finetunekit run mine.yaml"
    assert "each class was split by name" in result.stderr
    assert invoke("plan", "mine.yaml").exit_code == 0


def test_the_list_of_presets_fits_80_columns_and_loses_no_word() -> None:
    lines = invoke("presets", "list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(" ".join(lines).split())
    for row in json.loads(invoke("presets", "list", "--json").stdout):
        assert f"{row['name']} {row['description']}" in said


def test_small_data_is_what_it_goes_over_where_nothing_else_is_said() -> None:
    result = invoke("presets", "new", "mine", "--data", "flat")
    assert result.exit_code == 0, result.stderr
    plan, _ = prepare("mine.yaml")
    assert (plan.config.description, plan.config.data.root) == ("robin, wren; as small-data", "flat")
    assert plan.config.stages == prepare("small-data")[0].config.stages


def test_a_class_that_a_split_lacks_is_refused_as_a_run_would(folder: Path) -> None:
    shutil.rmtree("birds/valid/wren")
    result = invoke("presets", "new", "mine", "--data", "birds")
    assert result.exit_code == invoke("run", "felidae4", "--set", "data.root=birds").exit_code != 0
    assert re.search(r"birds: class 'wren'.* valid", result.stderr)
    assert not list(folder.glob("*.yaml"))


def test_names_of_two_columns_a_letter_line_up_as_others_do() -> None:
    write_counted_photos(Path("cats"), {".": 10}, ("猫", "lynx"))
    result = invoke("presets", "new", "mine", "--data", "cats")
    rows = result.stdout.splitlines()[:3]
    assert len(set(map(terminal_width, rows))) == 1
    table = [line for line in Path("mine.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("#   ")]
    assert len({terminal_width(line) for line in table[:3]}) == 1


def test_the_command_loads_nothing_heavy(folder: Path) -> None:
    report = report_of(RUNNER, "presets new mine --from felidae4 --data birds", cwd=folder).popitem()[1]
    assert report["code"] == 0
    assert not set(HEAVY) & set(report["modules"])


def test_the_written_preset_runs(folder: Path) -> None:
    write(
        Path("tiny.yaml"),
        f"""\
        name: tiny
        plugins: [{TESTS / "tiny_plugin.py"}]
        data: {{source: folders, root: nowhere, otherwise: drawn}}
        pixels: {{size_px: 8, contract: zero_to_one}}
        backbone: {{name: tiny}}
        weights: {{mode: random}}
        head: {{name: gap_dense, units: 4}}
        train: {{batch_size: 4, draws_per_epoch: 20, validation_draws: 9}}
        stages: [{{epochs: 1, freeze: {{name: first_n, n: 2}}}}]
        expected: {{value: 0.9, source: nobody}}
        """,
    )
    invoke("presets", "new", "mine", "--from", "tiny.yaml", "--data", "birds", "--out", "presets/mine.yaml")
    first = Path("presets/mine.yaml").read_text(encoding="utf-8").splitlines()[0]
    result = invoke(*first.removeprefix("# finetunekit ").split(), "--quiet")
    assert result.exit_code == 0, result.stderr
    run = Path(result.stdout.splitlines()[-1])
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert (metrics["name"], metrics["classes"], metrics["stand_in"]) == ("mine", ["robin", "wren"], None)
    assert (metrics["last_epoch"]["draws"], metrics["last_epoch"]["val_draws"]) == (16, 4)


# ---- the page that shows it ------------------------------------------------------------------------------------------------------


def test_the_page_on_presets_shows_what_its_commands_do() -> None:
    """Its commands, one after the other, for the folder that it speaks of."""
    page = (TESTS.parent / "docs" / "presets.md").read_text(encoding="utf-8")
    write_counted_photos(Path("photos/birds"), {"train": 60, "valid": 20, "test": 20}, ("robin", "wren"))
    blocks = re.findall(r"```console\n(.+?)```", page, flags=re.DOTALL)
    shown = [line for block in blocks for line in block.splitlines()]
    printed: Iterator[str] = iter(())
    for line in filter(lambda line: line != "...", shown):
        if line.startswith("$ finetunekit "):
            result = invoke(*shlex.split(line.removeprefix("$ finetunekit ")))
            assert (result.exit_code, result.stderr) == (0, "")
            printed = iter(result.stdout.splitlines())
        else:
            assert line in printed, line
    (file,) = re.findall(r"<!-- file: birds.yaml -->\n```yaml\n(.+?)```", page, flags=re.DOTALL)
    assert file == Path("birds.yaml").read_text(encoding="utf-8")
