"""The training loop: closed forms, and the same weights after a kill."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffcls.support.errors import RecordError
from diffcls.training.augmentation import augment
from diffcls.training.distributed import ProcessGroup
from diffcls.training.loop import EarlyStopping, Loop, Phase, generator
from diffcls.training.optimiser import Ema, learning_rate
from diffcls.training.recipes import Augmentation, Optimisation


def line(steps: int = 30, stop_at: int | None = None) -> Phase:
    """Linear regression; each batch depends on its step alone."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)

    def loss(step: int) -> Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(16, 3, generator=generator("line", step))
        return (model(x) - x.sum(dim=1, keepdim=True)).pow(2).mean()

    return Phase(
        "line",
        {"model": model},
        loss,
        Optimisation(images=steps, batch=1, learning_rate=0.05, warmup=0.1, ema=0.9),
    )


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    settings = Optimisation(warmup=0.1, learning_rate=2.0)
    assert learning_rate(0, 100, settings) == pytest.approx(0.2)
    assert learning_rate(9, 100, settings) == pytest.approx(2.0)
    assert learning_rate(55, 100, settings) == pytest.approx(1.0)  # half way down the cosine
    assert learning_rate(100, 100, settings) == pytest.approx(0.0)
    constant = dataclasses.replace(settings, decay="constant")
    rates = [learning_rate(step, 100, constant) for step in range(100)]
    assert rates[:10] == [learning_rate(step, 100, settings) for step in range(10)]
    assert set(rates[10:]) == {2.0}


def test_average_follows_its_recursion() -> None:
    module = nn.Linear(2, 1)
    ema = Ema(module, 0.5)
    shadow = [p.detach().clone() for p in module.parameters()]
    for step in range(1, 6):
        with torch.no_grad():
            for p in module.parameters():
                p.add_(step)
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        weights = list(module.parameters())
        shadow = [
            decay * s + (1 - decay) * p.detach() for s, p in zip(shadow, weights, strict=True)
        ]
    for mine, wanted in zip(ema.shadow, shadow, strict=True):
        torch.testing.assert_close(mine, wanted)


def test_swapping_twice_changes_nothing_and_once_exchanges() -> None:
    module = nn.Linear(2, 1)
    ema = Ema(module, 0.5)
    with torch.no_grad():
        module.weight.zero_()
    before = ema.shadow[0].clone()
    ema.swap()
    assert torch.equal(module.weight, before)
    ema.swap()
    assert not module.weight.any()
    assert torch.equal(ema.shadow[0], before)


def test_a_run_that_was_killed_ends_at_the_same_weights(tmp_path: Path) -> None:
    whole = line()
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    Loop(whole, tmp_path / "whole", quiet=True).run()
    with pytest.raises(KeyboardInterrupt):
        Loop(line(stop_at=17), tmp_path / "cut", checkpoint_seconds=0, quiet=True).run()
    resumed = line()
    loop = Loop(resumed, tmp_path / "cut", quiet=True)
    assert loop.step == 17
    loop.run()
    for a, b in zip(
        whole.modules["model"].parameters(), resumed.modules["model"].parameters(), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another state", "other modules"])
def test_a_damaged_checkpoint_is_named_and_stays(tmp_path: Path, damage: str) -> None:
    Loop(line(), tmp_path, quiet=True).run()
    path = tmp_path / "line.pt"
    whole = path.read_bytes()
    if damage in ("another state", "other modules"):
        state = torch.load(path, weights_only=True)
        torch.save({"step": 3} if damage == "another state" else state | {"model": {}}, path)
    else:
        path.write_bytes({"cut": whole[:100], "empty": b"", "text": b"no checkpoint"}[damage])
    content = path.read_bytes()
    with pytest.raises(RecordError, match=r"checkpoint .* cannot be read .*line\.pt.*delete it"):
        Loop(line(), tmp_path, quiet=True)
    assert path.read_bytes() == content
    path.unlink()  # as the message says: the phase begins again, to the same weights
    Loop(line(), tmp_path, quiet=True).run()
    again, first = torch.load(path, weights_only=True), torch.load(BytesIO(whole))
    assert torch.equal(again["ema"][0], first["ema"][0])


def test_training_leaves_the_averaged_weights(tmp_path: Path) -> None:
    phase = line(steps=200)
    loop = Loop(phase, tmp_path, quiet=True)
    loop.run()
    weight = phase.modules["model"].weight
    torch.testing.assert_close(weight, torch.ones(1, 3), atol=0.02, rtol=0)
    stored = torch.load(tmp_path / "line.pt", weights_only=True)
    assert torch.equal(stored["ema"][0], weight)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    phase = dataclasses.replace(line(), loss=lambda step: torch.tensor(math.nan))
    with pytest.raises(RecordError, match="not finite at step 0"):
        Loop(phase, tmp_path, quiet=True).run()


def test_curve_has_one_line_per_point_and_the_last_step(tmp_path: Path) -> None:
    Loop(line(steps=10), tmp_path, quiet=True).run(lambda step: {"seen": 2.0 * step}, points=3)
    lines = (tmp_path / "line-curve.jsonl").read_text().splitlines()
    assert [json.loads(text)["seen"] for text in lines] == [8.0, 16.0, 20.0]


def test_no_augmentation_changes_no_pixel() -> None:
    images = torch.rand(4, 3, 16, 16, generator=generator("images")) * 2 - 1
    same = augment(images, Augmentation(), generator("x"))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)


