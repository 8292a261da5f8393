"""Runs leave their folder: the files answer as the run does, a certificate says so, and what does not answer so is not kept."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import convert_in_this_process
from helpers_plugins import invoke
from lone_environment import lay_out, run_alone
from numpy.typing import NDArray
from PIL import Image
from run_folders import with_temperature

import finetunekit as ftk
from finetunekit.config.planning import prepare
from finetunekit.data.decode import fit_photo
from finetunekit.engine.export import ExportableRun, PlannedExport, export_planned, plan_export, verify_export
from finetunekit.exporting.certificate import broken_limits
from finetunekit.exporting.comparison import ask_network
from finetunekit.exporting.probe_photos import write_probes
from finetunekit.exporting.servable import servable_of
from finetunekit.exporting.verification import too_far
from finetunekit.system.progress import Progress
from finetunekit.testing import AWKWARD_CLASSES, made_once, shared_tiny_run

QUIET = Progress(is_quiet=True)
SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
FORMATS = ("keras", "litert", "onnx", "savedmodel")


class Export(NamedTuple):
    """A folder that was exported, and the certificate in it."""

    path: Path
    certificate: Mapping[str, Any]


Exported = Callable[[str], Export]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> ExportableRun:
    """A tiny run whose class names are awkward, and which divides its logits by 1.7."""
    made = shared_tiny_run(tmp_path_factory)
    folder = made_once(
        tmp_path_factory,
        "tiny-run-with-temperature",
        lambda folder: with_temperature(Path(shutil.copytree(made, folder / made.name)), 1.7),
    )
    return ftk.load(folder / made.name)


@pytest.fixture(scope="module")
def exported(loaded: ExportableRun, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """That run in a built-in format: written once for all tests and processes, for looking at."""

    def export(name: str) -> Export:
        folder = made_once(tmp_path_factory, f"exported-{name}", lambda folder: _export(loaded, name, folder))
        path = folder / name
        return Export(path, json.loads((path / "certificate.json").read_text(encoding="utf-8")))

    return export


def _export(loaded: ExportableRun, name: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        convert_in_this_process(patch)
        loaded.export(name, into=folder / name, progress=QUIET)


def photos_of(height: int, width: int, count: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(height + width).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# ---- what is written ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_certificate_says_how_close_the_answers_are(name: str, exported: Exported) -> None:
    path, certificate = exported(name)
    assert certificate["network"]["largest_difference"] < 1e-5
    assert certificate["probes"]["largest_difference"] < 1e-5
    assert certificate["network"]["same_first_answer"]["photos"] == 12
    assert certificate["recorded"]["same_first_answer"]["of"] == 12
    assert certificate["recorded"]["largest_difference"] < 1e-5
    assert certificate["run"]["temperature"] == 1.7
    assert certificate["accuracy"]["gained"] == certificate["accuracy"]["lost"] == 0
    assert set(certificate["probes"]["batches"]) == {"1", "3", "32"}
    assert {"EXIF orientation 6", "CMYK", "alpha", "16-bit grey", "stripes", "one pixel", "very long"} <= set(
        certificate["probes"]["differences"]
    )
    points = certificate["points"]["probes"]
    resized = [] if certificate["model"]["takes"] == "square" else ["square"]
    assert list(points) == ["pixels", *resized, "input", "logits", "probabilities"]
    assert all(points[name]["largest_difference"] == 0.0 for name in resized)
    assert certificate["points"]["run"]["pixels"]["same"] == 12
    assert certificate["cost"]["milliseconds"]["32"]["exported_ms"] > 0
    page = (path / "certificate.md").read_text(encoding="utf-8")
    assert "same first answer on 12 of 12 photos" in page
    assert "two\nlines" not in page


@pytest.mark.parametrize("name", FORMATS)
def test_class_names_in_any_script_come_back_in_order(name: str, exported: Exported) -> None:
    assert tuple(exported(name).certificate["model"]["classes"]) == AWKWARD_CLASSES


@pytest.mark.parametrize("name", FORMATS)
def test_no_operation_is_tensorflows_own(name: str, exported: Exported) -> None:
    operations = exported(name).certificate["model"]["operations"]
    assert operations
    assert not any(operation.startswith(("Flex", "VAR_HANDLE", "READ_VARIABLE")) for operation in operations)


def test_onnx_has_names_for_people_and_texts_that_travel(exported: Exported) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported("onnx").path / "model.onnx"))
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["batch", "height", "width", 3])
    assert (answer.name, answer.shape) == ("probabilities", ["batch", 3])
    texts = session.get_modelmeta().custom_metadata_map
    assert json.loads(texts["classes"]) == list(AWKWARD_CLASSES)
    assert {"run", "model_sha256", "licence", "attribution", "pixels", "finetunekit"} <= set(texts)


def test_litert_has_its_texts_in_an_archive_behind_the_model(exported: Exported) -> None:
    with zipfile.ZipFile(exported("litert").path / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().split("\n")[1] == "two\\nlines"
        assert json.loads(archive.read("finetunekit.json"))["run"] == exported("litert").certificate["run"]["folder"]


def test_mediapipe_finds_the_labels_and_gives_the_answers(
    loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    python = pytest.importorskip("mediapipe.tasks.python", reason="mediapipe reads LiteRT's labels")
    import mediapipe

    plan_export(loaded.run, "litert", {"input": "square"}).exporter.write(servable_of(loaded), tmp_path)
    options = python.vision.ImageClassifierOptions(
        base_options=python.BaseOptions(model_asset_path=str(tmp_path / "model.tflite")), max_results=3
    )
    (square,) = photos_of(8, 8)
    with python.vision.ImageClassifier.create_from_options(options) as classifier:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=square)
        found = classifier.classify(image).classifications[0].categories
    own = ask_network(servable_of(loaded), square[np.newaxis])[0]
    named = {category.category_name: category.score for category in found}
    assert named == pytest.approx(
        {json.dumps(name, ensure_ascii=False)[1:-1]: p for name, p in zip(loaded.classes, own, strict=True)}, abs=1e-4
    )


def test_a_saved_model_takes_encoded_photos_too(loaded: ExportableRun, exported: Exported) -> None:
    import tensorflow as tf

    (probe,) = photos_of(30, 20)
    file = io.BytesIO()
    Image.fromarray(probe).save(file, "PNG")
    model = tf.saved_model.load(str(exported("savedmodel").path / "saved_model"))
    found = model.signatures["encoded"](encoded=tf.constant([file.getvalue()] * 2))["probabilities"].numpy()
    assert found.shape == (2, 3)
    served = model.signatures["serving_default"](pixels=tf.constant(probe[np.newaxis]))["probabilities"].numpy()
    assert found[0] == pytest.approx(served[0], abs=1e-6)


def test_the_network_is_as_it_was(loaded: ExportableRun, exported: Exported) -> None:
    again = ftk.load(loaded.run.path).model
    pairs = zip(loaded.model.get_weights(), again.get_weights(), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_report_and_model_card_show_what_the_certificates_say(
    exported: Exported, loaded: ExportableRun, tmp_path: Path
) -> None:
    from finetunekit_builtin.reporters import HtmlOptions, ModelCardOptions, build_html, build_model_card

    run = Path(shutil.copytree(loaded.run.path, tmp_path / "run"))
    before = build_html(HtmlOptions(), ftk.FinishedRun(run))["report.html"].decode()
    for name in ("litert", "keras"):
        shutil.copytree(exported(name).path, run / "exports" / name)
    (page,) = build_html(HtmlOptions(), ftk.FinishedRun(run)).values()
    (card,) = build_model_card(ModelCardOptions(), ftk.FinishedRun(run)).values()
    assert 'id="exports"' not in before
    assert 'id="exports"' in page.decode()
    assert "exports/keras/certificate.md, exports/litert/certificate.md" in page.decode()
    assert "12 of 12 (75.8 to 100.0 %)" in page.decode()
    row = next(line for line in card.decode().splitlines() if line.startswith("| same first answer as the run |"))
    assert row.count("12 of 12") == 2
    assert "| … of resized pixels, grey levels | – | 0.0e+00 |" in card.decode()


# ---- golden photos ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_is_verified_wherever_its_folder_is(
    name: str, exported: Exported, loaded: ExportableRun, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(exported(name).path, tmp_path / "elsewhere"))
    photos = tmp_path / "renamed"
    photos.mkdir()
    for number, row in enumerate(loaded.run.split_predictions("valid")):
        shutil.copyfile(loaded.run.photo_path(row["path"]), photos / f"{number}.png")
    found = verify_export(copy, photos=[photos])
    assert found["probes"]["other_pixels"] == []
    for part, count in ((found["golden"], 8), (found["probes"]["same_pixels"], 28), (found["photos"], 6)):
        assert part["same_first_answer"]["photos"] == part["same_first_answer"]["of"] == count
        assert part["largest_difference"] < 1e-5
    assert max(found["batches"].values()) < 1e-5


@pytest.mark.slow
def test_with_the_run_at_hand_the_whole_certificate_is_measured_again(
    exported: Exported, loaded: ExportableRun, finished_run: Path
) -> None:
    path, certificate = exported("savedmodel")
    again = verify_export(path, run=loaded.run.path)["certificate"]
    assert again["network"] == certificate["network"]
    assert again["points"] == certificate["points"]
    with pytest.raises(ftk.ConfigError, match="was not written from"):
        verify_export(path, run=finished_run)


def test_photos_that_the_run_never_saw_are_no_proof(exported: Exported, tmp_path: Path) -> None:
    Image.fromarray(photos_of(9, 9)[0]).save(tmp_path / "other.png")
    with pytest.raises(ftk.ExportError, match="none of 1 photos is one that the certificate was written with"):
        verify_export(exported("savedmodel").path, photos=[tmp_path])


def test_another_decoder_and_other_answers_are_said() -> None:
    found = {"largest_difference": 0.3, "largest_on": "CMYK"}
    none = {"largest_difference": 0.0, "largest_on": "1.png"}
    parts = {"tolerance": 0.1, "golden": none, "photos": None, "batches": {"32": 0.2}}
    probes = {"same_pixels": found, "other_pixels": ["WebP"]}
    answer, batch = too_far({**parts, "probes": probes})
    assert "the answer to a probe photo ('CMYK') is off by 0.3 here, allowed: 0.1" in answer
    assert "in batches of several photos an answer is off by 0.2" in batch


def test_a_changed_file_and_a_changed_answer_are_noticed(exported: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported("onnx").path, tmp_path / "copy"))
    said = invoke("export", "verify", str(copy)).stdout
    for words in ("8 of 8 golden photos", "28 of 28 probe photos", "in batches of 1, 3, 32", "1 file as written"):
        assert words in said
    answers = copy / "golden" / "answers.json"
    content = json.loads(answers.read_text(encoding="utf-8"))
    content["photos"]["1.png"]["probabilities"][AWKWARD_CLASSES[0]] += 0.5
    answers.write_text(json.dumps(content), encoding="utf-8")
    result = invoke("export", "verify", str(copy))
    assert result.exit_code == 5
    assert "the answer to a golden photo ('1.png') is off by 0.5" in result.stderr
    with (copy / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    assert "its files are not those" in invoke("export", "verify", str(copy)).stderr
    assert invoke("export", "verify", str(tmp_path)).exit_code == 2


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("litert", ["ai-edge-litert"]),
        ("onnx", ["onnxruntime"]),
        pytest.param("savedmodel", ["tensorflow"], marks=pytest.mark.slow),
        pytest.param("keras", ["keras", "tensorflow"], marks=pytest.mark.slow),
    ],
)
def test_the_example_on_the_page_gives_the_golden_answers_where_there_is_only_its_runtime(
    name: str, runtime: list[str], exported: Exported, tmp_path: Path
) -> None:
    folder, script = exported(name).path, SAMPLES / f"run_{name}.py"
    expected = json.loads((folder / "golden" / "answers.json").read_text(encoding="utf-8"))["photos"]
    photos = [str(folder / "golden" / file) for file in expected]
    lay_out(tmp_path, [*runtime, "pillow", "numpy"])
    check_golden(run_alone(tmp_path, script, str(folder), *photos).stdout, expected)


def test_the_javascript_example_on_the_page_gives_the_golden_answers(exported: Exported, tmp_path: Path) -> None:
    node, packages = shutil.which("node"), SAMPLES.parents[1] / "build" / "node" / "node_modules"
    if node is None or not packages.is_dir():
        pytest.skip("no node, or no packages in build/node; .ci/run fetches them")
    folder, script = exported("onnx").path, tmp_path / "run_onnx.mjs"
    expected = json.loads((folder / "golden" / "answers.json").read_text(encoding="utf-8"))["photos"]
    shutil.copyfile(SAMPLES / script.name, script)
    (tmp_path / "node_modules").symlink_to(packages)
    photos = [str(folder / "golden" / file) for file in expected]
    done = subprocess.run([node, str(script), str(folder), *photos], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check_golden(done.stdout, expected)


def check_golden(said: str, expected: Mapping[str, Any]) -> None:
    """Lines of an example: probability, class as JSON, photo."""
    for line, answer in zip(said.splitlines(), expected.values(), strict=True):
        probability, rest = line.split(" ", 1)
        assert float(probability) == pytest.approx(max(answer["probabilities"].values()), abs=1e-5)
        assert json.JSONDecoder().raw_decode(rest)[0] == answer["class"]


# ---- what is refused ----------------------------------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_answers_that_are_too_far_leave_nothing_behind(loaded: ExportableRun, tmp_path: Path) -> None:
    arguments = ("export", str(loaded.run.path), "--to", "savedmodel", "--max-difference", "1e-12")
    result = invoke(*arguments, "--into", str(tmp_path / "out" / "model"))
    assert result.exit_code == 5
    assert "allowed: 1e-12" in result.stderr
    assert leftovers(tmp_path) == []


def test_what_is_there_is_not_overwritten_but_an_earlier_export_is(
    loaded: ExportableRun, exported: Exported, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ftk.ConfigError, match="already exists and is not an export"):
        loaded.export("savedmodel", into=tmp_path)
    copy = Path(shutil.copytree(exported("savedmodel").path, tmp_path / "copy"))
    (copy / "old.txt").write_text("old")
    loaded.export("savedmodel", into=copy, progress=QUIET)
    assert not (copy / "old.txt").exists()
    assert leftovers(tmp_path).count("copy") == 1
    assert not [name for name in leftovers(tmp_path) if "partial" in name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "litertt"), "unknown exporter 'litertt'. Did you mean 'litert'?"),
        (("--to", "onnx", "--quantize", "int8"), "quantize: unknown option"),
        (("--to", "litert", "--quantize", "int4"), "quantize: "),
        (("--to", "litert", "--quantize", "int8", "--input", "pixels"), "int8 takes input: square"),
        (("--to", "onnx", "--option", "opset"), "must be KEY=VALUE"),
        (("--to", "onnx", "--max-difference", "-1"), "max_difference: should be greater than 0"),
    ],
)
def test_a_wrong_option_is_said_before_any_work(
    arguments: tuple[str, ...], words: str, loaded: ExportableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PlannedExport, "execute", lambda *_: pytest.fail("work was begun"))
    result = invoke("export", str(loaded.run.path), *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_without_the_extra_the_verb_says_what_to_install(
    loaded: ExportableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ftk.ConfigError, match=r"tf2onnx, onnx, onnxruntime: not installed.*pip install 'finetunekit\[export\]'"
    ):
        plan_export(loaded.run, "onnx", {})


def test_a_run_that_is_told_to_export_ends_with_5_where_it_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    preset = shared_tiny_run(tmp_path_factory).parents[1] / "tiny.yaml"
    refuse = ("export={to: [{name: savedmodel}], max_difference: 1e-12}", "reports=[]")
    with pytest.raises(ftk.ExportError, match="the run is finished"):
        ftk.run(str(preset), settings=refuse, out=tmp_path / "bad", progress=QUIET)
    (path,) = (tmp_path / "bad").iterdir()
    assert ftk.FinishedRun(path).state["status"] == "finished"
    assert not (path / "exports").exists()
    plan, _ = prepare(str(preset), settings=("export={to: [{name: savedmodel, input: square}]}",))
    assert export_planned(plan, path, QUIET) == []  # as a run ends with it
    assert (path / "exports" / "savedmodel" / "certificate.json").is_file()


# ---- limits -------------------------------------------------------------------------------------------------------------------------


def test_labels_in_another_order_and_a_lost_point_are_broken_limits(exported: Exported) -> None:
    certificate = dict(exported("onnx").certificate)
    assert broken_limits(certificate, 1e-4) == []
    other = {**certificate, "model": {**certificate["model"], "classes": list(reversed(AWKWARD_CLASSES))}}
    assert "not in the run's order" in broken_limits(other, 1e-4)[0]
    worse = {**certificate, "probes": {**certificate["probes"], "largest_difference": 0.2, "largest_on": "CMYK"}}
    assert "on probe photos a probability differs by up to 0.2 ('CMYK')" in broken_limits(worse, 1e-4)[0]


def test_int8_is_calibrated_evenly_and_held_to_a_margin(
    loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    options = {"quantize": "int8", "calibration_photos": 7}
    with pytest.raises(ftk.ExportError, match="not shown that it loses at most 2 points"):
        loaded.export("litert", options, into=tmp_path / "refused", progress=QUIET)
    assert leftovers(tmp_path) == []
    result = loaded.export("litert", options, into=tmp_path / "kept", limits={"margin_points": 60}, progress=QUIET)
    used = result.certificate["calibration"]["sha256"]
    label = {row["sha256"]: row["label"] for row in loaded.run.photos if row["split"] == "train"}
    counts = [[label[content] for content in used].count(name) for name in loaded.classes]
    assert sorted(counts) == [2, 2, 3]
    assert result.certificate["model"]["takes"] == "square"
    assert "DEQUANTIZE" not in result.certificate["model"]["operations"]
    assert verify_export(result.path)["golden"]["same_first_answer"]["photos"] == 8


def test_where_8_bits_lose_too_much_the_layers_that_they_change_most_keep_float32(
    loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    exporter = plan_export(loaded.run, "litert", {"quantize": "int8", "calibration_photos": 2}, into=tmp_path).exporter
    servable = servable_of(loaded)
    exported = exporter.again[-1](servable, tmp_path)
    calibrated, kept = exported.notes
    assert calibrated == "calibrated on 8 training photos"
    assert kept.startswith("in float32, since 8 bits change them most: ")
    assert exported.operations["DEQUANTIZE"] >= 1
    photos = photos_of(8, 8, 5)
    found = exporter.open(tmp_path)(photos)["probabilities"]
    assert np.abs(found - ask_network(servable, photos)).max() < 0.05
    assert exporter.classes(tmp_path) == AWKWARD_CLASSES


def test_another_way_is_tried_where_the_first_does_not_keep_its_limits(loaded: ExportableRun, tmp_path: Path) -> None:
    planned = plan_export(loaded.run, "keras", {}, into=tmp_path / "out")

    def write(servable: ftk.Servable, folder: Path) -> ftk.Exported:
        (folder / "half").write_text("half")
        raise ftk.ExportError("it loses 3 points.")

    exporter = dataclasses.replace(planned.exporter, write=write, again=(planned.exporter.write,))
    result = dataclasses.replace(planned, exporter=exporter).execute(loaded, QUIET)
    assert result.certificate["refused"] == ["it loses 3 points."]
    assert "another way was tried before: it loses 3 points." in (result.path / "certificate.md").read_text("utf-8")
    assert not (result.path / "half").exists()


def test_a_layer_of_ones_own_is_refused_where_the_file_would_not_load_elsewhere(
    loaded: ExportableRun, tmp_path: Path
) -> None:
    import keras

    @keras.saving.register_keras_serializable("mine")
    class Doubled(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return 2.0 * x

    pixels = keras.Input((8, 8, 3))
    network = keras.Model(pixels, keras.layers.Dense(3)(Doubled()(keras.layers.Flatten()(pixels))))
    servable = dataclasses.replace(servable_of(loaded), network=network)
    with pytest.raises(ftk.ExportError, match="keras: Doubled: not of Keras itself"):
        plan_export(loaded.run, "keras", {}, into=tmp_path / "out").exporter.write(servable, tmp_path)


@pytest.mark.parametrize(
    "resize",
    ["bicubic", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nearest", "box", "bilinear", "lanczos"))],
)
def test_photos_are_resized_in_16_bits_too(
    resize: Any, loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    """To the bit, where numbers beyond 65,504 are none and constants have 11 bits: weights are whole numbers up to 2**22."""
    exporter = plan_export(loaded.run, "litert", {"quantize": "fp16"}, into=tmp_path / "out").exporter
    servable = dataclasses.replace(servable_of(loaded), resize=resize, has_points=True)
    exporter.write(servable, tmp_path)
    predict = exporter.open(tmp_path)
    for height, width in ((30, 20), (5, 7), (300, 300)):
        photos = photos_of(height, width)
        square = fit_photo(photos[0], **servable.fitting())[np.newaxis]
        found = predict(photos)
        assert np.array_equal(found["square"], square), (height, width)
        assert found["probabilities"] == pytest.approx(ask_network(servable, square), abs=2e-3)


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_grouped_convolutions_which_keras_gives_to_xla_and_gelu_are_converted(
    name: str, loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    import keras

    pixels = keras.Input((8, 8, 3))
    narrow = keras.layers.Activation("gelu")(keras.layers.Conv2D(6, 3, groups=3)(pixels))
    network = keras.Model(pixels, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(narrow)))
    servable = dataclasses.replace(servable_of(loaded), network=network)
    exporter = plan_export(loaded.run, name, {}, into=tmp_path / "out").exporter
    exporter.write(servable, tmp_path)
    photos = photos_of(20, 30)
    (square,) = (fit_photo(photo, **servable.fitting()) for photo in photos)
    own = ask_network(servable, square[np.newaxis])
    assert exporter.open(tmp_path)(photos)["probabilities"] == pytest.approx(own, abs=1e-5)


@pytest.mark.parametrize("change", [{"is_mirrored": True}, {"pixels": ftk.PixelContract("bgr", 1.0, (1.0, 2.0, 3.0))}])
def test_a_keras_file_does_what_the_run_does_to_a_square(
    change: dict[str, Any], loaded: ExportableRun, tmp_path: Path
) -> None:
    exporter = plan_export(loaded.run, "keras", {}, into=tmp_path / "out").exporter
    servable = dataclasses.replace(servable_of(loaded), **change)
    exporter.write(servable, tmp_path)
    photos = photos_of(8, 8, 5)
    assert exporter.open(tmp_path)(photos)["probabilities"] == pytest.approx(ask_network(servable, photos), abs=1e-6)


# ---- the parts ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"is_mirrored": True, "temperature": 0.4},
        {"fit": "crop"},
        {"fit": "pad"},
        {"source_px": 16},
    ],
)
def test_a_graph_does_what_the_run_does_to_a_photo(
    change: dict[str, Any], loaded: ExportableRun, tmp_path: Path
) -> None:
    import tensorflow as tf

    from finetunekit.exporting.comparison import ask_model, refer

    servable = dataclasses.replace(servable_of(loaded), **change)
    ftk.save_graph(servable, tmp_path / "graph")
    graph = tf.saved_model.load(str(tmp_path / "graph"))
    (tmp_path / "probes").mkdir()
    probes = refer(servable, write_probes(tmp_path / "probes"), max_pixels=2**30)

    def predict(photos: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {
            "probabilities": graph.signatures["serving_default"](pixels=tf.constant(photos))["probabilities"].numpy()
        }

    assert np.abs(ask_model(predict, probes, "pixels") - probes.probabilities).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "onnx"])
@pytest.mark.parametrize(
    "change",
    [{"fit": "crop", "crop_pct": 0.875}, {"fit": "pad"}, {"resize": "bicubic"}, {"resize": "lanczos", "source_px": 24}],
)
def test_other_runtimes_resize_crop_and_pad_photos_to_the_bit(
    change: dict[str, Any], name: str, loaded: ExportableRun, tmp_path: Path, convert_here: None
) -> None:
    from finetunekit.exporting.comparison import compare_points, refer

    servable = dataclasses.replace(servable_of(loaded), has_points=True, **change)
    exporter = plan_export(loaded.run, name, {}, into=tmp_path / "out").exporter
    for folder in ("written", "probes"):
        (tmp_path / folder).mkdir()
    exported = exporter.write(servable, tmp_path / "written")
    probes = refer(servable, write_probes(tmp_path / "probes"), max_pixels=2**30)
    found = compare_points(servable, exporter.open(tmp_path / "written"), probes, exported.takes)
    assert found["square"]["largest_difference"] == 0
    assert not any(operation.startswith("Flex") for operation in exported.operations)


def test_an_exporter_that_fails_is_blamed_by_name(loaded: ExportableRun, tmp_path: Path) -> None:
    planned = plan_export(loaded.run, "savedmodel", {}, into=tmp_path / "out")

    def write(servable: ftk.Servable, folder: Path) -> ftk.Exported:
        (folder / "half").write_text("half")
        raise OSError("disk full")

    broken = dataclasses.replace(planned, exporter=dataclasses.replace(planned.exporter, write=write))
    with pytest.raises(ftk.ExportError, match=r"exporter 'savedmodel' of plugin 'builtin'.*failed: OSError: disk full"):
        broken.execute(loaded, QUIET)
    assert leftovers(tmp_path) == []


def test_answers_that_are_not_numbers_are_refused(loaded: ExportableRun, tmp_path: Path) -> None:
    planned = plan_export(loaded.run, "savedmodel", {}, into=tmp_path / "out")
    nothing = {"probabilities": np.full((1, 3), np.nan, np.float32)}
    broken = dataclasses.replace(planned.exporter, open=lambda folder: lambda photos: nothing)
    with pytest.raises(ftk.ExportError, match="not one row of finite numbers a photo"):
        dataclasses.replace(planned, exporter=broken).execute(loaded, QUIET)
