"""Options that generation, fidelity and likelihood share: which copy of the data is read."""

from __future__ import annotations

from typing import Any

import pytest

from diffcls.generation.dataset_likelihood import LikelihoodOptions
from diffcls.generation.fidelity_options import FidelityOptions
from diffcls.generation.images import GenerationOptions
from diffcls.generation.options import ModelOptions
from diffcls.support.errors import UsageError
from diffcls.support.options import read

KINDS = [FidelityOptions, GenerationOptions, LikelihoodOptions]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dataset", ["digits", "folder:photos", "webdataset:shards"])
def test_streaming_is_refused_by_name_for_data_that_are_not_of_the_hub(
    kind: type[ModelOptions], dataset: str
) -> None:
    with pytest.raises(UsageError, match=r"--streaming is not read by the data set .*; remove"):
        read(kind, {"dataset": dataset, "streaming": True})


def test_streaming_without_a_data_set_is_that_of_the_models_own() -> None:
    with pytest.raises(UsageError, match="--streaming is not read by the data set digits; remove"):
        ModelOptions(model="digits", streaming=True).data("test")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streaming", [True, False])
def test_streaming_decides_how_the_data_set_is_read(
    kind: type[ModelOptions], streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def load(*given: Any, streaming: bool = False) -> None:
        calls.append((*given, streaming))

    monkeypatch.setattr("diffcls.data.load.load_dataset", load)
    options = read(kind, {"dataset": "hf:me/set", "streaming": streaming})
    options.data("validation")
    assert calls == [("hf:me/set", "validation", None, streaming)]
