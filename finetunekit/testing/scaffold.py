"""A plugin to begin with: a package that can be installed, or one file."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from finetunekit.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True)
class _Seam:
    """What differs between kinds.

    Attributes:
        title: As registries call it.
        yaml: How a preset uses the component.
        check: Name of its check in `finetunekit.testing`.
        arguments: What the check is given besides builder and options.
    """

    title: str
    yaml: str
    check: str
    arguments: str = ""


_SEAMS = {
    "backbone": _Seam("backbone", "backbone: {name: $name}\nweights: {mode: random}", "check_backbone", ", spec=SPEC"),
    "head": _Seam("head", "head: {name: $name}", "check_head"),
    "freezing-policy": _Seam(
        "freezing policy", "stages: [{epochs: 5, freeze: {name: $name}}]", "check_freezing_policy"
    ),
    "augmentation": _Seam("augmentation", "augment: [{name: $name}]", "check_augmentation"),
    "reporter": _Seam("reporter", "reports: [{name: $name}]", "check_reporter"),
    "tracker": _Seam("tracker", "track: [{name: $name}]", "check_tracker"),
    "data-source": _Seam(
        "data source",
        "data: {source: $name, root: photos}",
        "check_data_source",
        ', root=tiny_photos(tmp_path / "photos")',
    ),
    "executor": _Seam("executor", "executor: {name: $name}", "check_executor"),
    "exporter": _Seam("exporter", "export: {to: [{name: $name}]}", "check_exporter"),
    "listener": _Seam("listener", "# nothing: every run tells it what happens", "check_listener"),
}
#: What `finetunekit plugins new` can make.
KINDS = tuple(_SEAMS)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


def title_of(kind: str) -> str:
    """How registries call a kind."""
    return _SEAMS[kind].title


def check_name(name: str) -> None:
    """Check that a name can be a module, a component and, with hyphens, a distribution.

    Raises:
        ConfigError: If it is not lower-case letters, digits and underscores, or is taken by Python or by another module.
    """
    if not _NAME.fullmatch(name):
        likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        hint = did_you_mean(name, [likely]) if _NAME.fullmatch(likely) else ""
        raise ConfigError(
            f"'{name}': a plugin's name is lower-case letters, digits and _, at most 60, beginning with a letter.{hint}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in sys.stdlib_module_names or name == "test":
        raise ConfigError(f"'{name}': is a word of Python's own. Choose another name.")
    if importlib.util.find_spec(name) is not None:
        raise ConfigError(f"'{name}': there is a module of that name already. Choose another name.")


def render_module(kind: str, name: str) -> str:
    """The plugin's module."""
    source = _template(f"{kind.replace('-', '_')}.py")
    camel = "".join(part.capitalize() for part in name.split("_"))
    return _as_outsider(source).replace("my_component", name).replace("MyComponent", camel)


def _as_outsider(source: str) -> str:
    """Imports in the order that a formatter gives them where finetunekit is one package among others."""
    others, own = (
        r"((?:import .+\n)*)((?:from (?!finetunekit).+ import .+\n)+)",
        r"((?:from finetunekit.* import .+\n)+)",
    )
    found = re.search(rf"\n\n{others}\n{own}", source)
    assert found is not None  # every template imports finetunekit and something before it
    modules, names, ours = found.groups()
    if names.split()[1].partition(".")[0] in sys.stdlib_module_names:
        return source  # which imports no package but finetunekit
    return source.replace(found.group(), f"\n\n{modules}{ours}{names}")


def render_package(kind: str, name: str, version: str) -> dict[str, str]:
    """Path in the package's folder → text.

    Args:
        kind: One of `KINDS`.
        name: Checked by `check_name`.
        version: Least version of finetunekit that it asks for.
    """
    seam = _SEAMS[kind]
    values = {
        "name": name,
        "distribution": name.replace("_", "-"),
        "kind": seam.title,
        "version": version,
        "yaml": Template(seam.yaml).substitute(name=name),
        **_test_values(seam, name),
    }
    return {
        "pyproject.toml": Template(_template("pyproject.toml.txt")).substitute(values),
        "README.md": Template(_template("README.md.txt")).substitute(values),
        f"{name}.py": render_module(kind, name),
        f"tests/test_{name}.py": Template(_template("test.py.txt")).substitute(values),
    }


def _test_values(seam: _Seam, name: str) -> dict[str, str]:
    if seam.title == "listener":
        values = {"standard": "", "functions": seam.check, "imports": f"import {name}", "parameters": ""}
        return {**values, "check": f"{seam.check}({name})"}
    options = "".join(part.capitalize() for part in name.split("_")) + "Options"
    needs_folder = "tmp_path" in seam.arguments
    names = [*(["SPEC"] if "SPEC" in seam.arguments else []), options, f"build_{name}"]
    return {
        "standard": "\nfrom pathlib import Path\n" if needs_folder else "",
        "functions": f"{seam.check}, tiny_photos" if needs_folder else seam.check,
        "imports": f"from {name} import {', '.join(names)}",
        "parameters": "tmp_path: Path" if needs_folder else "",
        "check": f"{seam.check}(build_{name}, {options}(){seam.arguments})",
    }


def _template(name: str) -> str:
    return (resources.files("finetunekit.testing") / "templates" / name).read_text(encoding="utf-8")


def write_plugin(kind: str, name: str, directory: Path, *, is_file: bool, version: str) -> tuple[Path, ...]:
    """Write a plugin: `directory/<name>/`, a package, or `directory/<name>.py`.

    Args:
        kind: One of `KINDS`.
        name: Of the module and of the component.
        directory: Made if it is not there.
        is_file: One file instead of a package.
        version: Least version of finetunekit that a package asks for.

    Returns:
        The files written.

    Raises:
        ConfigError: If the name cannot be used, something of that name is there already, or the folder cannot be written.
    """
    check_name(name)
    home = directory if is_file else directory / name
    target = directory / f"{name}.py" if is_file else home
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target}: already exists, and is not overwritten. Choose another name or --directory.")
    files = {f"{name}.py": render_module(kind, name)} if is_file else render_package(kind, name, version)
    try:
        _write(home, files)
    except OSError as exc:
        raise ConfigError(f"{target}: cannot be written ({exc.strerror or exc}). Choose another --directory.") from exc
    return tuple(home / path for path in files)


def _write(home: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        with (home / path).open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)


def next_steps(kind: str, name: str, directory: Path, *, is_file: bool) -> tuple[str, ...]:
    """What to do with it, for a terminal: commands, then the lines of a preset."""
    yaml = Template(_SEAMS[kind].yaml).substitute(name=name).splitlines()
    target = directory / f"{name}.py" if is_file else directory / name
    plugins = [f"plugins: [./{name}.py]"] if is_file else []
    commands = [f"finetunekit plugins check {target}"]
    commands += [] if is_file else [f"python -m pytest {target}", f"python -m pip install -e {target}"]
    where = f"In a preset beside {name}.py:" if is_file else "In a preset, once it is installed:"
    return ("Next:", *(f"  {line}" for line in commands), where, *(f"  {line}" for line in (*plugins, *yaml)))
