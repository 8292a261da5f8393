"""A certificate in words: one page of Markdown beside an exported model, and the lines that a terminal shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetunekit.reports.words import counted
from finetunekit.system.formatting import show_bytes

_POINTS = {
    "pixels": "decoded pixels (grey levels of 255)",
    "square": "resized pixels (grey levels of 255)",
    "input": "the network's input",
    "logits": "logits",
    "probabilities": "probabilities",
}


def certificate_lines(certificate: Mapping[str, Any]) -> Iterator[str]:
    """The sentences that matter most, one a line."""
    network, probes, accuracy = certificate["network"], certificate["probes"], certificate["accuracy"]
    same, files = network["same_first_answer"], certificate["model"]["files"].values()
    interval = same["interval"]
    yield (
        f"same first answer on {same['photos']:,} of {same['of']:,} photos "
        f"(95 % interval {100 * interval['low']:.1f} to {100 * interval['high']:.1f} %)"
    )
    yield (
        f"largest difference of a probability {network['largest_difference']:.1e}, 99 % are below "
        f"{network['percentile_99']:.1e}; on {probes['photos']} probe photos {probes['largest_difference']:.1e}"
    )
    yield (
        f"right: {accuracy['exported_right']:,} of {accuracy['photos']:,}, the run {accuracy['run_right']:,} "
        f"(difference {100 * accuracy['interval']['low']:+.1f} to {100 * accuracy['interval']['high']:+.1f} points)"
    )
    for size, found in certificate["cost"]["milliseconds"].items():
        yield f"{found['exported_ms']:.1f} ms for a batch of {size}, Keras {found['keras_ms']:.1f} ms"
    yield f"{show_bytes(sum(file['bytes'] for file in files))}, opens in {certificate['cost']['load_s']:.2f} s"
    yield from certificate["model"]["notes"]
    for reason in certificate["refused"]:
        yield f"another way was tried before: {reason}"
    if certificate["run"]["is_rebuilt"]:
        yield "the run computed in bfloat16; the model was written, and compared, in float32"


def verification_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What a model says where it was copied to, one sentence a line; see `finetunekit.exporting.verification.verify_model`."""
    allowed, probes = found["tolerance"], found["probes"]
    parts = {
        "golden photos": found["golden"],
        "probe photos": probes["same_pixels"],
        "photos of the run": found["photos"],
    }
    for words, part in parts.items():
        if part:
            same = part["same_first_answer"]
            yield (
                f"{same['photos']:,} of {same['of']:,} {words} have the same first answer; the largest difference of a probability is "
                f"{part['largest_difference']:.1e} (allowed {allowed:g})"
            )
    if probes["other_pixels"]:
        yield f"decoded differently here than where the certificate was written: {', '.join(probes['other_pixels'])}"
    yield f"in batches of {', '.join(found['batches'])}: a difference of {max(found['batches'].values()):.1e} at most"
    times = ", ".join(f"{value:.1f} ms for a batch of {size}" for size, value in found["milliseconds"].items())
    yield f"{counted(found['files'], 'file')} as written, opened in {found['load_s']:.2f} s; {times}"


def certificate_page(certificate: Mapping[str, Any]) -> str:
    """The certificate as Markdown."""
    run, exporter, model = certificate["run"], certificate["exporter"], certificate["model"]
    lines = [f"# Certificate: {run['name']} as {exporter['name']}", ""]
    if run["stand_in"]:
        lines += [f"**{_cell(run['stand_in'])}**", ""]
    lines += [f"- {line}" for line in certificate_lines(certificate)]
    lines += ["", f"Written from the run `{run['folder']}` in {model['precision']}; it takes {_takes(model)}."]
    divided = f"logits divided by {run['temperature']:.3g}, as the run gives them out"
    lines += [
        "",
        f"Probabilities: {divided if run['temperature'] != 1 else 'the softmax of the logits, as the run gives them out'}.",
    ]
    lines += ["", "## Labels", "", *(f"{i}. {_cell(name)}" for i, name in enumerate(model["classes"]))]
    lines += ["", "## Beside the answers that the run recorded", "", *_recorded(certificate["recorded"])]
    lines += ["", "## Photos whose first answer changed", "", *_changed(certificate["network"]["changed"])]
    lines += ["", "## Point by point", "", *_points(certificate["points"]), "", *_decoding(certificate["points"])]
    lines += ["", "## Probe photos", "", *_probes(certificate["probes"])]
    lines += ["", "## Files", "", *_files(model["files"])]
    lines += ["", "## Operations", "", ", ".join(f"{name} {count}" for name, count in model["operations"].items())]
    lines += ["", "## Measured with", "", *_versions(certificate)]
    lines += [
        "",
        "## Licence of the pretrained weights",
        "",
        f"{_cell(run['licence'])} {_cell(run['attribution'])}".strip() or "–",
    ]
    return "\n".join(lines) + "\n"


def _takes(model: Mapping[str, Any]) -> str:
    size = f"{model['size_px']} × {model['size_px']} pixels"
    return f"photos of any size and resizes them to {size}" if model["takes"] == "pixels" else f"photos of {size}"


def _recorded(recorded: Mapping[str, Any]) -> list[str]:
    same = recorded["same_first_answer"]
    return [
        f"Same first answer on {same['photos']:,} of {same['of']:,} photos, largest difference of a probability "
        f"{recorded['largest_difference']:.1e}."
    ]


def _changed(changed: list[Mapping[str, Any]]) -> list[str]:
    if not changed:
        return ["None."]
    rows = [
        f"| {_cell(row['photo'])} | {_cell(row['run']['class'])} {row['run']['probability']:.3f} "
        f"| {_cell(row['exported']['class'])} {row['exported']['probability']:.3f} |"
        for row in changed
    ]
    return ["| photo | run | exported |", "| --- | --- | --- |", *rows]


def _points(points: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| {words} | {points['run'][name]['largest_difference']:.1e} | {points['probes'][name]['largest_difference']:.1e} |"
        for name, words in _POINTS.items()
        if name in points["run"]
    ]
    return ["| largest difference of | photos of the run | probe photos |", "| --- | --- | --- |", *rows]


def _decoding(points: Mapping[str, Any]) -> list[str]:
    """Which files come to other pixels than the run's: the model and the network were asked for the same pixels, so no answer shows it."""
    lines = [f"Decoded by {points['decoded_by']}, beside the run's own decoder."]
    for key, words in (("probes", "probe photos"), ("run", "photos of the run")):
        found = points[key]["pixels"]
        lines.append(f"Of {found['photos']:,} {words} {found['same']:,} give the same pixels.")
        lines += [
            f"{start}: {', '.join(map(_cell, found[names]))}."
            for start, names in (("Otherwise", "otherwise"), ("Not read", "unread"))
            if found[names]
        ]
    return lines


def _probes(probes: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {value:.1e} |" for name, value in probes["differences"].items()]
    rows += [f"| batch of {size} | {value:.1e} |" for size, value in probes["batches"].items()]
    return ["| photo | largest difference of a probability |", "| --- | --- |", *rows]


def _files(files: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = [f"| `{name}` | {file['bytes']:,} | `{file['sha256']}` |" for name, file in files.items()]
    return ["| file | bytes | SHA-256 |", "| --- | --- | --- |", *rows]


def _versions(certificate: Mapping[str, Any]) -> list[str]:
    environment = certificate["environment"]
    versions = {**environment["versions"], **certificate["versions"]}
    return [
        f"{environment['processor']}, {environment['cpus']} processors, Python {environment['python']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        + "."
    ]


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
