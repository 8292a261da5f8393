"""Photos as Python has them, and the table that predictions are."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import finetunekit as ftk
from finetunekit.errors import DataError, FinetuneKitError
from finetunekit.evaluation.given_photos import GivenPhoto, photo_files
from finetunekit.evaluation.predictor import LoadedRun


@pytest.fixture(scope="module")
def loaded(finished_run: Path) -> LoadedRun:
    return ftk.load(finished_run)


@pytest.fixture
def photo(finished_run: Path) -> Path:
    return finished_run.parents[1] / "photos" / "test" / "red" / "red-0.png"


def test_a_path_bytes_an_image_and_an_array_of_one_photo_are_answered_alike(loaded: LoadedRun, photo: Path) -> None:
    image = Image.open(photo)
    array = np.asarray(image)
    given: list[GivenPhoto] = [photo, str(photo), photo.read_bytes(), image, array]
    found = loaded.predict(given)
    assert [str(row.path) for row in found] == [str(photo), str(photo), "photo 3", "photo 4", "photo 5"]
    assert len({tuple(row.probabilities.values()) for row in found}) == 1
    for alone in given:  # one by itself is one photo, not a list of letters or rows
        assert [row.probability for row in loaded.predict(alone)] == [found[0].probability]
    batch = loaded.predict(np.stack([array, array]))
    assert [row.probability for row in batch] == [found[0].probability] * 2


def test_what_a_turned_photo_says_of_itself_is_heeded(photo: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    Image.open(photo).save(stream, "JPEG", exif=exif)
    with photo_files(Image.open(stream)) as (only,), Image.open(only.file) as written:
        assert written.getexif()[274] == 6
    assert not only.file.exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((4, 4, 3)), r"photo 1: pixels are uint8 from 0 to 255; .* Received: float64"),
        (np.zeros((4, 4, 2), np.uint8), r"photo 1: an array is .* Received: \(4, 4, 2\)"),
        (np.zeros((0, 4), np.uint8), r"photo 1: an array is"),
        ([b"GIF89a broken"], r"photo 1: "),
        ([3], r"photo 1: give a path, .* Received: int"),
        (["nowhere.jpg"], r"nowhere\.jpg: no such file"),
    ],
)
def test_what_is_no_photo_is_one_line_that_counts_it(loaded: LoadedRun, given: GivenPhoto, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        loaded.predict(given)
    assert "finetunekit-" not in str(caught.value)  # no name of a file that the user never saw


def test_predictions_show_themselves(loaded: LoadedRun, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded.predict([photo, photo.read_bytes()])
    shown = found._repr_html_()
    assert len(re.findall(r'<img alt="[^"]+" style="[^"]+" src="data:image/jpeg;base64,', shown)) == 2
    assert all(text in shown for text in ("photo 2", str(photo), f"<strong>{found[0].label}</strong>"))
    assert str(found).splitlines()[1].endswith("photo 2")
    frame = found.to_pandas()
    assert list(frame.columns) == ["photo", "label", "probability", "blue", "green", "red"]
    assert frame["label"][0] == found[0].label
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FinetuneKitError, match="to_pandas needs pandas, which is not installed"):
        found.to_pandas()


def test_many_rows_are_counted_and_names_are_escaped(loaded: LoadedRun, photo: Path, tmp_path: Path) -> None:
    odd = tmp_path / "<b>.png"
    odd.write_bytes(photo.read_bytes())
    shown = loaded.predict([odd] * 52)._repr_html_()
    assert "and 2 more photos" in shown
    assert "<b>" not in shown


def test_completion_offers_what_a_notebook_needs_and_nothing_internal() -> None:
    offered = {name for name in dir(ftk) if not name.startswith("_")}
    assert offered == {"audit", "compare", "ensemble", "load", "probe", "run"}
    assert all(callable(getattr(ftk, name)) for name in offered)


def test_an_audit_a_probe_and_a_comparison_show_themselves(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    found = ftk.audit(finished_run.parents[1] / "photos", network=False)
    assert repr(found).splitlines()[0] in found._repr_html_()
    assert found.value.findings is not None
    with pytest.raises(ftk.ConfigError, match="compare needs two runs or more"):
        ftk.compare(finished_run)
    with pytest.raises(ftk.ConfigError, match="no_such"):
        ftk.probe(finished_run.parents[1] / "photos", backbones=["no_such"])
