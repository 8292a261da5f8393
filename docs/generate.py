"""Write the generated pages of the documentation, or with --check say which are out of date.

Usage: python docs/generate.py [--check]
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetunekit import types
from finetunekit.config.json_schema import preset_schema
from finetunekit.plugins import hookspecs
from finetunekit.plugins.host import COLLECT_HOOKS, NOTIFY_HOOKS, PluginHost, load_plugins
from finetunekit.system.files import to_json

DOCS = Path(__file__).parent
#: Types that cross a seam, in the order in which an author meets them.
VALUES = (
    types.BackboneSpec,
    types.PretrainedTop,
    types.PixelContract,
    types.WeightSource,
    types.Backbone,
    types.Features,
    types.LayerInfo,
    types.LayerRate,
    types.Augmentation,
    types.Fill,
    types.SourceContext,
    types.PhotoListing,
    types.PhotoRecord,
    types.TrackedRun,
    types.TrackedEnd,
    types.Job,
    types.Outcome,
    types.Exporter,
    types.Servable,
    types.Exported,
)

HEAD = """\
<!-- Written by docs/generate.py from finetunekit/plugins/hookspecs.py and finetunekit/types.py: change those and run `make docs`. -->

# Hooks

A plugin is a module with functions marked `@finetunekit.hookimpl`. It is found by the entry-point group `finetunekit`, or named in a
preset: `plugins: [./my_head.py]`. [Writing a plugin](writing.md) makes one from the first line to a run.

Hooks are called plugin by plugin. A plugin that raises while it registers is not used at all, and one warning says
so; the others are used.
`FINETUNEKIT_TRACE=1` prints each call. `--disable-plugin NAME` leaves a plugin out, and `--disable-plugin all` leaves
out every one that is not
built in. With `--strict-plugins`, a broken plugin is an error.
"""


def render_hooks() -> str:
    """The page `plugins/hooks.md`."""
    host = _own_plugins()
    kinds = {hook: kind for kind, hook in COLLECT_HOOKS.items()}
    parts = [HEAD, "## Collect", _COLLECT]
    parts += [_hook(name, _users(host, kinds.get(name))) for name in (*COLLECT_HOOKS.values(), "register_presets")]
    parts += ["## Notify", _NOTIFY, *(_hook(name, "") for name in NOTIFY_HOOKS)]
    parts += ["## What `register` takes", *map(_callable, _PROTOCOLS)]
    parts += ["## What a tracker does", *_methods(types.Tracker)]
    parts += ["## What an executor does", *_methods(types.Executor)]
    parts += ["## Values", "Frozen. Import them from `finetunekit`.", *map(_value, VALUES)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


_COLLECT = """
Each of these hooks is called once, when plugins are loaded, with a function `register`. Registering a name twice is
an error that names both
plugins. Options are a subclass of `finetunekit.Options`; they receive every key that YAML gives in addition to
`name`.
"""
_NOTIFY = """
These hooks report what happened. What they return is ignored. If one raises, a warning names its plugin. A function
may leave out arguments
that it does not need.
"""
_PROTOCOLS = (hookspecs.Register, hookspecs.RegisterBackbone, hookspecs.RegisterPreset)


def _refuse(line: str) -> None:
    raise SystemExit(line)


def _users(host: PluginHost, kind: str | None) -> str:
    if kind == "tracker":
        return "None is built in; each is a separate package ([Tracking runs](../track.md))."
    names = host.registries[kind] if kind else dict.fromkeys(sorted(host.presets))
    return "Built in: " + ", ".join(f"`{name}`" for name in names) + "."


def _hook(name: str, users: str) -> str:
    spec = getattr(hookspecs, name)
    return "\n\n".join(filter(None, (f"### {name}", _signature(name, spec), inspect.getdoc(spec), users)))


def _callable(protocol: Any) -> str:
    doc = inspect.getdoc(protocol)
    return f"### {protocol.__name__}\n\n{_signature('register', protocol.__call__)}\n\n{doc}"


def _methods(protocol: type) -> Iterator[str]:
    yield inspect.getdoc(protocol) or ""
    for name, function in vars(protocol).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            yield f"### {name}\n\n{_signature(name, function)}\n\n{inspect.getdoc(function)}"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """As in the source: annotations are text there, and stay so."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    listed = ", ".join(_parameters(parameters))
    return f"```python\ndef {name}({listed}) -> {signature.return_annotation}: ...\n```"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    is_keyword = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            yield "*"
        default = "" if parameter.default is parameter.empty else f" = {_name(parameter.default)}"
        yield f"{parameter.name}: {parameter.annotation}{default}"


def _name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)


def _value(kind: type[Any]) -> str:
    fields = "\n".join(_field(field) for field in dataclasses.fields(kind))
    summary, _, attributes = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")
    parts = (f"### {kind.__name__}", summary.strip(), f"```python\n{fields}\n```", _attributes(attributes))
    return "\n\n".join(filter(None, parts))


