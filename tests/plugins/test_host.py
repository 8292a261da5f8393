"""Discovery, isolation and blame: what a stranger's plugin, good or broken, does to the command."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest
from helpers_plugins import SMALL, command, install, invoke, write

from finetunekit.errors import PluginError, UnknownComponentError
from finetunekit.plugins import host as host_module
from finetunekit.plugins.host import PluginHost, load_plugins

GOOD_HEAD = """
    from finetunekit import hookimpl

    def build(options, features, num_classes):
        raise NotImplementedError

    @hookimpl
    def register_heads(register):
        register("{name}", build)
"""
RAISES_AT_IMPORT = "raise ValueError('no licence\\nfor this machine')"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on the module path, in which plugins are installed; the variables that steer loading are unset."""
    for variable in ("FINETUNEKIT_DISABLE_PLUGINS", "FINETUNEKIT_STRICT_PLUGINS", "FINETUNEKIT_TRACE"):
        monkeypatch.setenv(variable, "")  # set and not deleted, so that what the command sets is undone too
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def load(**arguments: object) -> tuple[PluginHost, list[str]]:
    warnings: list[str] = []
    return load_plugins(warnings.append, **arguments), warnings  # type: ignore[arg-type]


# ---- installed plugins -----------------------------------------------------------------------------------------------------------


def test_an_installed_plugin_is_listed_with_its_distribution_and_version(site: Path) -> None:
    install(site, "acme_listed", GOOD_HEAD.format(name="acme"))
    rows = json.loads(invoke("plugins", "list", "--json").stdout)["components"]
    (row,) = [row for row in rows if row["name"] == "acme"]
    assert (row["kind"], row["plugin"]) == ("head", "acme_listed")
    assert (row["distribution"], row["version"]) == ("acme-heads", "2.5")
    assert {row["distribution"] for row in rows if row["plugin"] == "builtin"} == {"finetunekit"}


def test_a_plan_takes_a_component_of_an_installed_plugin_and_says_where_it_came_from(site: Path) -> None:
    install(site, "acme_planned", GOOD_HEAD.format(name="acme"))
    write(site.parent / "small.yaml", SMALL.replace("gap_dense", "acme"))
    result = invoke("plan", "small.yaml")
    assert result.exit_code == 0
    assert any(line.split() == ["head", "acme", "from", "acme-heads", "2.5"] for line in result.stdout.splitlines())


def test_a_broken_plugin_is_one_warning_with_its_name_distribution_and_version(site: Path) -> None:
    install(site, "acme_broken", RAISES_AT_IMPORT)
    result = invoke("presets", "list")
    assert result.exit_code == 0
    assert "felidae4" in result.stdout
    assert result.stderr.splitlines() == [
        "warning: plugin 'acme_broken' (acme-heads 2.5) is not used: ValueError: no licence for this machine"
    ]


def test_a_broken_plugin_is_an_error_where_plugins_are_strict(site: Path) -> None:
    install(site, "acme_strict", RAISES_AT_IMPORT)
    result = invoke("--strict-plugins", "presets", "list")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error: plugin 'acme_strict' (acme-heads 2.5) is not used: ValueError: no licence for this machine"
    ]


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_run_that_needs_a_broken_plugin_fails_with_one_line_that_names_it(site: Path, verb: str) -> None:
    install(site, "acme_needed", RAISES_AT_IMPORT)
    write(site.parent / "small.yaml", SMALL.replace("gap_dense", "acme_head"))
    result = invoke(verb, "small.yaml")
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert result.exit_code == 2
    assert line.startswith("error: small.yaml:4: head: unknown head 'acme_head'.")
    assert "acme_needed (acme-heads 2.5): ValueError: no licence" in line
    assert not (site.parent / "runs").exists()


def test_a_plugin_that_calls_exit_while_it_is_imported_does_not_end_the_command(site: Path) -> None:
    install(site, "acme_exits", "raise SystemExit(7)")
    result = invoke("presets", "list")
    assert result.exit_code == 0
    assert "plugin 'acme_exits' (acme-heads 2.5) is not used: SystemExit: 7" in result.stderr


def test_an_entry_point_to_nowhere_is_a_warning(site: Path) -> None:
    install(site, "acme_gone", "")
    (site / "acme_gone.py").unlink()
    host, warnings = load()
    assert [broken.origin.plugin for broken in host.broken] == ["acme_gone"]
    assert warnings == [
        "warning: plugin 'acme_gone' (acme-heads 2.5) is not used: ModuleNotFoundError: No module named 'acme_gone'"
    ]


