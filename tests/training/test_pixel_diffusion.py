"""Pixel-space models trained by the command on tiny recipes, and bad usage of all kinds."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.interrupted_trainings import interrupt_calls
from safetensors.torch import load_file
from torch import Tensor, nn

from diffcls import train
from diffcls.diffusion.process import is_flow
from diffcls.diffusion.schedule import NoiseSchedule
from diffcls.models import loading
from diffcls.models.families.pixel_unet import PixelUNetDenoiser
from diffcls.training import pixel_diffusion, pixel_losses, recipe_table
from diffcls.training.loop import Loop, Phase
from diffcls.training.noise_levels import to_schedule
from diffcls.training.optimiser import learning_rate
from diffcls.training.pixel_losses import build_unet, learned_schedule
from diffcls.training.recipes import Optimisation, PixelRecipe

BATCH = 16
SMALL = PixelRecipe(image_size=8, widths=(8, 16), flip=False, images=4 * BATCH, batch=BATCH)
POINTS = [BATCH, 2 * BATCH, 3 * BATCH, 4 * BATCH]
NAMES = tuple("0123456789")


@pytest.fixture(autouse=True)
def _of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipe_table.PIXEL_RECIPES, "digits", SMALL)  # type: ignore[misc]


def run(folder: Path, *flags: str, kind: str = "pixels") -> int:
    return train.main(["--output-dir", str(folder), "--model", kind, "--quiet", *flags])


def card_of(folder: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((folder / loading.CARD).read_text(encoding="utf-8"))
    return card


def weights(folder: Path) -> dict[str, Tensor]:
    held: dict[str, Tensor] = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    return held


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def opened(folder: Path) -> PixelUNetDenoiser:
    denoiser = loading.load(str(folder))
    assert isinstance(denoiser, PixelUNetDenoiser)
    return denoiser


def scheduler_config(folder: Path) -> dict[str, Any]:
    path = folder / "scheduler" / "scheduler_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class-conditional pixel-space model with fixed variance, trained once by the command."""
    base = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipe_table.PIXEL_RECIPES, "digits", SMALL)  # type: ignore[misc]
        assert run(base) == 0
    return base / "digits-pixels"


# ---- files of the command ------------------------------------------------------------------------


def test_card_lists_training_data_and_images_seen(model: Path) -> None:
    card = card_of(model)
    assert card["trained_on"] == ["digits"]
    assert card["labels"] == list(NAMES)
    assert card["recipe"]["images"] == 4 * BATCH
    assert [point["images"] for point in card["curve"]] == POINTS
    assert [point["step"] for point in card["curve"]] == [1, 2, 3, 4]
    assert loading.images_seen(str(model)) == 4 * BATCH
    readme = (model / "README.md").read_text(encoding="utf-8")
    assert "class-conditional" in readme
    assert card["data"]["licence"] == "cc-by-4.0" and "Alpaydin" in card["data"]["credit"]
    assert "- Licence of the data: cc-by-4.0 (E. Alpaydin" in readme
    assert f"| {4 * BATCH} | {card['curve'][-1]['loss']:.4f} |" in readme
    denoiser = opened(model)
    assert denoiser.labels == NAMES
    assert denoiser.card.has_seen("digits")
    assert denoiser.parameterization.name == "epsilon"
    np.testing.assert_allclose(denoiser.schedule.alpha, NoiseSchedule.linear().alpha)


def test_there_is_a_model_at_each_point_of_the_curve(model: Path) -> None:
    shelf = model / "training" / "snapshots"
    kinds = ("averaged", "last")
    names = [f"{seen:08d}-{kind}" for seen in POINTS for kind in kinds]
    assert sorted(path.name for path in shelf.iterdir()) == names
    held = {path.name: weights(path) for path in shelf.iterdir()}
    for i, one in enumerate(names):
        for other in names[:i]:
            assert not same(held[one], held[other])
    # the finished model is the last one's average
    assert same(weights(model), held[names[-2]])
    for seen in POINTS:
        for kind, note in zip(kinds, ("", " not averaged"), strict=True):
            folder = shelf / f"{seen:08d}-{kind}"
            denoiser = opened(folder)
            assert denoiser.card.name == f"digits-pixels@{seen}{note}"
            assert denoiser.labels == NAMES
            assert denoiser.card.has_seen("digits")
            assert loading.images_seen(str(folder)) == seen


