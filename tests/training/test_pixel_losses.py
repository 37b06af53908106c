"""Training losses of pixel-space models: values, gradients and inputs of the network."""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models.noisy_classifier import NoisyClassifier
from diffcls.training import pixel_losses
from diffcls.training.augmentation import mirrored
from diffcls.training.loop import Phase
from diffcls.training.noise_levels import LearnedLogSnr
from diffcls.training.pixel_losses import learned_schedule, noisy_phase, pixels_phase
from diffcls.training.recipes import NoisyRecipe, PixelRecipe

SMALL = PixelRecipe(image_size=8, widths=(8, 16), flip=False, batch=16)


class Recorder(nn.Module):
    """Replacement of a U-Net that records its inputs and returns a constant."""

    def __init__(self, classes: int | None, channels: int = 1, output: float = 0.0) -> None:
        super().__init__()
        self.config = types.SimpleNamespace(num_class_embeds=classes)
        self.output = nn.Parameter(torch.full((channels,), output))
        self.inputs: list[dict[str, Tensor]] = []

    def forward(self, x_t: Tensor, timestep: Tensor, **conditions: Tensor) -> Any:
        self.inputs.append({"x_t": x_t, "timestep": timestep, **conditions})
        out = self.output[:, None, None].expand(len(x_t), -1, *x_t.shape[2:])
        return types.SimpleNamespace(sample=out)


def labelled(count: int = 200) -> tuple[Tensor, Tensor]:
    """Images with a tenth of their label as the value of every pixel."""
    labels = torch.arange(count) % 10
    return (labels / 10)[:, None, None, None].expand(-1, 1, 4, 4).clone(), labels


def phase_of(unet: Any, recipe: PixelRecipe, learned: LearnedLogSnr | None = None) -> Phase:
    return pixels_phase(unet, learned, *labelled(), recipe, seed=0)


@pytest.mark.parametrize("dropout", [0.0, 0.2, 1.0])
def test_network_receives_classes_except_for_the_share_of_class_dropout(
    monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    monkeypatch.setattr(pixel_losses, "noised", lambda x0, noise, levels: x0)
    unet = Recorder(11)
    phase = phase_of(unet, replace(SMALL, batch=128, class_dropout=dropout))
    for step in range(20):
        phase.loss(step)
    received = torch.cat([one["class_labels"] for one in unet.inputs])
    true = torch.cat([(one["x_t"][:, 0, 0, 0] * 10).round().long() for one in unet.inputs])
    no_class = received == 10
    assert torch.equal(received[~no_class], true[~no_class])
    # 2,560 random choices: four standard errors about the share, none at 0 and 1
    error = (dropout * (1 - dropout) / len(received)) ** 0.5
    assert abs(float(no_class.float().mean()) - dropout) <= 4 * error


def test_unconditional_network_receives_no_class() -> None:
    unet = Recorder(None)
    phase_of(unet, replace(SMALL, conditional=False)).loss(0)
    assert sorted(unet.inputs[0]) == ["timestep", "x_t"]


def test_the_loss_of_a_step_depends_on_its_number_alone() -> None:
    phase = phase_of(Recorder(11), SMALL)
    first = [float(phase.loss(step).detach()) for step in (0, 1)]
    again = phase_of(Recorder(11), SMALL)
    assert [float(again.loss(step).detach()) for step in (1, 0)] == first[::-1]
    assert first[0] != first[1]


def test_a_learned_variance_adds_its_share_of_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    # L_simple + λ·L_vlb, λ = 0.001, the sum over T levels estimated from one of them
    recipe = replace(SMALL, learned_variance=True)
    seen: list[Tensor] = []

    def term(out: Tensor, mixture: Tensor, x0: Tensor, *rest: Any) -> Tensor:
        seen.append(mixture)
        return torch.full((len(x0),), 3.0)

    monkeypatch.setattr(pixel_losses, "variance_term", term)
    found = phase_of(Recorder(11, channels=2, output=0.5), recipe).loss(0)
    alone = phase_of(Recorder(11, output=0.5), SMALL).loss(0)
    assert float((found - alone).detach()) == pytest.approx(0.001 * 1000 * 3.0)
    # the network's second output in [−1, 1] is a mixture in [0, 1]
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 0.75))


def test_schedule_loss_trains_the_schedule_alone_and_the_residual_the_network_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = replace(SMALL, noise_schedule="learned", loss_weighting="min-snr")
    learned = learned_schedule(recipe)
    assert learned is not None
    unet = Recorder(11, output=0.5)
    total = phase_of(unet, recipe, learned).loss(0)
    total.backward()
    assert unet.output.grad is not None
    with_it = unet.output.grad.clone()
    moved = {name: p.grad.clone() for name, p in learned.named_parameters() if p.grad is not None}
    assert moved.keys() == dict(learned.named_parameters()).keys()
    assert all(gradient.isfinite().all() and gradient.any() for gradient in moved.values())

    held: list[tuple[Tensor, Tensor]] = []

    def nothing(slope: Tensor, error: Tensor) -> Tensor:
        held.append((slope, error))
        return torch.zeros(())

    monkeypatch.setattr(pixel_losses, "schedule_loss", nothing)
    unet.zero_grad()
    learned.zero_grad()
    alone = phase_of(unet, recipe, learned).loss(0)
    alone.backward()
    assert torch.equal(unet.output.grad, with_it)
    assert all(p.grad is None for p in learned.parameters())
    ((slope, error),) = held
    # the schedule loss takes the error of the noise, whatever the weighting of the other loss
    assert float((total - alone).detach()) == pytest.approx(
        float((0.5 * error * slope**2).mean().detach()), rel=1e-5
    )
    assert float(error.mean().detach()) == pytest.approx(1 + 0.5**2, rel=0.2)


def test_a_classifiers_loss_is_that_of_its_logits_at_the_levels_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schedule = NoiseSchedule.rectified_flow()
    monkeypatch.setattr(pixel_losses, "noised", lambda x0, noise, levels: x0)

    class Exact(NoisyClassifier):
        """Classifier with a logit of 5 for the label in the pixels; it checks the levels."""

        def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
            torch.testing.assert_close(alpha + sigma, torch.ones(len(x_t)))
            true = (x_t[:, 0, 0, 0] * 10).round().long()
            return 5.0 * nn.functional.one_hot(true, 10).float()

    recipe = NoisyRecipe(model="", widths=(8,), flip=False, batch=64)
    loss = noisy_phase(Exact(10, 1, (8,)), schedule, *labelled(), recipe, seed=0).loss(0)
    assert float(loss) == pytest.approx(np.log(np.exp(5.0) + 9) - 5.0, rel=1e-5)


def test_images_are_mirrored_half_of_the_time_with_flip() -> None:
    images = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(400, 1, 4, 4)
    found = mirrored(images, True, torch.Generator().manual_seed(0))
    flipped = (found == images.flip(-1)).flatten(1).all(dim=1)
    assert ((found == images).flatten(1).all(dim=1) ^ flipped).all()
    # 400 fair coins: four standard errors about a half
    assert abs(float(flipped.float().mean()) - 0.5) < 4 * 0.5 / 400**0.5
    assert mirrored(images, False, torch.Generator().manual_seed(0)) is images
