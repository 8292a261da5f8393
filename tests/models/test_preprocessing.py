"""Pixels as the network is fed them: the formula of a pixel contract, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from finetunekit.models.preprocessing import as_input
from finetunekit.types import PixelContract

CONTRACTS = (
    PixelContract(),
    PixelContract(scale=1 / 255),
    PixelContract(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0)),
    PixelContract("bgr", 1 / 255, (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
)


@pytest.mark.parametrize("contract", CONTRACTS)
def test_every_channel_has_its_own_mean_and_std(contract: PixelContract) -> None:
    photos = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    ordered = photos[..., ::-1] if contract.order == "bgr" else photos
    expected = ordered.astype(np.float32)
    for channel in range(3):
        values = ordered[..., channel].astype(np.float32) * np.float32(contract.scale)
        expected[..., channel] = (values - np.float32(contract.mean[channel])) / np.float32(contract.std[channel])
    fed = as_input(photos, contract)
    np.testing.assert_array_equal(fed, expected)
    assert (fed.dtype, fed.flags.c_contiguous) == (np.float32, True)