def test_an_average_lies_between_the_weights_it_is_of(model: Path) -> None:
    shelf = model / "training" / "snapshots"
    first, second, last = (
        weights(shelf / f"{seen:08d}-{kind}")
        for seen, kind in ((BATCH, "averaged"), (2 * BATCH, "averaged"), (2 * BATCH, "last"))
    )
    # the second average is the first, moved to the second weights by 1 − (1 + 2)/(10 + 2)
    for name, value in second.items():
        expected = 0.25 * first[name].float() + 0.75 * last[name].float()
        torch.testing.assert_close(value.float(), expected, rtol=2e-3, atol=1e-5)


def test_a_card_on_stdout_is_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--images", str(BATCH), "--no-conditional", "--json") == 0
    folder = tmp_path / "digits-pixels-unconditional"
    card = json.loads(capsys.readouterr().out)
    assert card == card_of(folder)
    assert card["labels"] == []
    assert card["recipe"]["images"] == BATCH
    assert opened(folder).labels == ()
    assert "unconditional" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_seed_decides_the_weights(model: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again") == 0
    assert same(weights(tmp_path / "again" / "digits-pixels"), weights(model))
    assert run(tmp_path / "other", "--seed", "1") == 0
    assert not same(weights(tmp_path / "other" / "digits-pixels"), weights(model))


@pytest.mark.parametrize("objective", ["v_prediction", "sample"])
def test_an_objective_is_what_the_model_predicts(tmp_path: Path, objective: str) -> None:
    assert run(tmp_path, "--images", str(BATCH), "--objective", objective) == 0
    denoiser = opened(tmp_path / "digits-pixels")
    assert denoiser.parameterization.name == objective
    assert not is_flow(denoiser.schedule)


def test_a_flow_is_loaded_as_a_flow(tmp_path: Path) -> None:
    assert run(tmp_path, "--images", str(BATCH), "--objective", "flow") == 0
    denoiser = opened(tmp_path / "digits-pixels")
    assert denoiser.parameterization.name == "flow"
    assert is_flow(denoiser.schedule)
    # the network receives the same time input as in training
    sampler = pixel_losses.levels_of(replace(SMALL, prediction_type="flow_prediction"), None)
    drawn = sampler(1000, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(drawn.timestep.numpy(), denoiser.schedule.timesteps, rtol=1e-6)
    np.testing.assert_allclose(drawn.sigma.numpy(), denoiser.schedule.sigma, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", NoiseSchedule.linear()),
        ("scaled_linear", NoiseSchedule.scaled_linear()),
        ("squaredcos_cap_v2", NoiseSchedule.squared_cosine()),
    ],
)
@pytest.mark.parametrize("levels", ["discrete", "continuous"])
def test_the_schedule_of_the_folder_is_that_of_the_training(
    tmp_path: Path, name: str, expected: NoiseSchedule, levels: str
) -> None:
    recipe = replace(SMALL, noise_schedule=name, levels=levels)
    pixel_diffusion.save(build_unet(recipe, 10), None, recipe, tmp_path)
    np.testing.assert_allclose(opened(tmp_path).schedule.sigma, expected.sigma, rtol=1e-6)
    drawn = pixel_losses.levels_of(recipe, None)(1000, torch.Generator().manual_seed(0))
    assert (drawn.index is None) == (levels == "continuous")
    # at the time input of the network, the level is on the schedule or between two of its levels
    sigma = np.interp(drawn.timestep.numpy(), np.arange(1000), expected.sigma)
    np.testing.assert_allclose(drawn.sigma.numpy(), sigma, atol=2e-3)


def test_a_learned_schedule_is_loaded_from_the_folder(tmp_path: Path) -> None:
    recipe = replace(SMALL, noise_schedule="learned")
    learned = learned_schedule(recipe)
    assert learned is not None
    with torch.no_grad():
        for parameter in learned.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    pixel_diffusion.save(build_unet(recipe, 10), learned, recipe, tmp_path)
    found, wanted = opened(tmp_path).schedule, to_schedule(learned, 1000)
    np.testing.assert_allclose(found.alpha, wanted.alpha, rtol=1e-9)
    np.testing.assert_allclose(found.sigma, wanted.sigma, rtol=1e-9)
    # its end is the linear one's, and it begins with less noise than the first of these levels
    linear = NoiseSchedule.linear()
    assert found.snr[-1] == pytest.approx(linear.snr[-1], rel=1e-4)
    assert found.snr[0] < linear.snr[0]
    assert np.abs(found.sigma - linear.sigma).max() > 0.05


# ---- the same weights after a kill ---------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        ("--loss-weighting", "min-snr"),
        ("--noise-schedule", "learned"),
        ("--learned-variance",),
    ],
    ids=["discrete", "learned schedule", "learned variance"],
)
def test_a_training_that_was_killed_ends_at_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    flags = (*flags, "--images", str(3 * BATCH))
    assert run(tmp_path / "whole", *flags) == 0
    # a step of a learned schedule takes two
    interrupt_calls(monkeypatch, pixel_losses, "objective", {3})
    assert [run(tmp_path / "cut", *flags) for _ in range(2)] == [130, 0]
    whole, cut = (tmp_path / name / "digits-pixels" for name in ("whole", "cut"))
    assert same(weights(whole), weights(cut))
    assert scheduler_config(whole) == scheduler_config(cut)
    shelf = Path("training") / "snapshots"
    names = sorted(path.name for path in (whole / shelf).iterdir())
    assert names == sorted(path.name for path in (cut / shelf).iterdir())
    assert all(same(weights(whole / shelf / n), weights(cut / shelf / n)) for n in names)


