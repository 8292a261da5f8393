"""The model as MLflow's pyfunc: bytes of photo files in, a column of probabilities for each class out. Code and files, no pickle."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

#: What a predictor reads of a run folder.
FILES = (
    "config.yaml",
    "plan.json",
    "run.json",
    "environment.json",
    "weights.json",
    "metrics.json",
    "photos.csv",
    "model.npz",
)


def write_model(run: Path, folder: Path) -> Path:
    """Write a run as a pyfunc.

    Args:
        run: Run folder with its model.
        folder: Empty.

    Returns:
        The folder of the model in MLflow's layout.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from finetunekit import FinishedRun

    kept = folder / "run"
    kept.mkdir()
    for name in FILES:
        if (run / name).is_file():
            shutil.copyfile(run / name, kept / name)
    if (run / "plugins").is_dir():
        shutil.copytree(run / "plugins", kept / "plugins")
    outputs = Schema([ColSpec(DataType.double, name) for name in FinishedRun(run).classes])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about type hints and examples: the signature is written by hand
        mlflow.pyfunc.save_model(
            folder / "model",
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={"run": str(kept)},
            signature=ModelSignature(Schema([ColSpec(DataType.binary, "photo")]), outputs),
            pip_requirements=["finetunekit", "mlflow"],
        )
    return folder / "model"
