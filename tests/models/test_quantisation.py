"""Quantised weights: what the libraries store, where they are installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.library_pipelines import Folders, folders  # noqa: F401
from torch import nn

from diffcls.models import loading
from diffcls.models.forecast import Workload, forecast
from diffcls.models.memory_options import MemoryOptions, parse_quantisation
from diffcls.models.model_index import read_index
from diffcls.models.quantisation import check_quantised
from diffcls.support.errors import ModelError


def test_a_part_of_which_nothing_was_quantised_is_refused() -> None:
    with pytest.raises(ModelError, match="no layer of part 'transformer' could be quantised"):
        check_quantised("transformer", nn.Linear(4, 4))


@pytest.mark.parametrize("bits", [8, 4])
def test_the_forecast_counts_the_linear_layers_alone_in_few_bits(
    bits: int,
    folders: Folders,  # noqa: F811
) -> None:
    index = read_index(Path(folders("sd3")))
    network = loading.load(str(folders("sd3"))).network
    assert network is not None
    linear = sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Linear))
    rest = sum(t.numel() for t in network.parameters()) - linear
    buffers = sum(t.numel() for t in network.buffers())
    scales = {8: 0.1, 4: 0.5}[bits]
    quantise = parse_quantisation(f"all:{bits}bit")
    work = Workload(torch.bfloat16, 1, options=MemoryOptions(quantise=quantise))
    (part,) = [p for p in forecast(index, work).parts if p.role == "network"]
    expected = linear * (bits + scales) / 8 + (rest + buffers) * 2
    assert part.size == int(expected)
    assert part.dtype == f"{bits}bit"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "library"), [("text:8bit", "bitsandbytes"), ("all:8bit:torchao", "torchao")]
)
def test_eight_bits_change_the_encoding_by_a_few_percent_at_most(
    text: str,
    library: str,
    folders: Folders,  # noqa: F811
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    memory = MemoryOptions(quantise=parse_quantisation(text))
    folder = str(folders("sd3"))
    quantised: Any = loading.load(folder, "cpu", torch.float32, 32, memory=memory)
    plain = loading.load(folder, "cpu", torch.float32, 32)
    prompts = ["a photo of a three", "zero"]
    whole, rounded = plain.encode_prompts(prompts), quantised.encode_prompts(prompts)
    for name, expected in whole.items():
        error = (rounded[name].float() - expected).norm() / expected.norm()
        assert 0 < float(error) < 0.05