def test_a_learned_schedule_is_learned_and_saved_with_each_snapshot(tmp_path: Path) -> None:
    assert run(tmp_path, "--noise-schedule", "learned") == 0
    folder = tmp_path / "digits-pixels"
    untrained = learned_schedule(replace(SMALL, noise_schedule="learned"))
    assert untrained is not None
    betas = [to_schedule(untrained, 1000).sigma.tolist()]
    for seen in POINTS:
        snapshot = folder / "training" / "snapshots" / f"{seen:08d}-last"
        betas.append(opened(snapshot).schedule.sigma.tolist())
    assert all(one != other for i, one in enumerate(betas) for other in betas[:i])
    averaged = folder / "training" / "snapshots" / f"{POINTS[-1]:08d}-averaged"
    assert scheduler_config(folder)["trained_betas"] == scheduler_config(averaged)["trained_betas"]


def test_a_finished_model_and_a_snapshot_can_be_fine_tuned(model: Path, tmp_path: Path) -> None:
    # at this learning rate no weight changes in half precision: the initial weights remain
    still = ("--images", str(BATCH), "--learning-rate", "1e-12")
    assert run(tmp_path / "more", "--init", str(model), *still) == 0
    more = tmp_path / "more" / "digits-pixels"
    assert same(weights(more), weights(model))
    before = card_of(more)["continued_from"]
    assert before["name"] == "digits-pixels"
    assert before["images"] == 4 * BATCH
    assert loading.images_seen(str(more)) == 5 * BATCH
    assert loading.images_seen(str(next((more / "training/snapshots").iterdir()))) == 5 * BATCH
    readme = (more / "README.md").read_text(encoding="utf-8")
    assert f"Fine-tuned from `digits-pixels`, revision `{before['revision']}`" in readme

    snapshot = model / "training" / "snapshots" / f"{2 * BATCH:08d}-last"
    assert run(tmp_path / "back", "--init", str(snapshot), *still) == 0
    back = tmp_path / "back" / "digits-pixels"
    assert same(weights(back), weights(snapshot))
    assert card_of(back)["continued_from"]["images"] == 2 * BATCH


# ---- curves for TensorBoard ----------------------------------------------------------------------


def test_missing_tensorboard_is_an_error_with_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(tmp_path, "--report-to", "tensorboard") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert 'pip install "diffcls[track]"' in message


def test_curves_are_those_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, list[tuple[int, float]]] = {}

    class Writer:
        def __init__(self, folder: Path) -> None:
            assert Path(folder) == tmp_path / "digits-pixels" / "training" / "tensorboard"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.setdefault(name, []).append((step, value))

        def flush(self) -> None:
            pass

    fake: Any = types.SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    flags = ("--images", str(2 * BATCH))
    # --report-to is not part of the recipe: a training begun without it resumes with it
    with monkeypatch.context() as patch:
        patch.setattr(pixel_losses, "objective", _stopped)
        assert run(tmp_path, *flags) == 130
    assert run(tmp_path, *flags, "--report-to", "tensorboard") == 0
    curve = card_of(tmp_path / "digits-pixels")["curve"]
    for name in ("images", "loss"):
        assert written[f"pixels/{name}"] == [(point["step"], point[name]) for point in curve]


def _stopped(*args: Any) -> Tensor:
    raise KeyboardInterrupt


