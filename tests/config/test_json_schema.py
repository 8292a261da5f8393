"""The JSON Schema of presets: what it accepts is what reaches a plan, and editors find it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from helpers_plugins import SMALL, invoke, write
from jsonschema import Draft202012Validator
from test_imports import HEAVY, RUNNER, report_of

from finetunekit.config.json_schema import preset_schema
from finetunekit.config.planning import prepare
from finetunekit.config.yaml_source import read_yaml
from finetunekit.errors import ConfigError
from finetunekit.plugins.host import PluginHost, load_plugins
from finetunekit.system.files import to_json

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "presets").rglob("*.yaml"))
SAMPLES = sorted((ROOT / "docs" / "samples").glob("*.yaml"))
EDITOR_LINE = "# yaml-language-server: $schema="


def host_of_this_project() -> PluginHost:
    return load_plugins(pytest.fail, disabled=frozenset({"all"}))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(preset_schema(host_of_this_project()))


def problems(validator: Draft202012Validator, yaml: str, folder: Path) -> list[str]:
    values, _ = read_yaml(write(folder / "checked.yaml", yaml), "checked.yaml")
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(values)]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(inner)


# ---- the schema itself -----------------------------------------------------------------------------------------------------------


def test_it_is_a_schema_of_its_dialect_and_the_same_plugins_give_the_same(validator: Draft202012Validator) -> None:
    Draft202012Validator.check_schema(validator.schema)
    assert validator.schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert to_json(preset_schema(host_of_this_project())) == to_json(validator.schema)


def test_every_reference_leads_to_a_definition_that_says_something(validator: Draft202012Validator) -> None:
    references = {found["$ref"] for found in walk(validator.schema) if isinstance(found.get("$ref"), str)}
    assert references
    for reference in references:
        name = unquote(reference.removeprefix("#/$defs/")).replace("~1", "/").replace("~0", "~")
        assert validator.schema["$defs"][name]
    assert "Component" not in validator.schema["$defs"]  # every component is checked against its own options


def test_every_key_and_option_has_its_description(validator: Draft202012Validator) -> None:
    host = host_of_this_project()
    described = {
        (key, meaning.get("description"))
        for found in walk(validator.schema)
        for key, meaning in (found.get("properties") or {}).items()
        if isinstance(meaning, dict)
    }
    entries = [entry for registry in host.registries.values() for entry in registry.values()]
    assert entries
    for entry in entries:
        for name, field in entry.options.model_fields.items():
            assert field.description
            assert (name, field.description) in described, f"{entry.name}.{name}"


# ---- the presets -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*SHIPPED, *SAMPLES], ids=lambda path: path.stem)
def test_each_preset_conforms(path: Path, validator: Draft202012Validator) -> None:
    values, _ = read_yaml(path, path.name)
    assert [error.message for error in validator.iter_errors(values)] == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_second_line_of_each_preset_leads_an_editor_to_the_schema_as_it_is(
    path: Path, validator: Draft202012Validator
) -> None:
    line = path.read_text(encoding="utf-8").splitlines()[1]
    assert line.startswith(EDITOR_LINE)
    found = (path.parent / line.removeprefix(EDITOR_LINE)).read_text(encoding="utf-8")
    assert found == to_json(validator.schema), "run: make docs"


# ---- what it accepts is what reaches a plan --------------------------------------------------------------------------------------

STANDING_ALONE = [
    "seed: 3",
    "seed: null",
    "head: {name: gap_dense, units: 9}",
    "backbone: {name: vgg16}\naugment: []",
    "augment: [{name: keras_generator, zoom_range: 0.2}, {name: keras_generator, brightness_range: [0.5, 1.5]}]",
    "augment: [{name: keras_generator, brightness_range: null}]",
    "expected: {value: 0.5, source: a paper}",
    "expected: null",
    "expected: {value: 0.5, source: a paper, metric: null}",
    "expected: {value: 0.5, source: a paper, metric: test_loss}",
    "train: {draws_per_epoch: null}",
    "data: {root: photos, options: {valid_fraction: 0.3}}",
    "data: {root: photos, otherwise: drawn}",
    "data: {source: drawn, options: {size_px: 32}}",
    "data: {source: null, root: photos}",
    "stages: [{epochs: 1}, {name: again, freeze: {name: all}, optimizer: {name: adamw, learning_rate: 1}}]",
    "stages: [{kind: solve}]",
    "stages: [{kind: solve, penalty: 0.1, folds: 3}, {kind: fit, epochs: 1, ema: null}]",
    "reports: [{name: learning_curves}, {name: confusion_matrix}]",
    "cache: {mode: bank, views: 8}\nsave: {h5: true}",
    "cache: null\nsave: {h5: null}\ndata: {root: photos, options: null}",
    "pixels: {resize: null}",
    "head: {name: gap_dense, units: null}",
    # and mistakes
    "head: null",
    "name: a/b",
    "seed: 1.5",
    'seed: "3"',
    "seed: -1",
    "sead: 3",
    "head: gap_dense",
    "head: {}",
    "head: {units: 9}",
    "head: {name: gap_dens}",
    "head: {name: gap_dense, unitz: 9}",
    "head: {name: gap_dense, units: many}",
    "augment: {name: keras_generator}",
    "augment: [{name: keras_generator, zoom_rnge: 0.2}]",
    "augment: [{name: keras_generator, zoom_range: null}]",
    "augment: [{zoom_range: 0.2}]",
    "augment: null\nreports: [confusion_matrix]",
    "expected: {value: 0.5}",
    "expected: {value: 1.5, source: x}",
    "data: {source: floders}",
    "data: {source: drawn, options: {valid_fraction: 0.3}}",
    "data: {root: photos, options: {size_px: 32}}",
    "data: {otherwise: drwn}",
    "stages: []",
    "stages: [{epochs: 0}]",
    "stages: [{epochs: null}]",
    "stages: [{freeze: {name: first_n, m: 3}}]",
    "stages: [{freeze: {n: 3}}]",
    "stages: [{kind: solve, epochs: 1}]",
    "stages: [{kind: solve, freeze: {name: all}}]",
    "stages: [{kind: solve, penalty: 0}]",
    "stages: [{solver: ridge}]",
    "stages: [{kind: fit, folds: 3}]",
    "stages: [{kind: slove}]",
    "stages: [{kind: null}]",
    "stages: [{kind: [fit]}]",
    "stages: [solve]",
    "precision: fp16",
    "pixels: {resize: cubic}",
    "weights: none",
    "backbone: null",
    "backbone: [vgg16]",
    "pixels: []",
    "data: {options: []}",
]


@pytest.mark.parametrize("change", STANDING_ALONE)
def test_a_file_that_stands_alone_conforms_exactly_where_it_reaches_a_plan(
    change: str, validator: Draft202012Validator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = {line.split(":")[0] for line in change.splitlines()}
    kept = [line for line in SMALL.splitlines() if line.split(":")[0] not in changed]
    assert_agreement("\n".join([*kept, change]) + "\n", validator, tmp_path)


OVER_ANOTHER = [
    "",
    "seed: null",
    "head: {units: 9}",
    "head: {units: null}",
    "head: {name: gap_dense}",
    "stages: [{epochs: 3}]",
    "pixels: {size_px: 64}",
    "pixels: {size_px: null, contract: backbone}",
    "pixels: null",
    "data: {root: elsewhere}",
    "data: {options: {split_seed: 4}}",
    "expected: {value: 0.8, correct: null, photos: null}",
    "augment: []",
    # and mistakes
    "head: {unitz: 9}",
    "head: {name: gap_dens}",
    "stages: [{epochs: 0}]",
    "pixels: {size: 64}",
    "data: {options: {speed: 4}}",
    "expected: {value: 80}",
    "seed: many",
    "extendz: felidae4",
]


@pytest.mark.parametrize("change", OVER_ANOTHER)
def test_a_file_that_extends_another_needs_to_say_only_what_it_changes(
    change: str, validator: Draft202012Validator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_agreement(f"extends: felidae4\n{change}\n", validator, tmp_path)


def assert_agreement(yaml: str, validator: Draft202012Validator, folder: Path) -> None:
    found = problems(validator, yaml, folder)
    assert bool(found) == bool(plan_problems("checked.yaml")), (found, plan_problems("checked.yaml"))


def plan_problems(preset: str) -> tuple[str, ...]:
    try:
        prepare(preset)
    except ConfigError as exc:
        return exc.problems
    return ()


def test_what_may_be_extended_is_a_known_preset_or_a_path(validator: Draft202012Validator, tmp_path: Path) -> None:
    for fine in ("felidae4", "felidae4-50px", "./mine.yaml", "mine.yaml", "../base/mine.yml"):
        assert problems(validator, f"extends: {fine}\n", tmp_path) == []
    for wrong in ("felidea4", "[felidae4]", "3"):
        assert problems(validator, f"extends: {wrong}\n", tmp_path)


def test_a_mistake_is_named_where_it_is_and_nothing_else_is(validator: Draft202012Validator, tmp_path: Path) -> None:
    (found,) = problems(validator, SMALL + "augment: [{name: keras_generator, zoom_rnge: 0.2}]\n", tmp_path)
    assert re.match(r"\$\.augment\[0\]: .*'zoom_rnge' was unexpected", found)


def test_each_kind_of_stage_offers_its_own_keys_and_no_other(validator: Draft202012Validator) -> None:
    offered = {
        kind: set(validator.schema["$defs"][f"{kind.title()}Stage (item)"]["properties"]) for kind in ("fit", "solve")
    }
    assert offered["fit"] & offered["solve"] == {"kind", "name", "revert_unless_better"}
    assert {"solver", "penalty", "folds"} <= offered["solve"]
    assert {"epochs", "freeze", "optimizer"} <= offered["fit"]


# ---- plugins of others -----------------------------------------------------------------------------------------------------------

PLUGIN = """
    from collections.abc import Callable
    from finetunekit import Options, hookimpl

    class Inner(Options):
        '''A model inside the options.'''
        depth: int
        below: "Inner | None" = None

    class MineOptions(Options):
        '''Options of mine.'''
        inner: Inner | None = None
        width: int = 3

    class OddOptions(Options):
        '''Options that no schema can say.'''
        call: Callable[[int], int] = abs

    def build(options, features, num_classes):
        raise NotImplementedError

    @hookimpl
    def register_heads(register):
        register("acme/mine", build, MineOptions)
        register("odd", build, OddOptions)
