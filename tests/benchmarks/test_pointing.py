"""The pointing game: where a map points, and which networks know nothing."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.accuracy.pointing import dilated, peak, reinitialise, shuffle
from diffcls.explain.evidence import Evidence
from diffcls.models.loading import load


def evidence(values: np.ndarray) -> Evidence:
    """A map of given differences, the same on both draws; 4 pixels to a cell."""
    pixels = np.zeros((4 * values.shape[0], 4 * values.shape[1], 3), np.uint8)
    return Evidence("a", "b", np.stack([values, values]), np.array([1.0, 2.0]), 1.0, pixels)


def test_a_neighbourhood_outweighs_a_larger_single_cell() -> None:
    values = np.zeros((8, 8))
    values[2:5, 2:5] = 1.0
    values[6, 6], values[6, 5] = 3.0, -3.0
    row, column = peak(evidence(values))
    assert (row // 4, column // 4) == (3, 3)
    assert np.unravel_index(values.argmax(), values.shape) == (6, 6)


def test_an_object_is_dilated_by_a_cell_in_each_direction() -> None:
    mask = np.zeros((32, 32), bool)
    mask[12:16, 20:24] = True
    expected = np.zeros((32, 32), bool)
    expected[8:20, 16:28] = True
    assert np.array_equal(dilated(mask, 4), expected)


def test_a_shuffled_network_keeps_the_values_of_each_tensor_and_a_reinitialised_one_none() -> None:
    before = {k: v.clone() for k, v in load("scenes").network.state_dict().items()}
    state = torch.random.get_rng_state()
    for change in (shuffle, reinitialise):
        denoiser = load("scenes")
        change(denoiser)
        after = denoiser.network.state_dict()
        name = "conv_out.weight"
        same_values = torch.equal(after[name].flatten().sort()[0], before[name].flatten().sort()[0])
        assert same_values == (change is shuffle)
        assert not torch.equal(after[name], before[name])
    assert torch.equal(torch.random.get_rng_state(), state)