def _field(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _quoted(f"{field.name}: {field.type} = {field.default!r}")
    if field.default_factory is not dataclasses.MISSING:
        return f"{field.name}: {field.type} = {_name(field.default_factory)}()"
    return _quoted(f"{field.name}: {field.type}")


def _quoted(code: str) -> str:
    """As the formatter writes it, which reads Markdown too."""
    return code.replace("'", '"')


def _attributes(text: str) -> str:
    """`name: what it is`, continued on deeper lines → a list."""
    items: list[str] = []
    for line in textwrap.dedent(text).splitlines():
        if line.startswith(" "):
            items[-1] += f" {line.strip()}"
        else:
            name, _, meaning = line.partition(": ")
            items.append(f"- `{name}`: {meaning}")
    return "\n".join(items)


BEGIN, END = "<!-- modules, written by docs/generate.py from docstrings -->\n", "<!-- end of modules -->"


def render_architecture() -> str:
    """The page `architecture.md`: written by hand, but for the list of modules."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{_modules()}\n{END}{after}"


def _modules() -> str:
    plugins = sorted((DOCS.parent / "plugins").glob("*/finetunekit_*"))
    roots = (DOCS.parent / "finetunekit", *plugins)
    return "\n".join(f"| module | what it does |\n| --- | --- |\n{_rows(root)}\n" for root in roots)


def _rows(root: Path) -> str:
    """A row a module; the command's verbs and what lies below the second level are one row."""
    paths = sorted(
        [root / "__init__.py", *root.glob("*.py"), *root.glob("*/__init__.py")], key=lambda p: _module(root, p)
    )
    return "\n".join(f"| `{_module(root, path)}` | {_summary(path)} |" for path in dict.fromkeys(paths))


def _module(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _summary(path: Path) -> str:
    """First paragraph of a module's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(doc.split("\n\n")[0].split()).replace("|", "\\|")


_LIST = "<!-- list, written by docs/generate.py from presets/ -->\n", "<!-- end of list -->"
_KEYS = (
    "<!-- keys, written by docs/generate.py from finetunekit/config.py and the built-in plugins -->\n",
    "<!-- end of keys -->",
)


def render_presets() -> str:
    """The page `presets.md`: written by hand, but for the list of presets and the reference."""
    host, reference = _own_plugins(), _beside("reference")
    text = (DOCS / "presets.md").read_text(encoding="utf-8")
    for (begin, end), written in ((_LIST, reference.render_list(host)), (_KEYS, reference.render_keys(host))):
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{written}\n\n{end}{rest.partition(end)[2]}"
    return text


_ERRORS = "<!-- errors, written by docs/generate.py from finetunekit/errors.py -->\n", "<!-- end of errors -->"


def render_errors() -> str:
    """The page `errors.md`: written by hand, but for the table of errors."""
    begin, end = _ERRORS
    before, _, rest = (DOCS / "errors.md").read_text(encoding="utf-8").partition(begin)
    return f"{before}{begin}\n{_beside('errors_table').render_errors()}\n\n{end}{rest.partition(end)[2]}"


def _render_shown(page: str) -> str:
    """A page written by hand, but for the files that it shows."""
    text: str = _beside("shown_files").render_shown(DOCS / page)
    return text


def render_schema() -> str:
    """The JSON Schema beside the presets, which their editor lines name."""
    return to_json(preset_schema(_own_plugins()))


def _own_plugins() -> PluginHost:
    return load_plugins(_refuse, disabled=frozenset({"all"}), is_strict=True)


def _beside(name: str) -> Any:
    """A module in this folder, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: Page → what writes it.
PAGES: dict[str, Callable[[], str]] = {
    "plugins/hooks.md": render_hooks,
    "plugins/run_folder.md": lambda: _beside("run_folder").render_run_folder(_value),
    "plugins/api.md": lambda: _beside("api_page").render_api(_value),
    "architecture.md": render_architecture,
    "presets.md": render_presets,
    "errors.md": render_errors,
    "plugins/seams.md": lambda: _render_shown("plugins/seams.md"),
    "export.md": lambda: _render_shown("export.md"),
    "quickstart.ja.md": lambda: _render_shown("quickstart.ja.md"),
    "../presets/schema.json": render_schema,
}


def out_of_date() -> dict[str, str]:
    """Page → difference between what is there and what should be."""
    differences = {}
    for page, render in PAGES.items():
        path = DOCS / page
        there = path.read_text(encoding="utf-8") if path.is_file() else ""
        lines = difflib.unified_diff(
            there.splitlines(), render().splitlines(), f"{page} (there)", f"{page} (generated)", lineterm=""
        )
        if difference := "\n".join(lines):
            differences[page] = difference
    return differences


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is out of date")
    if not parser.parse_args().check:
        for page, render in PAGES.items():
            (DOCS / page).write_text(render(), encoding="utf-8")
        return 0
    differences = out_of_date()
    for difference in differences.values():
        print(difference)
    if differences:
        print(f"out of date: {', '.join(differences)}. Run: make docs", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
