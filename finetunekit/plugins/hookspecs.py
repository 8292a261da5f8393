"""The hooks. Their docstrings are the contract.

Two shapes. *Collect* hooks, `register_<plural>(register)`, hand over named builders; YAML refers to the names. *Notify* hooks tell
what happened; what they return is ignored. The host calls every hook plugin by plugin, so that one that raises cannot hide the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from finetunekit.types import BackboneSpec, Builder, Options

if TYPE_CHECKING:
    from finetunekit.config.plan import Plan

PROJECT = "finetunekit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """Adds one component: its name in YAML, its builder, and the pydantic model of its own options."""

    def __call__(self, name: str, build: Builder, options: type[Options] = Options) -> None:
        """Register it."""
        ...


class RegisterBackbone(Protocol):
    """Like `Register`, with the data about the backbone that a listing shows without building it."""

    def __call__(self, name: str, build: Builder, options: type[Options] = Options, *, spec: BackboneSpec) -> None:
        """Register it."""
        ...


class RegisterPreset(Protocol):
    """Adds one preset: its name on the command line and the YAML file that holds it."""

    def __call__(self, name: str, path: Path) -> None:
        """Register it."""
        ...


@hookspec
def register_backbones(register: RegisterBackbone) -> None:
    """Offer backbones. Called once, when plugins are loaded; must not import Keras.

    The builder is `build(options, image_size_px) -> Backbone`: a Keras model without pretrained weights, built for
    `(batch, image_size_px, image_size_px, 3)` float32 input that already obeys `spec.pixels`, and its block map. The engine loads the
    weights. It is called inside the run's precision policy. Raise `PluginError` if the options cannot be met.
    """


@hookspec
def register_heads(register: Register) -> None:
    """Offer classification heads. Called once, when plugins are loaded; must not import Keras.

    The builder is `build(options, features, num_classes) -> logits`: `features` is a `Features`, the result a Keras tensor
    `(batch, num_classes)` float32 without softmax. A head that does not understand `features.kind` raises `PluginError`.
    """


@hookspec
def register_freezing_policies(register: Register) -> None:
    """Offer freezing policies. Called once, when plugins are loaded; must not import Keras.

    The builder is `build(options, layers) -> decision`: `layers` is a tuple of `LayerInfo` in the order of the forward pass, the result
    maps layer paths to rate multipliers >= 0: 0 freezes, 1 is the stage's learning rate. Layers left out train at the stage's rate. A
    path that is not among `layers` is an error, and a rule that matches nothing should raise `ConfigError`. A policy
    with several rules returns `LayerRate(rate, by)` instead of a number, so that the run says which rule decided for
    which layer.
    """


@hookspec
def register_augmentations(register: Register) -> None:
    """Offer augmentations of training photos. Called once, when plugins are loaded; must not import TensorFlow.

    The builder is `build(options) -> tuple[Augmentation, ...]`: pure steps in order. All of them receive the same
    keys, one per photo drawn; no other component of the list receives these keys. `finetunekit.draw_uniform(keys, n)`
    turns keys into random numbers.
    """


@hookspec
def register_data_sources(register: Register) -> None:
    """Offer data sources. Called once, when plugins are loaded; must not read photos.

    The builder is `build(options, context) -> PhotoListing`: it lists files, labels and splits, and decodes nothing. `context` is a
    `SourceContext`. Raise `DataError` if the root is missing or unusable.
    """


@hookspec
def register_reporters(register: Register) -> None:
    """Offer reporters. Called once, when plugins are loaded; must not import matplotlib.

    The builder is `build(options, run) -> Mapping[str, bytes]`: file name → content, written by the engine under the run's `reports/`.
    `run` is a `FinishedRun`: a reporter is a pure function of a finished run folder, computes no metric, and changes nothing. A page
    called `report.html` is the report of the run: its path is the last line of `finetunekit run`, whatever other pages there are.
    """


@hookspec
def register_trackers(register: Register) -> None:
    """Offer trackers. Called once, when plugins are loaded; must not import the tracker's library.

    The builder is `build(options) -> Tracker`: an object with `start`, `epoch`, `finish` and `fail`. It is called in the thread that drives
    the tracker. Options must not contain secrets, since they are written into run folders; the plan refuses an
    address that contains a password.
    """


@hookspec
def register_executors(register: Register) -> None:
    """Offer executors. Called once, when plugins are loaded; must not import the library of a cluster.

    The builder is `build(options) -> Executor`: an object with `run(jobs, say)`, which carries out whole runs and
    returns how each ended. It decides where, in which order and how many at a time, and does not change a run: a run
    has the same bits wherever it is carried out. Raise `ConfigError` in the builder if a package is missing. Options
    must not contain secrets, since they are written into the folder of several runs.
    """


@hookspec
def register_exporters(register: Register) -> None:
    """Offer exporters. Called once, when plugins are loaded; must not import TensorFlow or any converter.

    The builder is `build(options) -> Exporter`, three functions: `write(servable, folder) -> Exported` writes a finished run as files of
    another format, `open(folder) -> predict` runs such files in their own runtime, `classes(folder)` reads the class names back from
    them. The engine measures how far the answers are from the run's and writes the certificate. Raise `ConfigError`
    in the builder if a package is missing, and `ExportError` in `write` if the network cannot be written in this
    format.
    """


@hookspec
def register_presets(register: RegisterPreset) -> None:
    """Offer presets: a name and the YAML file behind it. Called once, when plugins are loaded."""


@hookspec
def before_run(plan: Plan, run_path: Path) -> None:
    """A run is about to read its photos. `plan` is frozen; `run_path` exists and contains the resolved
    configuration."""


@hookspec
def after_epoch(row: Mapping[str, Any], run_path: Path) -> None:
    """An epoch ended and its row is in the log. `row` has the columns of `epochs.csv`, numbers as numbers."""


@hookspec
def after_stage(stage: str, rows: tuple[Mapping[str, Any], ...], run_path: Path) -> None:
    """A stage ended. `rows` are its epochs' rows, oldest first."""


@hookspec
def after_run(metrics: Mapping[str, Any], run_path: Path) -> None:
    """A run has finished successfully: every artefact and report is in `run_path`. `metrics` is the content of
    `metrics.json`.

    If the test split stayed closed (`evaluate.test: false`), it has no `test`, and there is no report.
    """