def test_loop_reports_every_hundredth_step_and_each_point(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    settings = Optimisation(images=240, batch=1, learning_rate=0.1, warmup=0.1, ema=0.9)
    phase = Phase(
        "line", {"network": network}, lambda step: network.weight.square().sum(), settings
    )
    reports: list[tuple[int, dict[str, float]]] = []
    loop = Loop(phase, tmp_path, quiet=True, report=lambda step, v: reports.append((step, dict(v))))
    loop.run(lambda step: {"seen": float(step)}, points=2)
    steps = {step: values for step, values in reports if "learning_rate" in values}
    assert sorted(steps) == [100, 200]
    for step, values in steps.items():
        assert values["learning_rate"] == learning_rate(step, 240, settings)
        assert sorted(values) == ["learning_rate", "loss"]
    points = {step: values for step, values in reports if "seen" in values}
    assert {step: values["seen"] for step, values in points.items()} == {120: 120.0, 240: 240.0}
    lines = [json.loads(line) for line in (tmp_path / "line-curve.jsonl").read_text().splitlines()]
    assert [{"step": step, **values} for step, values in points.items()] == lines


# ---- bad usage -----------------------------------------------------------------------------------


REFUSED = [
    ("pixels", ["--dataset", "digit"], "did you mean 'digits'"),
    ("pixels", ["--dataset", "objectnet"], "needs the splits train: 'objectnet, which has test'"),
    ("clip", ["--dataset", "imagenet"], "needs the splits train and validation"),
    ("pixels", ["--objective", "velocity"], "unknown objective: 'velocity'"),
    ("pixels", ["--loss-weighting", "snr"], "unknown weighting of the loss: 'snr'"),
    ("pixels", ["--noise-schedule", "cosine"], "unknown noise schedule: 'cosine'"),
    ("pixels", ["--levels", "discreet"], "did you mean 'discrete'"),
    ("pixels", ["--objective", "flow", "--learned-variance"], "flow has its own noise levels"),
    ("pixels", ["--objective", "flow", "--levels", "continuous"], "flow has its own noise levels"),
    (
        "pixels",
        ["--objective", "flow", "--noise-schedule", "learned"],
        "flow has its own noise levels",
    ),
    (
        "pixels",
        ["--objective", "flow", "--noise-schedule", "scaled_linear"],
        "flow has its own noise levels",
    ),
    (
        "pixels",
        ["--learned-variance", "--levels", "continuous"],
        "discrete steps",
    ),
    (
        "pixels",
        ["--learned-variance", "--noise-schedule", "learned"],
        "discrete steps",
    ),
    ("pixels", ["--lead", "digits-pixels"], "--lead does not apply to this kind of model"),
    ("pixels", ["--report-to", "tensorboards"], "did you mean 'tensorboard'"),
    ("pixels", ["--init", "digit"], "did you mean 'digits'"),
    ("pixels", ["--device", "gpu"], "unknown device: 'gpu'"),
    ("classifier", ["--objective", "epsilon"], "--objective does not apply"),
    ("classifier", ["--no-conditional"], "--conditional does not apply"),
    ("classifier", ["--dataset", "scenes"], "needs a pixel-space model to guide"),
    ("classifier", ["--lead", "digits"], "needs a pixel-space diffusion model"),
    ("classifier", ["--lead", "nothing"], "unknown model: 'nothing'"),
    ("classifier", ["--init", "noisy-nothing"], "unknown classifier of noisy images"),
    ("diffusion", ["--levels", "continuous"], "--levels does not apply"),
    ("diffusion", ["--learned-variance"], "--learned-variance does not apply"),
    ("diffusion", ["--loss-weighting", "snr"], "unknown weighting of the loss: 'snr'"),
    ("clip", ["--noise-schedule", "linear"], "--noise-schedule does not apply"),
]


@pytest.mark.parametrize(("kind", "flags", "message"), REFUSED)
def test_bad_usage_is_one_line_and_status_2_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, flags: list[str], message: str
) -> None:
    assert run(tmp_path, *flags, kind=kind) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--objective", "v_prediction"), "of another objective: 'epsilon'; allowed: v_prediction"),
        (("--objective", "flow"), "of another objective: 'epsilon'; allowed: flow"),
        (("--noise-schedule", "squaredcos_cap_v2"), "of another noise schedule"),
    ],
)
def test_fine_tuning_needs_the_same_objective_and_noise_schedule(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    assert run(tmp_path, "--init", str(model), *flags) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())  # so that the advice of the message can be followed


@pytest.mark.parametrize("flags", [("--no-conditional",), ()])
def test_a_model_of_another_shape_cannot_be_fine_tuned(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    init = str(model) if flags else "digits"  # a model of latents
    assert run(tmp_path, "--init", init, *flags) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "--init names a model of another shape" in message
