"""Cheaper evaluations: operations that no prompt affects, and passes of the same output."""

from __future__ import annotations

import pytest
import torch

from benchmarks.speed import cheaper_evaluations, half_side, operations
from benchmarks.speed.gpu_network import SD_2, build
from diffcls.models import loading
from diffcls.models.shared_layers import find_shared_layers


@pytest.mark.slow
def test_the_first_layers_of_a_large_network_are_a_twentieth_and_its_keys_a_two_hundredth() -> None:
    with torch.device("meta"):
        counts = operations.count(build(SD_2, "meta"), SD_2.tokens)
    # every cross-attention has keys and values of 77 tokens of width 1024, in the widths of its
    # blocks: two of each level down, three up, one in the middle
    widths = 320 * (2 + 3) + 640 * (2 + 3) + 1280 * (2 + 3 + 1)
    by_hand = 2 * 2 * SD_2.tokens * 1024 * widths
    keys = sum(n for name, n in counts.items() if operations.KEYS_AND_VALUES.fullmatch(name))
    assert keys == by_hand
    row = operations.operations()[0]
    assert row["gflop"] == pytest.approx(804, abs=1)
    assert row["prefix"] == pytest.approx(0.052, abs=0.001)
    assert row["keys_and_values"] == pytest.approx(0.005, abs=0.001)


def test_the_counted_layers_are_those_that_the_package_shares() -> None:
    denoiser = loading.load("digits")
    shared = find_shared_layers(denoiser, denoiser.encode_prompts(["zero"]))
    assert shared is not None
    names = {module: name for name, module in denoiser.network.named_modules()}  # type: ignore[union-attr]
    with_operations = {
        names[layer] for layer in shared.layers if next(layer.parameters(), None) is not None
    }
    counted = set(operations.prefix(denoiser.network))
    # normalisation counts as no operation
    assert counted <= with_operations
    assert all("norm" in name for name in with_operations - counted)


@pytest.mark.slow
def test_ways_to_compute_a_pass_are_measured_against_the_same_pass() -> None:
    threads = torch.get_num_threads()
    rows = cheaper_evaluations.passes("digits", rounds=1, compiled=False)
    assert torch.get_num_threads() == threads
    assert {row["measure"] for row in rows} == {
        "keys and values of the prompts cached",
        "2 threads",
    }
    assert all(row["times_cheaper"] > 0 and row["wall"] > 0 for row in rows)


@pytest.mark.slow
def test_races_with_and_without_shared_layers_have_equal_scores() -> None:
    row = cheaper_evaluations.race("digits", None, blocks=1)  # it compares them
    assert row["evaluations_per_image"] > 20 and row["times_cheaper"] > 0


@pytest.mark.slow
def test_recall_at_the_full_side_is_counted_as_at_half_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(half_side.IMAGES, "digits", 4)
    rows = half_side.half_side("digits", None)
    assert [row["measure"] for row in rows] == ["full side"] * 3 + ["half the side"] * 3
    for size in ("full side", "half the side"):
        recall = [row["recall"] for row in rows if row["measure"] == size]
        assert recall == sorted(recall) and 0 <= recall[0] and recall[-1] <= 1
