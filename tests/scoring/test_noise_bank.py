"""Noise bank: the noise of each draw, from its seed or from a file, within a bounded cache."""

from __future__ import annotations

import math
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcls.diffusion.draws import DrawPlan, nested_order, noise
from diffcls.scoring.noise_bank import NoiseBank, load_noise
from diffcls.support.errors import UsageError

SHAPE = (3, 4, 5)


@pytest.mark.parametrize("cached_draws", [0, 1, 3, 1000])
def test_noise_is_the_same_in_any_order_and_for_any_cache_size(
    cached_draws: int,
) -> None:
    bank = NoiseBank(
        DrawPlan(nested_order(1000, 20), seed=5), SHAPE, max_bytes=cached_draws * 4 * 60
    )
    for draw in [*range(20), *reversed(range(20)), 7, 7, 0]:
        assert torch.equal(bank[draw], noise(5, draw, SHAPE))
    assert len(bank._cache) == max(1, min(20, cached_draws))


def test_least_recently_used_draw_is_dropped() -> None:
    bank = NoiseBank(DrawPlan(nested_order(1000, 9)), SHAPE, max_bytes=3 * 4 * 60)
    first = bank[0]
    for draw in (1, 2, 0, 3, 4):
        bank[draw]
    assert bank[0] is first
    assert list(bank._cache) == [3, 4, 0]


def save(path: Path, tensor: Any) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tensor if isinstance(tensor, dict) else {"noise": tensor}, path)
    else:
        torch.save(tensor, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_file_replaces_the_first_draws_only(tmp_path: Path, suffix: str, dtype: str) -> None:
    given_noise = torch.arange(2 * 60).reshape(2, *SHAPE).to(getattr(torch, dtype)) / 8
    path = save(tmp_path / f"noise{suffix}", given_noise)
    bank = NoiseBank(DrawPlan(nested_order(1000, 4), seed=5, noise_path=str(path)), SHAPE)
    for draw in (3, 1, 0, 2):
        expected = given_noise[draw].float() if draw < 2 else noise(5, draw, SHAPE)
        assert bank[draw].dtype == torch.float32
        assert torch.equal(bank[draw], expected)


def test_parameter_in_a_file_needs_no_gradient(tmp_path: Path) -> None:
    path = save(tmp_path / "noise.pt", torch.nn.Parameter(torch.ones(1, *SHAPE)))
    assert not load_noise(path, SHAPE).requires_grad


class RunsCode:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(RunsCode(), protocol=2))
    for path in (plain, save(tmp_path / "zip.pt", RunsCode())):
        with pytest.raises(UsageError, match="cannot read noise file"):
            load_noise(path, SHAPE)
    assert not (tmp_path / "ran").exists()
    pickle.loads(plain.read_bytes())
    assert (tmp_path / "ran").exists()  # it does run code if it is unpickled


def test_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    good = torch.ones(2, *SHAPE)
    with_nan = good.clone()
    with_nan[1, 0, 0, 0] = math.nan
    wrong = {
        "noise does not fit": [
            good[0].clone(),
            good[..., :4].clone(),
            good[:0].clone(),
            {"a": good, "b": good.clone()},
        ],
        "noise is not finite": [with_nan, good / 0],
    }
    cases = [(message, tensor) for message, tensors in wrong.items() for tensor in tensors]
    for suffix, (message, tensor) in product((".safetensors", ".pt"), cases):
        with pytest.raises(UsageError, match=message):
            load_noise(save(tmp_path / f"noise{suffix}", tensor), SHAPE)
    for suffix in (".safetensors", ".pt", ".npy"):
        path = tmp_path / f"broken{suffix}"
        with pytest.raises(UsageError, match="noise file not found"):
            load_noise(path, SHAPE)
        path.write_bytes(b"not a tensor")
        with pytest.raises(UsageError, match="cannot read noise file"):
            load_noise(path, SHAPE)
