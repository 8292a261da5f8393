"""From YAML, `extends` and `--set` to a plan: what merges how, and what each mistake says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_plugins import SMALL, invoke, write

from finetunekit.config.plan import Plan
from finetunekit.config.plan_text import plan_lines
from finetunekit.config.planning import prepare
from finetunekit.config.preset import read_document
from finetunekit.errors import ConfigError, FinetuneKitError, UnknownComponentError
from finetunekit.plugins.host import load_plugins

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "presets").rglob("*.yaml"))
Problems = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test, with `base.yaml` in it."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "base.yaml", SMALL)
    return tmp_path


def plan(yaml: str = "", *settings: str, name: str = "mine.yaml") -> Plan:
    """A plan of `extends: base.yaml` and these lines."""
    write(Path(name), f"extends: base.yaml\n{yaml}")
    return prepare(name, settings=settings)[0]


def values(yaml: str = "", *settings: str) -> dict[str, Any]:
    write(Path("mine.yaml"), f"extends: base.yaml\n{yaml}")
    return read_document("mine.yaml", {}, settings).values


def problems(yaml: str, *settings: str) -> list[str]:
    """Every problem of a YAML file, each on one line."""
    Path("mine.yaml").write_text(yaml, encoding="utf-8")
    with pytest.raises(FinetuneKitError, match=r".") as caught:
        prepare("mine.yaml", settings=settings)
    assert isinstance(caught.value, ConfigError)
    assert caught.value.exit_code == 2
    lines = list(caught.value.problems)
    assert lines
    assert all("\n" not in line for line in lines)
    return lines


# ---- the presets of this project -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_each_preset_reaches_a_plan_and_opens_with_the_command_that_runs_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# finetunekit run ")
    _, _, *arguments = shlex.split(first.removeprefix("# "))
    assert arguments[0] == path.stem
    for verb in (["plan", *arguments], ["plan", str(path)]):
        result = invoke(*verb)
        assert (result.exit_code, result.stderr) == (0, "")
    made, _ = prepare(path.stem)
    assert made.config.name == path.stem
    assert made.config.description


def test_names_of_presets_are_unique() -> None:
    assert len({path.stem for path in SHIPPED}) == len(SHIPPED) > 0


def test_felidae4_is_the_published_experiment() -> None:
    made, _ = prepare("felidae4")
    config = made.config
    (stage,) = config.stages
    assert (config.pixels.size_px, config.pixels.resize, config.pixels.contract) == (100, "nearest", "zero_to_one")
    assert (config.train.batch_size, config.train.draws_per_epoch, config.train.validation_draws) == (32, 1584, 360)
    assert (stage.optimizer.name, stage.optimizer.learning_rate, stage.optimizer.momentum) == ("sgd", 1e-4, 0.9)
    assert made.stages[0].config is stage
    assert made.stages[0].freeze.options.model_dump() == {"n": 15}
    assert made.head.options.model_dump()["units"] == 1024
    augmentation = made.augment[0].options.model_dump()
    assert (augmentation["shear_range"], augmentation["zoom_range"], augmentation["horizontal_flip"]) == (
        0.2,
        0.2,
        True,
    )
    assert config.expected is not None
    assert config.expected.value == pytest.approx(147 / 160)


def test_felidae4_keeps_views_and_felidae4_exact_does_not() -> None:
    kept, exact = (prepare(name)[0].config for name in ("felidae4", "felidae4-exact"))
    assert (kept.cache.mode, kept.cache.views, kept.precision) == ("bank", 64, "auto")
    assert (exact.cache.mode, exact.precision, exact.deterministic) == ("exact", "float32", True)


# ---- extends ---------------------------------------------------------------------------------------------------------------------


def test_extends_merges_maps() -> None:
    assert values("data: {otherwise: drawn}")["data"] == {"source": "folders", "root": "photos", "otherwise": "drawn"}


def test_extends_replaces_lists() -> None:
    merged = values("stages: [{epochs: 7}]")["stages"]
    assert merged == [{"epochs": 7}]


def test_a_component_of_another_name_is_replaced_whole() -> None:
    Path("base.yaml").write_text(SMALL.replace("gap_dense}", "gap_dense, units: 9}"), encoding="utf-8")
    assert values("head: {name: other, width: 2}")["head"] == {"name": "other", "width": 2}
    assert values("head: {name: gap_dense, dropout: 0.5}")["head"] == {"name": "gap_dense", "units": 9, "dropout": 0.5}
    assert values("head: {dropout: 0.5}")["head"] == {"name": "gap_dense", "units": 9, "dropout": 0.5}


def test_null_removes() -> None:
    Path("base.yaml").write_text(SMALL + "seed: 5\nsave: {h5: true}\n", encoding="utf-8")
    assert plan("seed: null").config.seed == 0
    assert plan("save: {h5: null}").config.save.h5 is False
    assert plan("save: null").config.save.h5 is False


def test_null_removes_what_is_required_and_the_error_says_so() -> None:
    assert problems("extends: base.yaml\nhead: null\n") == ["mine.yaml:2: head: is required."]


def test_extends_goes_over_several_files_each_relative_to_its_own() -> None:
    write(Path("below/middle.yaml"), "extends: ../base.yaml\nseed: 1\nprecision: bfloat16\n")
    write(Path("top.yaml"), "extends: below/middle.yaml\nseed: 2\n")
    made, _ = prepare("top.yaml")
    assert (made.config.seed, made.config.precision, made.config.name) == (2, "bfloat16", "small")


def test_a_preset_extends_another_by_name() -> None:
    write(Path("mine.yaml"), "extends: felidae4\nname: mine\n")
    assert prepare("mine.yaml")[0].config.train.draws_per_epoch == 1584


def test_plugin_files_stay_relative_to_the_yaml_that_wrote_them() -> None:
    write(Path("below/middle.yaml"), "extends: ../base.yaml\nplugins: [./beside.py]\n")
    write(Path("top.yaml"), "extends: below/middle.yaml\n")
    assert read_document("top.yaml", {}).plugin_files == (Path("below/beside.py").resolve(),)


def test_each_error_cites_the_file_that_its_value_came_from() -> None:
    Path("base.yaml").write_text(SMALL.replace("epochs: 1", "epochs: 0"), encoding="utf-8")
    first, second = problems("extends: base.yaml\n\nseed: -1\n")
    assert {first.split(": ")[0], second.split(": ")[0]} == {"base.yaml:5", "mine.yaml:3"}


def test_a_file_that_extends_itself_is_refused() -> None:
    write(Path("a.yaml"), "extends: b.yaml\n")
    write(Path("b.yaml"), "extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: extends itself, by way of a\.yaml, b\.yaml\."):
        prepare("a.yaml")


def test_an_unknown_base_is_refused_with_its_line() -> None:
    with pytest.raises(
        UnknownComponentError, match=r"mine\.yaml:2: extends: unknown preset 'felidea4'\. Did you mean 'felidae4'\?"
    ):
        prepare(str(write(Path("mine.yaml"), "name: x\nextends: felidea4\n")))
    assert problems("extends: ./gone.yaml\n")[0].startswith("mine.yaml:1: extends: ./gone.yaml: no such file.")
    assert problems("extends: [a, b]\n")[0].startswith("mine.yaml:1: extends: a preset's name or a path.")


# ---- --set -----------------------------------------------------------------------------------------------------------------------


def test_set_takes_paths_lists_and_yaml_values() -> None:
    config = plan(
        "augment: [{name: keras_generator}]",
        "stages[0].optimizer.learning_rate=1e-3",
        "data.root=elsewhere",
        "train={batch_size: 4, draws_per_epoch: 8}",
        "save.h5=true",
        "description='1'",
        "augment[0].zoom_range=0.1",
    ).config
    assert config.stages[0].optimizer.learning_rate == 1e-3
    assert config.data.root == "elsewhere"
    assert (config.train.batch_size, config.train.draws_per_epoch) == (4, 8)
    assert config.save.h5 is True
    assert config.description == "1"
    assert config.augment[0].options == {"zoom_range": 0.1}


def test_set_follows_the_rules_of_extends() -> None:
    assert values("", "head.name=other")["head"] == {"name": "other"}
    assert values("", "stages[0].freeze.name=all")["stages"][0]["freeze"] == {"name": "all"}
    assert "root" not in values("", "data.root=null")["data"]
    assert values("", "stages=[{epochs: 3}]")["stages"] == [{"epochs": 3}]


def test_later_settings_go_over_earlier_ones_and_none_change_the_file() -> None:
    assert plan("", "seed=1", "seed=2").config.seed == 2
    assert plan("").config.seed == 0


def test_a_setting_of_one_stage_leaves_the_others() -> None:
    both = values("stages: [{name: a, epochs: 1}, {name: b, epochs: 2}]", "stages[1].epochs=9")["stages"]
    assert both == [{"name": "a", "epochs": 1}, {"name": "b", "epochs": 9}]


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("nope=1", "--set nope: unknown key."),
        ("train.batch_sise=4", "--set train.batch_sise: unknown key. Did you mean 'batch_size'?"),
        ("head.unitz=4", "--set head.unitz: unknown option. Did you mean 'units'?"),
        ("head.units=many", "--set head.units: "),
        ("seed=1.5", "--set seed: "),
        ("seed", "--set seed: needs the form a.b=VALUE."),
        ("=1", "--set : not a path of the form a.b[0].c."),
        ("a..b=1", "--set a..b: not a path"),
        ("stages[x].epochs=1", "--set stages[x].epochs: not a path"),
        ("stages[3].epochs=1", "--set stages[3].epochs: stages has 1 items."),
        ("head[0]=1", "--set head[0]: head is not a list."),
        ("name.first=1", "--set name.first: name"),
        ("seed=[1", "--set seed: not valid YAML"),
        ("extends=felidae4", "--set extends: not possible here"),
    ],
)
def test_a_mistake_in_a_setting_cites_the_setting(setting: str, problem: str) -> None:
    (line,) = problems("extends: base.yaml\n", setting)
    assert line.startswith(problem)


def test_all_settings_that_cannot_be_applied_are_named_at_once() -> None:
    lines = problems("extends: base.yaml\n", "seed", "stages[9].epochs=1", "seed=[")
    assert [line.split(": ")[0] for line in lines] == ["--set seed", "--set stages[9].epochs", "--set seed"]


# ---- a root that was meant -------------------------------------------------------------------------------------------------------


def test_the_stand_in_is_for_the_root_that_stands_beside_it() -> None:
    assert plan("data: {otherwise: drawn}").stand_in is not None
    assert prepare("felidae4")[0].stand_in is not None


def test_a_root_named_later_drops_the_stand_in_so_that_a_mistyped_one_is_an_error() -> None:
    assert prepare("felidae4", settings=["data.root=my/photos"])[0].stand_in is None
    write(Path("mine.yaml"), "extends: felidae4\nname: mine\ndata: {root: my/photos}\n")
    assert prepare("mine.yaml")[0].stand_in is None


def test_the_stand_in_stays_where_the_later_layer_asks_for_it_or_names_no_root() -> None:
    write(Path("mine.yaml"), "extends: felidae4\nname: mine\ndata: {root: my/photos, otherwise: drawn}\n")
    assert prepare("mine.yaml")[0].stand_in is not None
    assert prepare("felidae4", settings=["data.root=my", "data.otherwise=drawn"])[0].stand_in is not None
    assert prepare("felidae4", settings=["data.max_photo_pixels=1000"])[0].stand_in is not None


def test_a_mistyped_root_fails_and_no_stand_in_is_drawn(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("FINETUNEKIT_CACHE", str(folder / "cache"))
    monkeypatch.setenv("FINETUNEKIT_STATE", str(folder / "state"))
    result = invoke("run", "felidae4", "--set", "data.root=imagse")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 2
    assert "imagse" in line
    assert not (folder / "cache" / "drawn").exists()


# ---- one file's mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replaced", "by", "problem"),
    [
        ("epochs: 1", "epochz: 1", "mine.yaml:5: stages[0].epochz: unknown key. Did you mean 'epochs'?"),
        ("name: small", "naem: small", "mine.yaml:1: naem: unknown key. Did you mean 'name'?"),
        ("n: 15", "m: 15", "mine.yaml:5: stages[0].freeze.m: unknown option. Allowed: n."),
        ("gap_dense", "gap_dens", "mine.yaml:4: head: unknown head 'gap_dens'. Did you mean 'gap_dense'?"),
        ("vgg16", "vgg61", "mine.yaml:3: backbone: unknown backbone 'vgg61'. Did you mean 'vgg16'?"),
        (
            "first_n",
            "frist_n",
            "mine.yaml:5: stages[0].freeze: unknown freezing policy 'frist_n'. Did you mean 'first_n'?",
        ),
        ("folders", "folder", "mine.yaml:2: data: unknown data source 'folder'. Did you mean 'folders'?"),
        ("backbone: {name: vgg16}", "", "mine.yaml: backbone: is required."),
        ("head: {name: gap_dense}", "head: {}", "mine.yaml:4: head.name: is required."),
        ("epochs: 1", 'epochs: "3"', 'mine.yaml:5: stages[0].epochs: should be a valid integer. Received: "3"'),
        ("epochs: 1", "epochs: true", "mine.yaml:5: stages[0].epochs: should be a valid integer. Received: true"),
        ("epochs: 1", "kind: slove", "mine.yaml:5: stages[0].kind: unknown kind 'slove'. Did you mean 'solve'?"),
        ("epochs: 1", "kind: 3", "mine.yaml:5: stages[0].kind: unknown kind '3'. Allowed: fit, solve."),
        ("epochs: 1", "kind: solve", "mine.yaml:5: stages[0].freeze: a solve stage has no `freeze`, a fit stage has."),
        (
            "epochs: 1",
            "solver: ridge",
            "mine.yaml:5: stages[0].solver: a fit stage has no `solver`, a solve stage has.",
        ),
        ("epochs: 1", "penaltyy: 1", "mine.yaml:5: stages[0].penaltyy: unknown key. Allowed: class_weights, "),
        ("epochs: 1", "epochs: 0", "mine.yaml:5: stages[0].epochs: should be greater than or equal to 1. Received: 0"),
        ("name: small", "name: a/b", "mine.yaml:1: name: "),
        ("head: {name: gap_dense}", "head: gap_dense", "mine.yaml:4: head: "),
        ("stages: [{", "stages: [1, {", "mine.yaml:5: stages[0]: "),
        ("root: photos", "root: [a]", "mine.yaml:2: data.root: should be a valid string."),
        ("root: photos", 'root: ""', "mine.yaml:2: data.root: "),
    ],
)
def test_a_mistake_is_one_line_with_file_line_path_and_the_fix(replaced: str, by: str, problem: str) -> None:
    assert replaced in SMALL
    lines = problems(SMALL.replace(replaced, by))
    assert any(line.startswith(problem) for line in lines), lines
    # one mistake is one line: a stage that is wrong does not make the list of stages too short as well
    assert len(lines) == (2 if by.startswith(("naem", "m:")) else 1), lines


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pixels: {size_px: 16}", "mine.yaml:6: pixels.size_px: VGG16 needs at least 32 px. Received: 16"),
        (
            "pixels: {resize: cubic}",
            "mine.yaml:6: pixels.resize: should be 'nearest', 'bilinear', 'bicubic', 'lanczos' or 'box'.",
        ),
        ("precision: fp16", "mine.yaml:6: precision: should be 'auto', 'float32' or 'bfloat16'. Received: \"fp16\""),
        ("seed: 4294967296", "mine.yaml:6: seed: should be less than 4294967296. Received: 4294967296"),
        (
            "augment: [{name: keras_generator, zoom_rnge: 1}]",
            "mine.yaml:6: augment[0].zoom_rnge: unknown option. Did you mean 'zoom_range'?",
        ),
        ("augment: {name: keras_generator}", "mine.yaml:6: augment: should be a valid"),
        ("reports: [{name: confusion_matrx}]", "mine.yaml:6: reports[0]: unknown reporter 'confusion_matrx'."),
        ("weights: {mode: imagenet}", "mine.yaml:6: weights.mode: should be 'pretrained' or 'random'."),
        ("weights: none", "mine.yaml:6: weights: "),
        (
            "expected: {value: 1.5, source: x}",
            "mine.yaml:6: expected.value: should be less than or equal to 1. Received: 1.5",
        ),
        ("data: {}", "mine.yaml:6: not valid YAML: found duplicate key"),
        ("seed: 2026-01-01", "mine.yaml:6: seed: "),
        ("seed: .nan", "mine.yaml:6: seed: "),
        ("seed: .inf", "mine.yaml:6: seed: "),
        ("seed: !!python/object:os.system x", "mine.yaml:6: "),
    ],
)
def test_a_bad_value_says_what_is_allowed(line: str, problem: str) -> None:
    (found,) = problems(SMALL + line + "\n")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"mine\.yaml: is empty\."),
        ("# only a comment\n", r"mine\.yaml: is empty\."),
        ("- a\n- b\n", r"mine\.yaml:1: a configuration is a map of keys\."),
        ("just text\n", r"mine\.yaml:1: a configuration is a map of keys\."),
        ("name: [\n", r"mine\.yaml:\d: not valid YAML: "),
        ("name: a\nname: b\n", r"mine\.yaml:2: not valid YAML: found duplicate key"),
        ("data:\n\troot: x\n", r"mine\.yaml:2: not valid YAML: .*tab|mine\.yaml:2: not valid YAML: found character"),
        ("a: *nowhere\n", r"mine\.yaml:1: not valid YAML: .*nowhere"),
        ("--- {a: 1}\n--- {b: 2}\n", r"mine\.yaml:\d: not valid YAML: "),
        ("name: \x00\n", r"mine\.yaml(:\d)?: not valid YAML: "),
    ],
)
def test_what_is_no_configuration_is_refused_with_its_line(text: str, problem: str) -> None:
    (line,) = problems(text)
    assert re.match(problem, line), line


def test_a_file_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "mine.yaml").write_bytes(b"name: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: not UTF-8 text \(byte 6\)"):
        prepare("mine.yaml")


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder: Path) -> None:
    (folder / "mine.yaml").write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert prepare("mine.yaml")[0].config.name == "small"


def test_a_folder_and_a_missing_file_are_refused(folder: Path) -> None:
    (folder / "folder.yaml").mkdir()
    for name in ("folder.yaml", "gone.yaml", "./gone"):
        with pytest.raises(ConfigError, match=r"no such file\. Give a YAML file or a preset's name \(.*felidae4"):
            prepare(name)


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    (line,) = problems("\n".join(lines) + "\n")
    assert "too many or too deeply nested values" in line
    (line,) = problems("a: " + "[" * 300 + "]" * 300 + "\n")
    assert "nested" in line or "recursion" in line


def test_anchors_merge_keys_and_ordinary_aliases_work() -> None:
    yaml = SMALL.replace("stages: [", "stages: [&first ").replace("n: 15}}]", "n: 15}}, {<<: *first, name: again}]")
    Path("mine.yaml").write_text(yaml, encoding="utf-8")
    first, second = prepare("mine.yaml")[0].config.stages
    assert (second.name, second.epochs) == ("again", first.epochs)


def test_numbers_are_those_of_yaml_1_2() -> None:
    config = plan("description: no\nstages: [{optimizer: {learning_rate: 1e-4}}]").config
    assert config.stages[0].optimizer.learning_rate == 1e-4
    assert config.description == "no"
    assert plan("stages: [{optimizer: {learning_rate: 1}}]").config.stages[0].optimizer.learning_rate == 1.0


def test_all_problems_of_a_file_are_named_at_once(folder: Path) -> None:
    write(
        folder / "mine.yaml",
        """\
        name: small
        data: {source: floders, root: photos}
        backbone: {name: vgg61}
        head: {name: gap_dense, units: many}
        augment:
          - {name: keras_generator, zoom_rnge: 0.2}
          - {name: blur}
        stages:
          - {epochs: 0, freeze: {name: first_n, n: -1}}
        reports: [{name: confusion_matrix, colour: red}]
        sead: 3
        """,
    )
    result = invoke("plan", "mine.yaml")
    lines = result.stderr.splitlines()
    places = ["2: data", "3: backbone", "4: head.units", "6: augment[0].zoom_rnge", "7: augment[1]"]
    places += ["9: stages[0].epochs", "9: stages[0].freeze.n", "10: reports[0].colour", "11: sead"]
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sorted(line.split(": ")[1] + ": " + line.split(": ")[2] for line in lines) == sorted(
        f"mine.yaml:{p}" for p in places
    )
    assert all(line.startswith("error: ") for line in lines)


# ---- names -----------------------------------------------------------------------------------------------------------------------


def test_a_name_is_a_preset_and_what_looks_like_a_path_is_a_path() -> None:
    write(Path("felidae4"), "name: trap\n")
    assert prepare("felidae4")[0].config.name == "felidae4"
    write(Path("felidae4.yaml"), SMALL)
    assert prepare("felidae4.yaml")[0].config.name == "small"
    with pytest.raises(UnknownComponentError, match=r"unknown preset 'felidae'\. Did you mean 'felidae4'\?"):
        prepare("felidae")


def test_a_plan_says_which_values_are_defaults_and_what_each_came_from() -> None:
    lines = list(plan_lines(plan("head: {units: 7}")))
    assert any(line.split() == ["units:", "7"] for line in lines)
    assert any(line.split() == ["dropout:", "0.0", "(default)"] for line in lines)
    assert any(line.split()[:2] == ["head", "gap_dense"] and "from finetunekit" in line for line in lines)


def test_a_crop_is_the_backbones_own_unless_another_is_named() -> None:
    def crop_of(*settings: str) -> float | None:
        plan, _ = prepare("felidae4-fast", settings=settings)
        assert plan.to_dict()["config"]["pixels"]["crop_pct"] == plan.config.pixels.crop_pct
        return plan.config.pixels.crop_pct

    assert crop_of("pixels.fit=crop") == 0.875
    assert crop_of("pixels.fit=crop", "backbone={name: efficientnet_lite2}", "pixels.size_px=260") == 260 / 292
    assert crop_of("pixels.fit=crop", "pixels.crop_pct=1") == 1.0
    assert crop_of("pixels.fit=stretch") is None
    assert "crop_pct: 0.875  (default)" in "\n".join(
        plan_lines(prepare("felidae4-fast", settings=["pixels.fit=crop"])[0])
    )
    with pytest.raises(ConfigError, match=r"crop_pct is for fit: crop; fit is stretch"):
        prepare("felidae4-fast", settings=["pixels.fit=stretch", "pixels.crop_pct=0.9"])


def test_presets_come_from_plugins_and_the_core_has_none() -> None:
    assert {path.stem for path in SHIPPED} <= set(load_plugins(pytest.fail).presets)
    assert load_plugins(pytest.fail, disabled=frozenset({"builtin"})).presets == {}