"""


def test_options_of_any_loaded_plugin_are_in_it_and_what_cannot_be_said_is_left_open(tmp_path: Path) -> None:
    said: list[str] = []
    host = load_plugins(said.append, disabled=frozenset({"all"}))
    host.load_file(write(tmp_path / "acme.py", PLUGIN))
    validator = Draft202012Validator(preset_schema(host))
    Draft202012Validator.check_schema(validator.schema)
    assert {re.sub(r"\(.*?\)", "", line).split(": ")[1] for line in said} == {"plugin 'acme' "}
    base = SMALL.replace("head: {name: gap_dense}\n", "")
    fine = [
        "name: acme/mine, inner: {depth: 1, below: {depth: 2}}",
        "name: acme/mine, width: null",
        "name: odd, call: 3",
    ]
    wrong = [
        "name: acme/mine, inner: {depth: 1, below: {dept: 2}}",
        "name: acme/mine, inner: {}",
        "name: acme/mine, widht: 3",
        "name: acme",
    ]
    assert [line for line in fine if problems(validator, f"{base}head: {{{line}}}\n", tmp_path)] == []
    assert [line for line in wrong if not problems(validator, f"{base}head: {{{line}}}\n", tmp_path)] == []


# ---- the command -----------------------------------------------------------------------------------------------------------------


def test_the_command_prints_it_or_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = invoke("schema")
    assert (printed.exit_code, printed.stderr) == (0, "")
    written = invoke("schema", "--out", "below/schema.json")
    assert written.stdout.strip() == str(Path("below/schema.json"))
    assert json.loads(Path("below/schema.json").read_text(encoding="utf-8")) == json.loads(printed.stdout)


def test_the_command_loads_nothing_heavy(tmp_path: Path) -> None:
    report = report_of(RUNNER, "schema", cwd=tmp_path)["schema"]
    assert report["code"] == 0
    assert not set(HEAVY) & set(report["modules"])
