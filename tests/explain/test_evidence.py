"""Evidence: exact sums, closed forms on the analytic denoiser, and the bundled digits."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.pipeline_states import built
from PIL import Image

from diffcls import ZeroShotImageClassifier
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.explain import files, main
from diffcls.explain.evidence import Evidence, upsample, word_evidence
from diffcls.explain.measurement import measure_evidence, thorough_method
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.support.errors import DataError, UsageError

SHAPE = (3, 8, 8)
DRAWS = 24
PROMPTS = PromptSet(("left", "right"), ("left", "right"), (0, 1))


@pytest.fixture(scope="module")
def gaussian() -> GaussianDenoiser:
    """Two classes whose means differ in the left half of the image only."""
    means = {name: torch.zeros(SHAPE) for name in ("left", "right", "middle", "")}
    means["left"][:, :, :4] = 0.5
    means["middle"][:, :, 2:6] = 0.2
    return GaussianDenoiser(means, 0.4)


@pytest.fixture(scope="module")
def evidence(gaussian: GaussianDenoiser) -> Evidence:
    pixels = np.full(SHAPE, 0.1, dtype=np.float32)
    pixels[:, :, :4] = 0.45
    method = thorough_method(gaussian, PROMPTS, DRAWS, batch_size=7)
    return measure_evidence(method, pixels, words=False)


@pytest.fixture(scope="module")
def digits() -> ZeroShotImageClassifier:
    return ZeroShotImageClassifier.from_pretrained("digits")


@pytest.fixture(scope="module")
def seven() -> Image.Image:
    data = load_dataset("digits", "test")
    item = next(item for item in data.items if item.label == 7)
    image: Image.Image = item.open()
    return image


def test_evidence_lies_only_where_the_classes_differ(evidence: Evidence) -> None:
    assert np.all(evidence.latent_map[:, 4:] == 0)
    assert np.all(evidence.latent_map[:, :4] > 0)


def test_evidence_agrees_with_the_closed_form_of_each_draw(
    gaussian: GaussianDenoiser, evidence: Evidence
) -> None:
    from diffcls.diffusion.draws import noise

    method = thorough_method(gaussian, PROMPTS, DRAWS)
    schedule = gaussian.schedule
    x0 = np.full(SHAPE, 0.1)
    x0[:, :, :4] = 0.45
    for j in (0, 5, DRAWS - 1):
        i = method.plan.indices[j]
        alpha, sigma = float(schedule.alpha[i]), float(schedule.sigma[i])
        eps = noise(0, j, SHAPE).double().numpy()
        x_t = alpha * x0 + sigma * eps
        errors = []
        for mean in (0.5, 0.0):
            # E[ε | x_t] of x0 ~ N(mean, s²): σ·(x_t − α·mean)/(α²s² + σ²)
            estimate = sigma * (x_t - alpha * mean) / (alpha**2 * 0.4**2 + sigma**2)
            errors.append(((estimate - eps) ** 2).mean(axis=0))
        expected = (errors[1] - errors[0])[:, :4] / 64
        assert np.allclose(evidence.differences[j][:, :4], expected, atol=1e-7)


@pytest.mark.slow
def test_evidence_of_many_kinds_sums_to_the_difference_of_scores(
    digits: ZeroShotImageClassifier, seven: Image.Image
) -> None:
    found = digits.explain(seven, "seven", "one", draws=DRAWS)
    prompts = digits.prompts(("seven", "one"))
    method = thorough_method(
        digits.denoiser, prompts, DRAWS, allocation=digits.denoiser.card.allocation
    )
    (result,) = method.classify([Item("x", 0, lambda: seven)])
    difference = float(result.scores[0] - result.scores[1])
    assert difference != 0
    for total in (
        found.difference,
        found.map.sum(),
        found.latent_map.sum(),
        found.per_timestep.mean(),
        sum(part["difference"] for part in found.by_time()),
    ):
        assert abs(total - difference) < 1e-5 * abs(difference) + 1e-7


def test_exchanged_labels_negate_the_evidence(
    digits: ZeroShotImageClassifier, seven: Image.Image
) -> None:
    one_way = digits.explain(seven, "seven", "one", draws=8, words=False)
    other_way = digits.explain(seven, "one", "seven", draws=8, words=False)
    assert np.array_equal(one_way.map, -other_way.map)
    assert np.array_equal(one_way.stderr, other_way.stderr)


def test_evidence_is_independent_of_the_batch_size(gaussian: GaussianDenoiser) -> None:
    pixels = np.linspace(-1, 1, 192, dtype=np.float32).reshape(SHAPE)
    maps = [
        measure_evidence(
            thorough_method(gaussian, PROMPTS, DRAWS, batch_size=rows), pixels, words=False
        ).map
        for rows in (1, 5, 64)
    ]
    assert np.allclose(maps[0], maps[1], rtol=0, atol=1e-9)
    assert np.allclose(maps[0], maps[2], rtol=0, atol=1e-9)


def test_templates_of_a_class_are_averaged(gaussian: GaussianDenoiser) -> None:
    pixels = np.full(SHAPE, 0.2, dtype=np.float32)

    def scored(prompts: PromptSet) -> Evidence:
        return measure_evidence(thorough_method(gaussian, prompts, 6), pixels, words=False)

    both = scored(PromptSet(("a", "b"), ("left", "middle", "right"), (0, 0, 1)))
    parts = [
        scored(PromptSet(("a", "b"), (text, "right"), (0, 1))).latent_map
        for text in ("left", "middle")
    ]
    assert np.allclose(both.latent_map, (parts[0] + parts[1]) / 2, rtol=0, atol=1e-9)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_upsampling_keeps_the_sum_of_every_map(factor: int) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 8, 6))
    large = upsample(maps, (8 * factor, 6 * factor))
    assert large.shape == (3, 8 * factor, 6 * factor)
    assert np.allclose(large.sum(axis=(1, 2)), maps.sum(axis=(1, 2)), atol=1e-12)
    if factor == 1:
        assert np.array_equal(large, maps)


def test_standard_errors_are_those_of_the_draws(evidence: Evidence) -> None:
    from scipy.stats import sem

    assert np.allclose(evidence.latent_stderr, sem(evidence.differences, axis=0))
    assert np.isclose(evidence.difference_stderr, sem(evidence.differences.sum(axis=(1, 2))))


def test_word_evidence_is_the_rise_of_the_error_without_the_word() -> None:
    table = {"a red fox": [1.0, 2.0], "red fox": [1.0, 2.5], "a fox": [4.0, 5.0], "a red": [0.5, 1]}
    words = word_evidence("a red fox", lambda texts: np.array([table[text] for text in texts]))
    assert [word.word for word in words] == ["a", "red", "fox"]
    assert [word.contribution for word in words] == [0.25, 3.0, -0.75]
    assert [word.stderr for word in words] == [0.25, 0.0, 0.25]


def test_the_class_name_contributes_more_than_any_other_word(
    digits: ZeroShotImageClassifier, seven: Image.Image
) -> None:
    words = digits.explain(seven, "seven", "one", draws=32).words["seven"]
    most = max(words, key=lambda word: word.contribution)
    assert most.word == "seven." and most.contribution > 2 * most.stderr


def test_noise_is_not_shown() -> None:
    values = np.array([[1.0, -1.0], [0.5, 0.0]])
    shown = files.opacity(values, np.array([[1.0, 0.1], [0.5 / 2.48, 0.0]]))
    assert shown[0, 0] == 0 and shown[0, 1] == files.MAX_OPACITY
    assert np.isclose(shown[1, 0], files.MAX_OPACITY * 0.5 * 0.5)
    assert shown[1, 1] == 0


def test_overlay_tints_each_side_in_its_colour(evidence: Evidence) -> None:
    pixels = files.overlay(evidence.map, evidence.stderr, evidence.pixels)
    side = pixels.shape[1]
    blue, plain = pixels[side // 2, side // 8], pixels[side // 2, -side // 8]
    assert blue[2] > blue[0] and len(set(plain.tolist())) == 1


def test_one_draw_is_refused(gaussian: GaussianDenoiser) -> None:
    method = thorough_method(gaussian, PROMPTS, 1)
    with pytest.raises(UsageError, match="draws out of range"):
        measure_evidence(method, np.zeros(SHAPE, dtype=np.float32))


def test_several_images_are_refused(digits: ZeroShotImageClassifier, seven: Image.Image) -> None:
    with pytest.raises(UsageError, match="one image"):
        digits.explain([seven, seven], "one", "two")


def test_command_writes_overlay_and_arrays_that_agree(
    seven: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven.save(tmp_path / "seven.png")
    output = tmp_path / "out"
    arguments = [str(tmp_path / "seven.png"), "--labels", "one", "seven", "--draws", "8"]
    assert main([*arguments, "--output-dir", str(output)]) == 0
    assert "one over seven: log odds -" in capsys.readouterr().out
    assert main([*arguments, "--output-dir", str(output), "--seed", "1"]) == 0
    stems = {path.stem for path in (output / "evidence").iterdir()}
    assert len(stems) == 2, "another seed has files of its own"
    for stem in stems:
        with np.load(output / "evidence" / f"{stem}.npz") as arrays:
            assert np.isclose(arrays["map"].sum(), arrays["per_timestep"].mean())
        with Image.open(output / "evidence" / f"{stem}.png") as overlay:
            assert overlay.mode == "RGB"


@pytest.mark.slow
def test_command_compares_the_best_label_with_the_runner_up(
    seven: Image.Image, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seven.save(tmp_path / "seven.png")
    arguments = [str(tmp_path / "seven.png"), "--labels", "zero", "seven", "six", "--draws", "8"]
    assert main([*arguments, "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("seven over ")


def test_method_of_a_search_is_the_exhaustive_one(gaussian: GaussianDenoiser) -> None:
    method = thorough_method(gaussian, PROMPTS, DRAWS)
    assert isinstance(method, DiffusionMethod) and len(method.plan) == DRAWS


def test_values_that_overflow_are_measured_in_single_precision(
    gaussian: GaussianDenoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.full(SHAPE, 0.1, dtype=np.float32)
    method = thorough_method(gaussian, PROMPTS, 4, batch_size=4)
    exact = measure_evidence(method, pixels, words=False)
    whole, reached = method.scorer.error_maps, []

    def overflowing(*arguments: Any) -> torch.Tensor:
        reached.append(gaussian.dtype)
        maps = whole(*arguments)
        return maps if gaussian.dtype == torch.float32 else maps * torch.inf

    @contextlib.contextmanager
    def single() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(gaussian, "dtype", torch.float32)
            yield

    monkeypatch.setattr(method.scorer, "error_maps", overflowing)
    monkeypatch.setattr(gaussian, "float32", single)
    with monkeypatch.context() as half:
        half.setattr(gaussian, "dtype", torch.float16)
        found = measure_evidence(method, pixels, words=False)
    assert (found.differences == exact.differences).all()
    monkeypatch.setattr(method.scorer, "error_maps", lambda *a: whole(*a) * torch.nan)
    with pytest.raises(DataError, match="not finite"):
        measure_evidence(method, pixels, words=False)


def test_each_range_of_timesteps_has_draws_enough_for_a_standard_error(
    gaussian: GaussianDenoiser,
) -> None:
    for draws, ranges in ((2, 1), (5, 2), (16, 8), (40, 8)):
        pixels = np.full(SHAPE, 0.1, dtype=np.float32)
        found = measure_evidence(thorough_method(gaussian, PROMPTS, draws), pixels, words=False)
        parts = found.by_time()
        assert len(parts) == ranges and all(part["stderr"] > 0 for part in parts)
        assert sum(part["difference"] for part in parts) == pytest.approx(found.difference)


def test_labels_keep_their_classes_where_a_model_has_no_names_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline, names = built("dit"), ["a", "b", "c", "d"]
    unnamed = ZeroShotImageClassifier.from_pipeline(pipeline)
    ids = [*names, *(f"class {k}" for k in range(4, 10))]
    named = ZeroShotImageClassifier.from_pipeline(pipeline, class_names=ids)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    image.save(tmp_path / "image.png")
    best, second = (answer["label"] for answer in named(image, names)[:2])
    assert [best, second] != names[:2]
    wanted = named.explain(image, best, second, draws=4)
    found = unnamed.explain(image, best, second, draws=4, candidate_labels=names)
    assert (found.differences == wanted.differences).all()
    with pytest.raises(UsageError, match="label is no candidate: 'e'"):
        unnamed.explain(image, "a", "e", draws=4, candidate_labels=names)

    monkeypatch.setattr(ZeroShotImageClassifier, "from_pretrained", lambda *_, **__: unnamed)
    asked = [str(tmp_path / "image.png"), "--labels", *names, "--draws", "4", "--json"]
    assert main([*asked, "--output-dir", str(tmp_path)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["label"], printed["other"]) == (best, second)
    assert printed["difference"] == wanted.difference
