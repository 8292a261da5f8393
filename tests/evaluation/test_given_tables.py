"""Tables and archives of photos to evaluate and predict: all of them are taken, and options say how they are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import write_photos

from finetunekit.data.photo_paths import find_photos, labelled_photos
from finetunekit.errors import ConfigError, DataError

CLASSES = ("blue", "green", "red")


@pytest.mark.usefixtures("own_cache")
def test_a_table_of_two_photos_a_class_is_taken_whole(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos") / "test"
    rows = [(path.name, path.parent.name) for path in sorted(photos.rglob("*.png"))]
    table = tmp_path / "t.csv"
    table.write_text("sep=;\nfile;label\n" + "".join(f"{name};{label}\n" for name, label in rows), encoding="utf-8")
    with pytest.raises(DataError, match=r"6 of 6 files are missing.*set data\.options\.photos"):
        labelled_photos(table, CLASSES)
    options = (f"photos={photos}", f"folders=[{', '.join(CLASSES)}]")
    paths, labels = labelled_photos(table, CLASSES, options=options)
    assert [path.parent.name for path in paths] == [CLASSES[label] for label in labels] == [label for _, label in rows]
    assert find_photos([table], options=options) == paths
    with pytest.raises(ConfigError, match=r"--option: phots: unknown option. Did you mean 'photos'"):
        find_photos([table], options=("phots=x",))
    with pytest.raises(ConfigError, match="this is a folder"):
        labelled_photos(photos, CLASSES, options=options)