def test_a_plugin_of_a_process_of_its_own_is_found_by_its_metadata(site: Path) -> None:
    install(site, "acme_outside", RAISES_AT_IMPORT)
    result = command("plugins", "list", cwd=site.parent, path=site)
    assert result.returncode == 0
    assert "gap_dense" in result.stdout
    assert result.stderr.count("\n") == 1
    assert "acme_outside" in result.stderr


def test_disable_all_leaves_the_built_in_plugins(site: Path) -> None:
    install(site, "acme_off", "raise AssertionError('imported')")
    result = invoke("--disable-plugin", "all", "plugins", "list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "gap_dense" in result.stdout
    assert "acme_off" not in sys.modules


def test_disabling_one_plugin_leaves_the_others(site: Path) -> None:
    install(site, "acme_off_a", GOOD_HEAD.format(name="head_a"), distribution="acme-a")
    install(site, "acme_off_b", GOOD_HEAD.format(name="head_b"), distribution="acme-b")
    listed = invoke("--disable-plugin", "acme_off_a", "plugins", "list").stdout
    assert "head_b" in listed
    assert "head_a" not in listed


def test_disabling_the_shipped_plugins_leaves_nothing_that_the_core_would_name(site: Path) -> None:
    host, warnings = load(disabled=frozenset({"builtin", "efficientnet_lite", "keras_applications"}))
    assert all(not registry for registry in host.registries.values())
    assert (host.presets, warnings) == ({}, [])


# ---- what a plugin registers -----------------------------------------------------------------------------------------------------


def test_a_name_registered_twice_is_blamed_on_both_plugins(site: Path) -> None:
    install(site, "acme_dup_a", GOOD_HEAD.format(name="twice"), distribution="acme-a", version="1.0")
    install(site, "acme_dup_b", GOOD_HEAD.format(name="twice"), distribution="acme-b", version="2.0")
    host, (warning,) = load()
    assert (
        "head 'twice' is registered twice: by plugin 'acme_dup_a' (acme-a 1.0) and by 'acme_dup_b' (acme-b 2.0)"
        in warning
    )
    assert host.registries["head"]["twice"].origin.plugin == "acme_dup_a"


def test_a_stranger_cannot_replace_a_built_in_component(site: Path) -> None:
    # its name sorts before `builtin`: whatever the order, the stranger is blamed and the command goes on
    install(site, "a_first_by_name", GOOD_HEAD.format(name="gap_dense"))
    host, warnings = load()
    assert host.registries["head"]["gap_dense"].origin.distribution == "finetunekit"
    assert len(warnings) == 1
    assert "a_first_by_name" in warnings[0]
    assert "finetunekit" in warnings[0]


def test_a_plugin_may_not_register_a_name_twice_itself(site: Path) -> None:
    install(site, "acme_self", GOOD_HEAD.format(name="same") + '        register("same", build)\n')
    host, (warning,) = load()
    assert "head 'same' is registered twice" in warning
    assert "same" not in host.registries["head"]


def test_a_plugin_that_raises_while_registering_hides_nobody_and_leaves_nothing_behind(site: Path) -> None:
    half = """
        from finetunekit import hookimpl

        @hookimpl
        def register_heads(register):
            register("half_head", print)

        @hookimpl
        def register_freezing_policies(register):
            register("half_policy", print)
            raise RuntimeError("half way")

        @hookimpl
        def after_run(metrics, run_path):
            raise AssertionError("a rejected plugin was told")
    """
    install(site, "acme_half", half, distribution="acme-half", version="0.1")
    install(site, "zeta_whole", GOOD_HEAD.format(name="whole"), distribution="zeta", version="9")
    host, warnings = load()
    assert warnings == ["warning: plugin 'acme_half' (acme-half 0.1) is not used: RuntimeError: half way"]
    assert "whole" in host.registries["head"]
    assert "half_head" not in host.registries["head"]
    assert "half_policy" not in host.registries["freezing policy"]
    host.notify("after_run", metrics={}, run_path=site)
    assert len(warnings) == 1


def test_a_mistyped_hook_name_is_reported(site: Path) -> None:
    install(site, "acme_typo", GOOD_HEAD.format(name="typo").replace("register_heads", "register_haeds"))
    host, (warning,) = load()
    assert "acme_typo" in warning
    assert "register_haeds" in warning
    assert "typo" not in host.registries["head"]


def test_a_hook_with_an_argument_that_does_not_exist_is_reported(site: Path) -> None:
    install(
        site,
        "acme_argument",
        GOOD_HEAD.format(name="x").replace("register_heads(register)", "register_heads(register, config)"),
    )
    _, (warning,) = load()
    assert "acme_argument" in warning
    assert "config" in warning


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ('register("two words", print)', "a head's name is letters, digits"),
        ('register("", print)', "a head's name is letters, digits"),
        ('register("x", None)', "head 'x': the builder is not callable. Received: None"),
        ('register("x", print, dict)', "options must be a subclass of finetunekit.Options"),
        ('register("x", print, spec=1)', "spec must be a BackboneSpec for backbones, and absent otherwise"),
    ],
)
def test_a_registration_that_cannot_work_is_refused_where_it_is_made(site: Path, call: str, complaint: str) -> None:
    source = f"from finetunekit import hookimpl\n\n@hookimpl\ndef register_heads(register):\n    {call}\n"
    plugin = write(site / "bad_registration.py", source)
    with pytest.raises(PluginError, match="plugin 'bad_registration'") as caught:
        load(files=[plugin])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- plugin files ----------------------------------------------------------------------------------------------------------------


