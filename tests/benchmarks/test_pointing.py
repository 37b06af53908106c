"""The pointing game: where a map points, and which networks know nothing."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.accuracy.pointing import dilated, peak, reinitialise, shuffle
from diffcls.models.loading import load


def test_the_peak_of_a_map_is_its_largest_value_and_that_of_minus_the_map_its_smallest() -> None:
    values = np.zeros((8, 12))
    values[2, 11], values[7, 3] = 1.0, -3.0
    assert peak(values) == (2, 11)
    assert peak(-values) == (7, 3)


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
