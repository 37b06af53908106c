"""Evaluation in the midst of other work: everything is restored, to the bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers.pipeline_states import built
from torch import nn

from diffcls.models.evaluation_state import evaluating


def disturb() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    random.random()
    np.random.rand(3)  # noqa: NPY002
    torch.rand(3)


def next_numbers() -> tuple[object, ...]:
    return (
        random.random(),
        np.random.rand(3).tolist(),  # noqa: NPY002
        np.random.standard_normal(),  # noqa: NPY002  # one of a pair: the other is kept
        torch.rand(3).tolist(),
    )


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_go_on_as_if_nothing_had_happened(fails: bool) -> None:
    disturb()
    np.random.standard_normal()  # noqa: NPY002
    wanted = next_numbers()
    disturb()
    np.random.standard_normal()  # noqa: NPY002
    try:
        with evaluating():
            disturb()
            if fails:
                raise RuntimeError
    except RuntimeError:
        pass
    assert next_numbers() == wanted


@pytest.mark.parametrize("fails", [False, True])
def test_modules_are_in_eval_mode_inside_and_each_as_before_afterwards(fails: bool) -> None:
    net = nn.Sequential(nn.Dropout(0.9), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))).train()
    net[1][0].eval()  # a frozen normalisation
    before = [module.training for module in net.modules()]
    x, statistics = torch.rand(4, 3), net[1][0].running_mean.clone()
    try:
        with evaluating(net):
            assert not any(module.training for module in net.modules())
            assert torch.equal(net(x), net(x))
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert (
        [module.training for module in net.modules()] == before == [True, True, True, False, True]
    )
    assert torch.equal(net[1][0].running_mean, statistics)


def test_the_networks_of_a_pipeline_count_also_those_in_a_wrapper() -> None:
    pipeline = built("sd1")
    pipeline.unet = nn.DataParallel(pipeline.unet.train())
    pipeline.text_encoder.train()
    with evaluating(pipeline):
        assert not pipeline.unet.module.conv_in.training and not pipeline.vae.training
        assert not pipeline.text_encoder.training
    assert pipeline.unet.module.conv_in.training and pipeline.text_encoder.training


def test_mixed_precision_is_off_inside() -> None:
    net = nn.Linear(3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        with evaluating(net):
            assert net(torch.rand(2, 3)).dtype == torch.float32
        assert net(torch.rand(2, 3)).dtype == torch.bfloat16
