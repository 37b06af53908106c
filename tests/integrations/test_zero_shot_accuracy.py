"""`ZeroShotAccuracy`: a training ends as it would without it, and the figure is the right one."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.training_loops import differences, pipeline_of, train, trained_parts

from diffcls.classifiers import validation
from diffcls.classifiers.validation import ZeroShotValidator
from diffcls.data.load import load_dataset
from diffcls.data.subsets import choose
from diffcls.integrations import ZeroShotAccuracy, zero_shot_accuracy
from diffcls.metrics.statistics import wilson_interval
from diffcls.models import loading
from diffcls.search.racing import Racing
from diffcls.support.errors import DataError, ModelError, UsageError

FEW: dict[str, Any] = {"dataset": "digits", "images": 4, "draws": 2, "img_size": 16}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return train(6, lambda parts, step: None)


@pytest.fixture(scope="module")
def digits() -> Any:
    """The bundled model's pipeline, with noise on its weights so that it errs."""
    from diffusers import StableDiffusionPipeline

    folder = loading.WEIGHTS / "digits"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(0.6 * weight.abs().mean() * noise)
    return pipeline


def process_state() -> list[Any]:
    from accelerate.state import AcceleratorState, PartialState

    backends = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    cast = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    states = (dict(PartialState._shared_state), dict(AcceleratorState._shared_state))
    return [torch.get_num_threads(), torch.get_default_dtype(), *backends, *modes, *cast, *states]


def test_a_training_ends_with_the_same_bits_with_the_callback_and_without(
    plain: dict[str, Any],
) -> None:
    logged: list[tuple[int, dict[str, float]]] = []
    accuracy = ZeroShotAccuracy(
        every=2, loggers=[lambda values, step: logged.append((step, values))], **FEW
    )
    states = []

    def callback(parts: dict[str, Any], step: int) -> None:
        gradients = [p.grad.clone() for p in parts["unet"].parameters() if p.grad is not None]
        before = process_state()
        accuracy(pipeline_of(parts), step)
        states.append(process_state() == before)
        after = [p.grad for p in parts["unet"].parameters() if p.grad is not None]
        assert gradients
        assert all(torch.equal(a, b) for a, b in zip(gradients, after, strict=True))

    assert differences(train(6, callback), plain) == []
    assert all(states)
    assert [step for step, _ in logged] == [2, 4, 6]
    assert all(values["zero_shot/images"] == 4 for _, values in logged)


def test_a_training_does_depend_on_the_random_numbers_that_are_kept(plain: dict[str, Any]) -> None:
    """The test of the test above: one draw of any generator, or a mode, would be noticed."""
    for draw in (lambda: torch.rand(1), random.random, np.random.rand):
        changed = train(6, lambda parts, step, draw=draw: draw() if step == 2 else None)
        assert "weights" in differences(changed, plain)
    switched = train(6, lambda parts, step: parts["unet"].eval() if step == 2 else None)
    assert {"weights", "modes"} <= set(differences(switched, plain))


