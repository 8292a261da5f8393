"""What `fuzz_plugins.py` finds: answers of plugins that no hook allows are errors that name them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fuzz_plugins
import pytest
from finetunekit_builtin.heads import MlpOptions

from finetunekit import Options, PhotoListing, PhotoRecord
from finetunekit.config.plan import Chosen
from finetunekit.data.listing import ask_source
from finetunekit.errors import PluginError, RunFolderError
from finetunekit.plugins.components import build_steps
from finetunekit.plugins.host import Registered
from finetunekit.system.files import write_whole
from finetunekit.types import Origin

PHOTO = PhotoRecord(Path("a.png"), "a", "train")


def chosen(value: Any, kind: str = "data source") -> Chosen:
    registered = Registered("odd", lambda *_: value, Options, Origin("strange", "acme", "1"))
    return Chosen(kind, registered, Options(), ("data",))


@pytest.mark.parametrize(
    "listing",
    [
        None,
        fuzz_plugins.Unprintable(),
        PhotoListing([PHOTO], Path()),  # type: ignore[arg-type]
        PhotoListing((fuzz_plugins.Unprintable(),), Path()),  # type: ignore[arg-type]
        PhotoListing((PhotoRecord(Path("\0"), "a", "train"),), Path()),
        PhotoListing((PhotoRecord("a.png", "a", "train"),), Path()),  # type: ignore[arg-type]
        PhotoListing((PhotoRecord(Path("a.png"), 1, "train"),), Path()),  # type: ignore[arg-type]
        PhotoListing((PHOTO,), "x"),  # type: ignore[arg-type]
        PhotoListing((PHOTO,), Path(), notes=(1,)),  # type: ignore[arg-type]
        PhotoListing((PHOTO,), Path(), stand_in=b"x"),  # type: ignore[arg-type]
    ],
)
def test_a_listing_of_another_kind_names_the_plugin_and_the_field(listing: Any) -> None:
    with pytest.raises(PluginError, match=r"data source 'odd' of plugin 'strange'.*must return") as caught:
        ask_source(chosen(listing), SimpleNamespace())  # type: ignore[arg-type]
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [None, 1, "x", {}, iter(()), fuzz_plugins.Unprintable()])
def test_an_augmentation_that_is_no_sequence_of_steps_names_the_plugin(value: Any) -> None:
    with pytest.raises(PluginError, match=r"augmentation 'odd' of plugin 'strange'.*must return a tuple"):
        build_steps(chosen(value, "augmentation"))


@pytest.mark.parametrize("name", ["a\0b", "\ud800.html"])
def test_a_file_that_cannot_be_called_so_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no file can be called that") as caught:
        write_whole(tmp_path / name, b"x")
    assert str(caught.value).isprintable()


def test_hidden_layers_of_a_strangers_network_are_bounded() -> None:
    assert MlpOptions(hidden=(16_384, 16_384)).hidden == (16_384, 16_384)
    with pytest.raises(ValueError, match="4,294,967,296 weights between hidden layers are more than"):
        MlpOptions(hidden=(65_536, 65_536))
