"""What a user of fastai writes: `vision_learner` and `fine_tune(5)`, with the transforms of its tutorial on pets.

    python benchmarks/plain_fastai.py TABLE --arrays FILE --check FILE [--seed N]

An opponent of `bench_peers.py`; runs in an environment of its own that has fastai and timm. Photos are resized to 460 px, `aug_transforms`
cuts 224 px out of them, and fastai normalises as timm says and looks at validation photos after each epoch. The network is the one of
`plain_timm.py`. The same model is scored once more with fastai's test-time augmentation, which is not part of its CPU time.

Source: docs.fast.ai/tutorial.vision.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, set_seed, vision_learner
from numpy.typing import NDArray
from plain_probe import Split, cpu_seconds, describe_answers, read_table
from plain_timm import NETWORK, batch_size, check_features, parse_peer, write_weights

EPOCHS = 5


def list_photos(names: list[str], splits: dict[str, Split]) -> pd.DataFrame:
    """Photo, class and whether it is for validation."""
    return pd.DataFrame(
        [
            (str(path).lstrip("/"), names[label], split == "valid")
            for split in ("train", "valid")
            for path, label in zip(splits[split].paths, splits[split].labels, strict=True)
        ],
        columns=["name", "label", "is_valid"],
    )


def build_learner(photos: pd.DataFrame, weights: Path) -> Any:
    """fastai's learner of the tutorial."""
    loaders = ImageDataLoaders.from_df(
        photos,
        path="/",
        valid_col="is_valid",
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=224),
        bs=batch_size(int((~photos["is_valid"]).sum())),
    )
    return vision_learner(loaders, NETWORK, metrics=accuracy, pretrained_cfg_overlay={"file": str(weights)})


def ask(learner: Any, paths: list[Path], *, is_augmented: bool) -> NDArray[Any]:
    """Probabilities of photos, `(photos, classes)`."""
    loader = learner.dls.test_dl(paths)
    shares: NDArray[Any] = (learner.tta(dl=loader) if is_augmented else learner.get_preds(dl=loader))[0].numpy()
    return shares


def main() -> None:
    asked = parse_peer(__doc__).parse_args()
    set_seed(asked.seed)
    names, splits = read_table(asked.table)
    test = splits["test"]
    with tempfile.TemporaryDirectory() as folder:
        learner = build_learner(list_photos(names, splits), write_weights(asked.arrays, Path(folder)))
        body = learner.model[0].eval()
        apart = check_features(lambda x: body(x).mean(dim=(2, 3)), asked.check)
        assert list(learner.dls.vocab) == names
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS)
            learner.export(Path(folder) / "model.pkl")
            saved_at = time.time()
            scores = describe_answers(ask(learner, test.paths, is_augmented=False), test.labels)
            cpu_s = cpu_seconds()
            augmented = describe_answers(ask(learner, test.paths, is_augmented=True), test.labels)
    report = {**scores, "cpu_s": cpu_s, "saved_at": saved_at, "features_apart": apart}
    print(json.dumps({**report, "augmented": {**augmented, "cpu_s": cpu_seconds()}}))


if __name__ == "__main__":
    main()