def test_the_state_is_kept_when_the_measurement_fails(
    plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracy = ZeroShotAccuracy(every=2, **FEW)
    errors: list[str] = []

    def broken(*_: Any) -> None:
        torch.rand(5), random.random(), np.random.rand()  # noqa: NPY002
        raise RuntimeError("broken")

    def callback(parts: dict[str, Any], step: int) -> None:
        before = process_state()
        try:
            accuracy(None, step, **parts)
        except RuntimeError as error:
            errors.append(str(error))
        assert process_state() == before

    accuracy.loggers = [broken]
    assert differences(train(6, callback), plain) == []
    accuracy.history.clear()
    monkeypatch.setattr(Racing, "ask", broken)
    assert differences(train(6, callback), plain) == []
    assert errors == ["broken"] * 6


def test_weights_that_are_not_finite_are_refused_and_the_training_goes_on() -> None:
    parts = trained_parts()
    with torch.no_grad():
        parts["unet"].conv_out.bias[0] = float("nan")
    accuracy = ZeroShotAccuracy(every=1, **FEW)
    try:
        result = accuracy(None, 1, **parts)
    except ModelError:
        result = None
    assert result is None or (result.accuracy is None and result.n_failed == 4)
    assert parts["unet"].training


@pytest.mark.slow
def test_the_accuracy_is_that_of_the_validator_on_the_saved_model(
    digits: Any, tmp_path: Path
) -> None:
    digits.save_pretrained(tmp_path)
    accuracy = ZeroShotAccuracy(every=5, dataset="digits", images=16, draws=2)
    result = accuracy(digits, 10)
    assert result is not None
    validator = ZeroShotValidator("digits", Racing(2), {"validation": 16})
    reference = validator(loading.load(str(tmp_path), "cpu"), "validation")
    assert result.accuracy == reference.accuracy
    assert 0.1 < reference.accuracy < 1
    interval = wilson_interval(round(reference.accuracy * 16), 16)
    assert (result.ci_low, result.ci_high) == interval
    assert (result.n_asked, result.n_scored, result.n_failed) == (16, 16, 0)
    assert not result.time_limited

    data, _ = choose(load_dataset("digits", "validation"), 16)
    names = [f"a photo of a handwritten digit {name}." for name in data.class_names]
    rows = [(item.open(), names[item.label]) for item in data.items]
    own = ZeroShotAccuracy(every=5, dataset=rows, prompts=names, images=100, draws=2)
    same = own(step=10, **{k: v for k, v in digits.components.items() if k in PARTS})
    assert same is not None
    assert (same.accuracy, same.n_scored) == (reference.accuracy, 16)
    assert "own images" in str(same)


PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@pytest.mark.parametrize("network", ["unet", "all"])
def test_averaged_weights_are_measured_and_the_trained_ones_come_back(network: str) -> None:
    from diffusers.training_utils import EMAModel

    parts = trained_parts()
    unet = parts["unet"]
    if network == "unet":
        unet.conv_in.requires_grad_(False)  # only what is trained is averaged
    trained = [p for p in unet.parameters() if p.requires_grad]
    ema = EMAModel(trained)
    averages = [average.clone() for average in ema.shadow_params]
    ema.store(trained)  # its owner's own
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(torch.randn_like(parameter))
    weights = [p.clone() for p in unet.parameters()]
    seen: list[bool] = []
    measured = validation.validate

    def validate(denoiser: Any, *arguments: Any) -> Any:
        held = [p for p, own in zip(denoiser.network.parameters(), unet.parameters(), strict=True)
                if own.requires_grad]  # fmt: skip
        seen.append(all(torch.equal(a, b) for a, b in zip(held, averages, strict=True)))
        return measured(denoiser, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "validate", validate)
        accuracy = ZeroShotAccuracy(every=1, ema=ema, **FEW)
        accuracy(step=1, **parts)
        patch.setattr(validation, "validate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            accuracy(step=2, **parts)
    assert seen == [True]
    assert all(torch.equal(a, b) for a, b in zip(weights, unet.parameters(), strict=True))
    ema.restore(trained)  # what its owner had stored is still there
    assert all(torch.equal(a, b) for a, b in zip(averages, trained, strict=True))


def test_an_average_of_other_weights_is_refused() -> None:
    from diffusers.training_utils import EMAModel

    parts = trained_parts()
    ema = EMAModel(parts["text_encoder"].parameters())
    with pytest.raises(UsageError, match="averages other weights"):
        ZeroShotAccuracy(every=1, ema=ema, **FEW)(step=1, **parts)
    with pytest.raises(UsageError, match="ema cannot be used"):
        ZeroShotAccuracy(every=1, ema=3, **FEW)(step=1, **parts)


def test_steps_are_measured_at_multiples_and_each_once() -> None:
    accuracy = ZeroShotAccuracy(every=3, **FEW)
    parts = trained_parts()
    measured = [accuracy(step=step, **parts) for step in (1, 3, 3, 4, 6)]
    assert [result and result.step for result in measured] == [None, 3, None, None, 6]
    assert [result.step for result in accuracy.history] == [3, 6]
    # same images, same draws, same weights
    assert len({result.accuracy for result in accuracy.history}) == 1


def test_only_the_main_process_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.state import PartialState

    accuracy = ZeroShotAccuracy(every=1, **FEW)
    monkeypatch.setattr(PartialState, "_shared_state", {"process_index": 1})
    assert accuracy(step=1, **trained_parts()) is None
    assert PartialState._shared_state == {"process_index": 1}
    monkeypatch.setattr(PartialState, "_shared_state", {})
    monkeypatch.setenv("RANK", "1")
    assert accuracy(step=1, **trained_parts()) is None
    monkeypatch.setenv("RANK", "0")
    assert accuracy(step=1, **trained_parts()) is not None


def test_a_time_limit_is_stated_and_the_accuracy_is_over_the_images_scored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = pipeline_of(trained_parts())
    shared: dict[str, Any] = {"every": 1, "dataset": "digits", "draws": 2, "img_size": 16}
    tight = ZeroShotAccuracy(images=12, time_limit=1e-6, **shared)
    result = tight(pipeline, 1)
    assert result is not None and result.time_limited
    assert (result.n_asked, result.n_scored) == (12, validation.FIRST_IMAGES)
    assert "4 of 12 images" in str(result) and "time limit" in str(result)
    assert str(result) in caplog.text
    assert result.values()["zero_shot/images"] == 4
    # the smaller sample, not the images that happened to be quick
    smaller = ZeroShotAccuracy(images=4, **shared)(pipeline, 1)
    assert smaller is not None and smaller.accuracy == result.accuracy
    whole = ZeroShotAccuracy(images=12, **shared)(pipeline, 1)
    ample = ZeroShotAccuracy(images=12, time_limit=1e6, **shared)(pipeline, 1)
    assert whole is not None and ample is not None
    assert (ample.accuracy, ample.n_scored) == (whole.accuracy, 12)


IMAGE = np.zeros((8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"every": 0}, "every out of range"),
        ({"images": 0}, "images out of range"),
        ({"time_limit": 0}, "time-limit out of range"),
        ({"dataset": "digit"}, "did you mean"),
        ({"split": "dev"}, "unknown split"),
        ({"loggers": ["tensorbord"]}, "tensorboard"),
        ({"loggers": [3]}, "logger cannot be used"),
        ({"prompts": ["one", "two"]}, "differ in number"),
        ({"prompts": {"one": "a one"}}, "prompts and class names differ"),
        ({"dataset": [(IMAGE, 0)]}, "need the prompts"),
        ({"dataset": iter([(IMAGE, 0)]), "prompts": ["a", "b"]}, "has no length"),
        ({"dataset": [(IMAGE, 2)], "prompts": ["a", "b"]}, "none of the classes"),
        ({"dataset": [(IMAGE, "c")], "prompts": ["a", "b"]}, "none of the classes"),
        ({"dataset": [IMAGE, IMAGE], "prompts": ["a", "b"]}, "cannot be read"),
        ({"dataset": [{"image": IMAGE}], "prompts": ["a", "b"]}, "has no label"),
        ({"dataset": [], "prompts": ["a", "b"]}, "no images"),
        ({"dataset": [(IMAGE, 0)], "prompts": ["a", "a"]}, "duplicate labels"),
        ({"allocation": "odd"}, "allocation"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_training(changes: dict[str, Any], says: str) -> None:
    with pytest.raises((UsageError, DataError), match=says):
        ZeroShotAccuracy(**{**FEW, **changes})


def test_a_wrong_call_is_refused() -> None:
    accuracy = ZeroShotAccuracy(every=1, **FEW)
    with pytest.raises(UsageError, match="no model given"):
        accuracy(step=1)
    with pytest.raises(UsageError, match="unknown part of a pipeline"):
        accuracy(step=1, **trained_parts(), noise_scheduler=None)
    with pytest.raises(UsageError, match="no pipeline of a supported family"):
        accuracy(step=1, unet=trained_parts()["unet"])
    with pytest.raises(UsageError, match="step is no whole number"):
        accuracy(pipeline_of(trained_parts()), 1.5)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="step is no whole number"):
        accuracy(pipeline_of(trained_parts()))  # else every call would be of one step


def test_the_module_names_what_it_exports() -> None:
    import diffcls.integrations as integrations

    assert dir(integrations) == ["ZeroShotAccuracy", "ZeroShotResult"]
    assert integrations.ZeroShotAccuracy is zero_shot_accuracy.ZeroShotAccuracy
    with pytest.raises(AttributeError):
        _ = integrations.other