def test_a_plugin_file_is_found_beside_the_yaml_that_names_it(site: Path) -> None:
    write(site.parent / "presets" / "my_head.py", GOOD_HEAD.format(name="mine"))
    write(site.parent / "presets" / "mine.yaml", SMALL.replace("gap_dense", "mine") + "plugins: [./my_head.py]\n")
    result = invoke("plan", "presets/mine.yaml", "--json")
    assert result.exit_code == 0
    (head,) = [c for c in json.loads(result.stdout)["components"] if c["kind"] == "head"]
    assert (head["name"], head["plugin"], head["version"]) == ("mine", "my_head", None)
    assert head["distribution"].endswith("my_head.py")


def test_plugin_files_work_where_installed_plugins_are_off(site: Path) -> None:
    write(site.parent / "my_head.py", GOOD_HEAD.format(name="mine"))
    write(site.parent / "mine.yaml", SMALL.replace("gap_dense", "mine") + "plugins: [my_head.py]\n")
    assert invoke("--disable-plugin", "all", "plan", "mine.yaml").exit_code == 0


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (None, "no such file"),
        ("x = 1\ndef broken(:\n", "my_head.py:2: SyntaxError: invalid syntax"),
        (
            "import no_such_module_of_mine\n",
            "my_head.py:1: ModuleNotFoundError: No module named 'no_such_module_of_mine'",
        ),
        ("raise SystemExit\n", "my_head.py:1: SystemExit"),
        ("raise KeyboardInterrupt\n", "my_head.py:1: KeyboardInterrupt"),
        ("class Own(BaseException):\n    pass\nraise Own('no')\n", "my_head.py:3: Own: no"),
        (
            "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute\n",
            "my_head.py:4: Mute: Mute, which cannot say more",
        ),
        (
            GOOD_HEAD.format(name="x").replace("register_heads", "register_haeds"),
            "my_head.py:7: there is no hook 'register_haeds'. Did you mean 'register_heads'?",
        ),
        (
            GOOD_HEAD.format(name="x").replace("(register)", "(registre)"),
            "my_head.py:7: hook 'register_heads' has no argument 'registre'. Did you mean 'register'?",
        ),
        (
            GOOD_HEAD.format(name="x").replace(
                'register("x", build)', "[register(f'x{i}', build) for i in range(10**9)]"
            ),
            "it registers more than 1,000 names",
        ),
        (
            "from __future__ import annotations\n"
            "from finetunekit import Options, hookimpl\n"
            "class Own(Options):\n    x: Nowhere\n"
            "@hookimpl\ndef register_heads(register):\n    register('x', print, Own)\n",
            "my_head.py:7: head 'x': the fields of Own cannot be understood",
        ),
        ("def f():\n    return undefined\n\nx = f()\n", "my_head.py:2: NameError: name 'undefined' is not defined"),
        ("import json\njson.loads('{')\n", "my_head.py:2: JSONDecodeError: Expecting property name"),
        (GOOD_HEAD.format(name="two words"), "my_head.py:9: a head's name is letters, digits"),
    ],
)
def test_a_plugin_file_that_cannot_be_loaded_is_an_error_of_one_line(
    site: Path, source: str | None, complaint: str
) -> None:
    if source is not None:
        write(site.parent / "my_head.py", source)
    write(site.parent / "mine.yaml", SMALL + "plugins: [./my_head.py]\n")
    result = invoke("plan", "mine.yaml")
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
    assert "plugin 'my_head'" in result.stderr
    assert complaint in result.stderr