def test_augmentation_depends_on_its_key_alone() -> None:
    images = torch.rand(4, 3, 16, 16, generator=generator("images")) * 2 - 1
    strong = Augmentation(degrees=20, scale=0.2, shear=0.2, shift=0.1, warp=0.05, contrast=0.3)
    first = augment(images, strong, generator("x"))
    torch.rand(7)
    assert torch.equal(first, augment(images, strong, generator("x")))
    assert not torch.equal(first, augment(images, strong, generator("y")))
    assert first.abs().max() <= 1


def test_flipped_images_are_mirrored_half_of_the_time() -> None:
    images = torch.rand(1, 3, 16, 16, generator=generator("images")).repeat(200, 1, 1, 1) * 2 - 1
    out = augment(images, Augmentation(flip=True), generator("flip"))
    same = (out - images).abs().amax(dim=(1, 2, 3)) < 1e-4
    mirrored = (out - images.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert (same | mirrored).all()
    # 200 fair coins: four standard errors about a half
    assert abs(mirrored.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(200)


def values_of(accuracy: list[float]) -> Callable[[int], dict[str, float]]:
    """Measure that returns the values of `accuracy` in turn, two steps apart."""
    return lambda batches: {"accuracy": accuracy[batches // 2 - 1]}


@pytest.mark.parametrize(
    ("accuracy", "steps", "best"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.9], 8, 4),  # an equal value is no improvement
        ([0.1, 0.3, 0.2, 0.5, 0.4], 10, 8),  # an improvement resets the count
    ],
)
def test_early_stopping_restores_the_averaged_weights_of_the_best_evaluation(
    accuracy: list[float], steps: int, best: int
) -> None:
    stopped, uncut = line(steps=10), line(steps=10)
    seen: dict[int, Tensor] = {}

    def measure(batches: int) -> dict[str, float]:
        seen[batches] = stopped.modules["model"].weight.detach().clone()
        return values_of(accuracy)(batches)

    loop = Loop(stopped, None, quiet=True, early_stopping=EarlyStopping("accuracy", 2, 2))
    loop.run(measure)
    assert (loop.step, loop.best_step, loop.best_value) == (
        steps,
        best,
        max(accuracy[: steps // 2]),
    )
    assert torch.equal(stopped.modules["model"].weight, seen[best])
    # evaluations change no step
    whole: dict[int, Tensor] = {}

    def keep(batches: int) -> dict[str, float]:
        whole[batches] = uncut.modules["model"].weight.detach().clone()
        return {}

    Loop(uncut, None, quiet=True).run(
        keep,
        points=5,
    )
    assert all(torch.equal(seen[n], whole[n]) for n in seen)


def test_a_killed_training_with_early_stopping_resumes_to_the_same_weights(tmp_path: Path) -> None:
    accuracy, stopping = [0.1, 0.9, 0.3, 0.2, 0.1, 0.8], EarlyStopping("accuracy", 2, 3)
    whole = line(steps=12)
    first = Loop(whole, None, quiet=True, early_stopping=stopping)
    first.run(values_of(accuracy))
    cut = Loop(
        line(steps=12, stop_at=7),
        tmp_path,
        checkpoint_seconds=0,
        quiet=True,
        early_stopping=stopping,
    )
    with pytest.raises(KeyboardInterrupt):
        cut.run(values_of(accuracy))
    resumed = line(steps=12)
    loop = Loop(resumed, tmp_path, quiet=True, early_stopping=stopping)
    assert (loop.step, loop.best_step, loop.evals_without_improvement) == (7, 4, 1)
    loop.run(values_of(accuracy))
    assert loop.step == first.step == 10
    assert torch.equal(whole.modules["model"].weight, resumed.modules["model"].weight)
    again = Loop(line(steps=12), tmp_path, quiet=True, early_stopping=stopping)
    assert again.finished


def test_early_stopping_needs_a_single_process() -> None:
    with pytest.raises(ValueError, match="single process"):
        Loop(
            line(),
            None,
            processes=ProcessGroup(size=2),
            early_stopping=EarlyStopping("accuracy", 1, 1),
        )
