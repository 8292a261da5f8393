"""Exporters: a finished run for LiteRT, ONNX Runtime, TensorFlow and Keras."""

from __future__ import annotations

from finetunekit_builtin.exporters.keras_file import KerasOptions, build_keras
from finetunekit_builtin.exporters.litert import LitertOptions, build_litert
from finetunekit_builtin.exporters.onnx import OnnxOptions, build_onnx
from finetunekit_builtin.exporters.saved_model import SavedModelOptions, build_saved_model

__all__ = [
    "KerasOptions",
    "LitertOptions",
    "OnnxOptions",
    "SavedModelOptions",
    "build_keras",
    "build_litert",
    "build_onnx",
    "build_saved_model",
]
