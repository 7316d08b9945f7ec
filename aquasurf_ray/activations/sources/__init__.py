"""Exports of a function: standalone source for PyTorch, JAX and TensorFlow without this package, and ONNX models."""

from aquasurf_ray.activations.sources.jax import JAX
from aquasurf_ray.activations.sources.onnx import export_onnx
from aquasurf_ray.activations.sources.pytorch import COMPILED, PYTORCH
from aquasurf_ray.activations.sources.tensorflow import TENSORFLOW
from aquasurf_ray.activations.sources.writer import Language, class_name, source

LANGUAGES = {"pytorch": PYTORCH, "compiled": COMPILED, "jax": JAX, "tensorflow": TENSORFLOW}

__all__ = ["LANGUAGES", "Language", "class_name", "export_onnx", "source"]
