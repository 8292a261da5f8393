"""What MLflow loads: a finetunekit run behind `predict`. This file is copied into the model; it imports nothing of the tracker."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

import finetunekit


class PhotoClassifier(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow is not annotated here
    """Photos as bytes of their files → one row a photo, one column a class."""

    def load_context(self, context: Any) -> None:
        """Load the network once."""
        self._run = finetunekit.load(context.artifacts["run"], trust=True)  # MLflow runs what a model brings as well

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Probabilities of the photos in the column `photo`."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}.photo" for number in range(len(model_input))]
            for path, content in zip(paths, model_input["photo"], strict=True):
                path.write_bytes(content)
            return pd.DataFrame(self._run.probabilities(paths), columns=list(self._run.classes))


mlflow.models.set_model(PhotoClassifier())
