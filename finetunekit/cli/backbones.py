"""`finetunekit backbones`."""

from __future__ import annotations

from typing import Any

import click

from finetunekit.cli.common import json_option, load_host, print_json, print_lines, print_table
from finetunekit.system.terminal import wrap

HEADER = ("name", "M par", "G m-a", "px", "top-1", "licence", "pixels", "from")
LEGEND = (
    "M par: million parameters without classification top. G m-a: thousand million multiply-adds of one photo at px, the native side. "
    "top-1: published percent on ImageNet-1k. pixels: channel order, and what black to white becomes. from: weights are here, in keras' "
    "cache, in a package index, on a host only, or in a file that you name. All about one: finetunekit backbones NAME"
)


@click.command("backbones")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List backbones with size, cost, licence, score, pixels, and where to get their weights; or show everything
    about one, NAME.

    Builds no network, and does not use the internet.
    """
    from finetunekit.models.backbone_facts import describe_backbone

    host = load_host()
    if name is not None:
        facts = describe_backbone(host.find("backbone", name, "backbones"))
        print_json(facts) if as_json else _print_facts(facts)
        return
    rows = [describe_backbone(entry) for _, entry in sorted(host.registries["backbone"].items())]
    if as_json:
        print_json(rows)
        return
    print_table(map(_line, rows), HEADER, right=(1, 2, 3, 4))
    print_lines(["", *wrap(LEGEND)])


def _line(facts: dict[str, Any]) -> tuple[str, ...]:
    cost, score = facts["multiply_adds"], facts["top_1_percent"]
    return (
        facts["name"],
        f"{facts['parameters'] / 1e6:.1f}",
        f"{cost / 1e9:.1f}" if cost is not None else "-",
        str(facts["native_size_px"]),
        f"{score:.1f}" if score is not None else "-",
        facts["licence"],
        _shown_range(facts["pixels"]),
        facts["weights"]["place"],
    )


def _shown_range(pixels: dict[str, Any]) -> str:
    low, high = (f"{value:.0f}" if abs(value) >= 10 else f"{round(value, 1):g}" for value in pixels["range"])
    return f"{pixels['order']} {low}..{high}"


def _print_facts(facts: dict[str, Any]) -> None:
    """One fact a line, long ones wrapped below themselves."""
    from finetunekit.models.backbone_facts import pixel_formula

    pixels = facts["pixels"]
    formula = pixel_formula(pixels)
    cost = facts["multiply_adds"]
    lines = {
        "title": facts["title"],
        "parameters": f"{facts['parameters']:,} without classification top",
        "multiply-adds": f"{cost:,} for one photo at {facts['native_size_px']} px"
        if cost is not None
        else "not counted",
        "size": f"{facts['native_size_px']} px, at least {facts['min_size_px']} px",
        "pixels": f"{formula}, {_shown_range(pixels)[4:]}, of pixels from 0 to 255",
        "crop": f"{100 * facts['crop_pct']:.1f} % of the short side, cut out of the middle (pixels.fit: crop)",
        "published": facts["published"],
        "pretrained on": facts["pretrained_on"],
        "own answers": "its 1000-way top comes with its weights"
        if facts["has_own_answers"]
        else "no: weights without top",
        "licence": facts["licence"],
        "attribution": facts["attribution"],
        "reference": facts["reference"],
        "weights": facts["weights"]["words"],
        "options": ", ".join(facts["options"]) or "none",
        "from": f"plugin {facts['plugin']} ({facts['from']})",
    }
    print_lines([facts["name"]])
    print_table(lines.items(), wrapped=(1,), indent=2)
