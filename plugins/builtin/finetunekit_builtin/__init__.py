"""The built-in plugins, registered through the same entry-point group as anybody else's."""

from __future__ import annotations

from pathlib import Path

from finetunekit import hookimpl
from finetunekit.hookspecs import Register, RegisterBackbone, RegisterPreset
from finetunekit_builtin import (
    archive,
    drawn,
    executors,
    exporters,
    folders,
    freezing,
    freezing_rules,
    gap_dense,
    heads,
    imagefolder,
    keras_generator,
    reporters,
    table,
    vgg16,
)
from finetunekit_builtin import augmentations as aug

_BESIDE = Path(__file__).parent / "presets"
_IN_CHECKOUT = Path(__file__).parents[3] / "presets"


@hookimpl
def register_backbones(register: RegisterBackbone) -> None:
    """VGG16."""
    register("vgg16", vgg16.build_vgg16, vgg16.VGG16Options, spec=vgg16.VGG16_SPEC)


@hookimpl
def register_heads(register: Register) -> None:
    """The experiment's head, and heads for features of any kind."""
    register("gap_dense", gap_dense.build_gap_dense, gap_dense.GapDenseOptions)
    register("linear", heads.build_linear, heads.LinearOptions)
    register("mlp", heads.build_mlp, heads.MlpOptions)
    register("attention_pool", heads.build_attention_pool, heads.AttentionPoolOptions)


@hookimpl
def register_freezing_policies(register: Register) -> None:
    """Policies by number of layers, by block, by pattern and by depth."""
    register("first_n", freezing.build_first_n, freezing.FirstNOptions)
    register("none", freezing.build_none)
    register("all", freezing.build_all)
    register("last_blocks", freezing_rules.build_last_blocks, freezing_rules.LastBlocksOptions)
    register("pattern", freezing_rules.build_pattern, freezing_rules.PatternOptions)
    register("layer_decay", freezing_rules.build_layer_decay, freezing_rules.LayerDecayOptions)


@hookimpl
def register_augmentations(register: Register) -> None:
    """Keras' ImageDataGenerator, those of papers and torchvision, and Keras' own layers."""
    register("keras_generator", keras_generator.build_keras_generator, keras_generator.KerasGeneratorOptions)
    register("flip", aug.build_flip, aug.FlipOptions)
    register("random_resized_crop", aug.build_random_resized_crop, aug.RandomResizedCropOptions)
    register("color_jitter", aug.build_color_jitter, aug.ColorJitterOptions)
    register("rand_augment", aug.build_rand_augment, aug.RandAugmentOptions)
    register("random_erasing", aug.build_random_erasing, aug.RandomErasingOptions)
    register("mixup", aug.build_mixup, aug.MixupOptions)
    register("cutmix", aug.build_cutmix, aug.CutmixOptions)
    register("keras_layers", aug.build_keras_layers, aug.KerasLayersOptions)


@hookimpl
def register_data_sources(register: Register) -> None:
    """Folders, tables and archives of photos, and the drawn stand-in."""
    register("folders", folders.build_folders, folders.FoldersOptions)
    register("table", table.build_table, table.TableOptions)
    register("archive", archive.build_archive, archive.ArchiveOptions)
    register("huggingface", imagefolder.build_huggingface, imagefolder.HuggingfaceOptions)
    register("drawn", drawn.build_drawn, drawn.DrawnOptions)


@hookimpl
def register_reporters(register: Register) -> None:
    """Figures and files made from a finished run."""
    register("architecture_json", reporters.build_architecture_json, reporters.ArchitectureJsonOptions)
    register("learning_curves", reporters.build_learning_curves, reporters.LearningCurvesOptions)
    register("confusion_matrix", reporters.build_confusion_matrix, reporters.ConfusionMatrixOptions)
    register("display_grid", reporters.build_display_grid, reporters.DisplayGridOptions)
    register("html", reporters.build_html, reporters.HtmlOptions)
    register("model_card", reporters.build_model_card, reporters.ModelCardOptions)


@hookimpl
def register_executors(register: Register) -> None:
    """In this process, and in several."""
    register("local", executors.build_local)
    register("processes", executors.build_processes, executors.ProcessesOptions)


@hookimpl
def register_exporters(register: Register) -> None:
    """LiteRT, ONNX Runtime, and TensorFlow itself."""
    register("keras", exporters.build_keras, exporters.KerasOptions)
    register("litert", exporters.build_litert, exporters.LitertOptions)
    register("onnx", exporters.build_onnx, exporters.OnnxOptions)
    register("savedmodel", exporters.build_saved_model, exporters.SavedModelOptions)


@hookimpl
def register_presets(register: RegisterPreset) -> None:
    """Every preset of the project: beside this package in a wheel, in the checkout of an editable install."""
    folder = _BESIDE if _BESIDE.is_dir() else _IN_CHECKOUT
    for path in sorted(folder.rglob("*.yaml")):
        register(path.stem, path)