def test_a_plugin_that_never_ends_to_register_is_left_behind(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module, "LOAD_TIMEOUT_S", 0.2)
    endless = "while True:\n            try:\n                register('x', build)\n            except BaseException:\n                pass"
    install(site, "acme_endless", GOOD_HEAD.format(name="x").replace('register("x", build)', endless))
    host, (warning,) = load()
    assert "plugin 'acme_endless' (acme-heads 2.5) is not used: it has not answered within 0.2 s" in warning
    assert "x" not in host.registries["head"]


def test_a_hook_whose_mark_was_forgotten_is_said(site: Path) -> None:
    plugin = write(site.parent / "unmarked.py", "def register_heads(register):\n    pass\nafter_run = print\n")
    _, (warning,) = load(files=[plugin])
    assert warning == (
        f"warning: plugin 'unmarked' ({plugin}): unmarked.py:1: 'register_heads' is not marked with @finetunekit.hookimpl, so it is"
        " never called."
    )


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("x: int = 1\n        @field_validator('x')\n        def look(cls, x): raise KeyError('x')", "KeyError: 'x'"),
        ("x: Any = object()", "PydanticSerializationError"),
    ],
)
def test_options_that_fail_are_blamed_on_their_plugin(site: Path, field: str, complaint: str) -> None:
    source = (
        GOOD_HEAD.format(name="mine")
        .replace("def build", f"class Own(Options):\n        {field}\n\n    def build")
        .replace('"mine", build', '"mine", build, Own')
    )
    head = "from finetunekit import Options\nfrom typing import Any\nfrom pydantic import field_validator\n"
    write(site.parent / "my_head.py", head + textwrap.dedent(source))
    write(site.parent / "mine.yaml", SMALL.replace("gap_dense", "mine, x: 2") + "plugins: [my_head.py]\n")
    if "object" in field:
        write(site.parent / "mine.yaml", SMALL.replace("gap_dense", "mine") + "plugins: [my_head.py]\n")
    result = invoke("plan", "mine.yaml")
    assert result.exit_code == 3
    assert "head 'mine' of plugin 'my_head'" in result.stderr
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_plugin_file_that_failed_is_not_left_among_the_modules(site: Path) -> None:
    broken = write(site.parent / "left_behind.py", "raise ValueError('no')\n")
    with pytest.raises(PluginError, match="left_behind"):
        load(files=[broken])
    assert not [name for name in sys.modules if "left_behind" in name]


def test_two_plugin_files_of_one_name_are_refused_with_both_paths(site: Path) -> None:
    first = write(site.parent / "a" / "my_head.py", GOOD_HEAD.format(name="one"))
    second = write(site.parent / "b" / "my_head.py", GOOD_HEAD.format(name="two"))
    with pytest.raises(PluginError, match="Rename one of them") as caught:
        load(files=[first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


# ---- asking ----------------------------------------------------------------------------------------------------------------------


def test_an_unknown_name_suggests_the_nearest(site: Path) -> None:
    host, _ = load()
    with pytest.raises(UnknownComponentError, match=r"here: unknown head 'gap_dens'\. Did you mean 'gap_dense'\?"):
        host.find("head", "gap_dens", "here")


def test_hosts_share_nothing(site: Path) -> None:
    plugin = write(site.parent / "my_head.py", GOOD_HEAD.format(name="mine"))
    with_file, _ = load(files=[plugin])
    without, _ = load()
    assert "mine" in with_file.registries["head"]
    assert "mine" not in without.registries["head"]


def test_the_trace_switch_prints_each_hook_call_with_its_plugin(site: Path) -> None:
    result = command("presets", "list", cwd=site.parent, environment={"FINETUNEKIT_TRACE": "1"})
    traced = [line for line in result.stderr.splitlines() if line.startswith("trace: ")]
    assert result.returncode == 0
    assert len(traced) == len(result.stderr.splitlines())
    hooks = [line.split(" · ")[:2] for line in traced]
    assert hooks[0][0] == "trace: register_backbones"
    assert hooks[0][1].startswith("builtin (finetunekit ")
    assert (
        len({(hook, plugin) for hook, plugin in hooks}) == len(hooks) == 11
    )  # nine of the built-in ones, and one of each other
    assert "trace" not in result.stdout
