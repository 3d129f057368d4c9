"""bfloat16 in compiled code against torch's."""

import numpy as np
import torch

from sharpminima.runtime.bfloat16 import narrowed, widened


def test_every_bfloat16_is_widened_as_torch_widens_it() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    found = np.array([widened(each) for each in bits], np.float32)
    assert np.array_equal(found, expected, equal_nan=True)


def test_rounding_is_torch_s_ties_and_extremes_too() -> None:
    random = np.random.default_rng(0)
    drawn = random.integers(0, 1 << 32, 20_000, dtype=np.uint32).view(np.float32)
    ties = ((random.integers(0, 1 << 16, 2_000, dtype=np.uint32) << 16) | 0x8000).view(np.float32)
    values = np.concatenate([drawn, ties, np.array([0.0, -0.0, np.inf, -np.inf, 3.4e38], np.float32)])
    values = values[~np.isnan(values)]
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(np.array([narrowed(each) for each in values], np.uint16), expected)
    assert np.isnan(widened(narrowed(np.float32(np.nan))))
