"""Devices: each process of a machine has a GPU of its own."""

from __future__ import annotations

import pytest
import torch

from diffcls.models.devices import resolve_device
from diffcls.support.errors import UsageError


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, ["cuda"]),
        ({"LOCAL_RANK": "{}"}, ["cuda", "cuda:1", "cuda:2", "cuda:3", "cuda", "cuda:1"]),
        ({"SLURM_LOCALID": "{}"}, ["cuda", "cuda:1", "cuda:2", "cuda:3", "cuda"]),
        ({"LOCAL_RANK": "{}", "SLURM_LOCALID": "0"}, ["cuda", "cuda:1"]),
    ],
    ids=str,
)
def test_processes_of_a_machine_share_out_its_gpus(
    environment: dict[str, str], devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for index, device in enumerate(devices):
        for name, value in environment.items():
            monkeypatch.setenv(name, value.format(index))
        assert resolve_device("auto") == resolve_device(None) == device
        assert resolve_device("cuda:0") == "cuda:0"  # a named device is that device


def test_a_process_that_sees_one_gpu_has_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert resolve_device("auto") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "x")
    with pytest.raises(UsageError, match="LOCAL_RANK cannot be read"):
        resolve_device("auto")
