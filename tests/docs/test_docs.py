"""What the documentation shows is what happens: samples run, outputs are real, generated pages are current, links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from helpers_plugins import invoke

from finetunekit import Features, PluginError
from finetunekit.plugins.host import load_plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SAMPLES = DOCS / "plugins" / "samples"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
WRITING = (DOCS / "plugins" / "writing.md").read_text(encoding="utf-8")

#: The entry point of `python -m`, and the root's re-export of a room's module: on a floor, but nothing lives there.
SMALL_FLOORS = {"__main__", "hookspecs"}


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_architecture_page_shows_the_rooms_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (checked,) = (contract["layers"] for contract in settings["contracts"] if contract["id"] == "rooms")
    table = (
        (DOCS / "architecture.md").read_text(encoding="utf-8").split("| room | what lives there |\n| --- | --- |\n")[1]
    )
    rows = (line.split("|")[1] for line in table.split("\n\n")[0].splitlines())
    shown = [name.removesuffix(".py") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert shown == [name for layer in checked for name in re.findall(r"\w+", layer) if name not in SMALL_FLOORS]


def test_a_change_of_a_generated_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = generator()
    page = tmp_path / "plugins" / "hooks.md"
    page.parent.mkdir()
    page.write_text(module.render_hooks().replace("### register_heads", "### register_head"), encoding="utf-8")
    monkeypatch.setattr(module, "PAGES", {"plugins/hooks.md": module.render_hooks})
    monkeypatch.setattr(module, "DOCS", tmp_path)
    difference = module.out_of_date()["plugins/hooks.md"]
    assert "-### register_head\n+### register_heads" in difference


@pytest.mark.parametrize("shown", re.findall(r"<!-- file: (.+?) -->", WRITING))
def test_a_sample_on_a_page_is_the_file(shown: str) -> None:
    block = WRITING.split(f"<!-- file: {shown} -->\n", 1)[1].split("```", 2)[1].split("\n", 1)[1]
    assert block == (DOCS / "plugins" / shown).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```console\n(.+?)```", WRITING, flags=re.DOTALL))
def test_an_output_on_a_page_is_what_the_command_prints(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SAMPLES)
    command, *shown = block.splitlines()
    result = invoke(*shlex.split(command.removeprefix("$ finetunekit ")))
    printed = iter((result.stdout + result.stderr).splitlines())
    for line in filter(lambda line: line != "...", shown):
        pattern = ".*".join(map(re.escape, line.split("...")))
        assert any(re.fullmatch(pattern, candidate) for candidate in printed), line


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_a_sample_preset_reaches_a_plan_from_any_folder(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke("plan", str(sample))
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"plan of {sample.stem} " in result.stdout


def test_the_sample_head_builds_logits_and_refuses_what_it_does_not_understand() -> None:
    import keras

    host = load_plugins(pytest.fail, files=[SAMPLES / "my_head.py"])
    head = host.find("head", "gap_linear", "test")
    options = head.options.model_validate({"dropout": 0.5})
    features = keras.Input((3, 3, 8))
    logits = head.build(options, Features(features, "map"), 4)
    assert (logits.shape, logits.dtype) == ((None, 4), "float32")
    assert keras.Model(features, logits).layers[-1].activation is keras.activations.linear
    with pytest.raises(PluginError, match="this backbone gives tokens"):
        head.build(options, Features(features, "tokens"), 4)


def test_the_sample_layer_is_trained_with_its_head() -> None:
    import keras

    head = load_plugins(pytest.fail, files=[SAMPLES / "my_layer.py"]).find("head", "gated", "test")
    features = keras.Input((3, 3, 8))
    model = keras.Model(features, head.build(head.options(), Features(features, "map"), 4))
    assert [weight.path for weight in model.trainable_variables] == [
        "gate/kernel", "gate/bias", "logits/kernel", "logits/bias",
    ]  # fmt: skip
    with pytest.raises(PluginError, match="this backbone gives tokens"):
        head.build(head.options(), Features(features, "tokens"), 4)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_readme_shows_files_that_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset and the head of the README are files, shown to the letter, and the one reaches a plan with the other."""
    samples = Path(__file__).parents[2] / "docs" / "samples"
    readme = (samples.parents[1] / "README.md").read_text(encoding="utf-8")
    for name in ("preset.yaml", "head.py"):
        assert (samples / name).read_text(encoding="utf-8") in readme
    monkeypatch.chdir(tmp_path)
    result = invoke(
        "plan",
        str(samples / "preset.yaml"),
        "--set",
        f"plugins=[{samples / 'head.py'}]",
        "--set",
        "head={name: gap_linear}",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert "gap_linear" in result.stdout
