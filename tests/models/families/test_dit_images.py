"""DiT: images are resized and cropped as in its training, whatever prepares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_families import loaded, saved
from PIL import Image

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.data.dataset import Item
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import to_pixels
from diffcls.evaluate import parser
from diffcls.evaluation.run import run_evaluation
from diffcls.models.denoiser import Denoiser
from diffcls.search.exhaustive import Exhaustive

SIZES = [(32, 32), (64, 64), (63, 64), (131, 64), (64, 257), (37, 61), (500, 333), (20, 33)]


def picture(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def averages(pixels: np.ndarray) -> np.ndarray:
    """Averages of blocks of 2×2 pixels, along rows and then along columns, each rounded."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    rows = np.floor(pixels.reshape(-1, width, 2, 3).mean(axis=2) + 0.5)
    return np.floor(rows.reshape(height, 2, width, 3).mean(axis=1) + 0.5)


def adm_by_hand(image: Image.Image, size: int) -> np.ndarray:
    """The crop of ADM in NumPy but for the bicubic filter: (3, size, size) in [−1, 1]."""
    pixels = np.asarray(image).astype(np.float64)
    while min(pixels.shape[:2]) >= 2 * size:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        if pixels.shape[0] % 2 or pixels.shape[1] % 2:  # boxes of broken pixels: the filter's
            small = Image.fromarray(pixels.astype(np.uint8)).resize((width, height), Image.BOX)
            pixels = np.asarray(small).astype(np.float64)
        else:
            pixels = averages(pixels)
    height, width = pixels.shape[:2]
    ratio = size / min(height, width)
    sides = (round(width * ratio), round(height * ratio))
    scaled = Image.fromarray(pixels.astype(np.uint8)).resize(sides, Image.BICUBIC)
    array = np.asarray(scaled)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    array = array[top : top + size, left : left + size]
    return array.transpose(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("size", SIZES)
def test_adm_crop_halves_by_averages_then_resizes_and_crops(size: tuple[int, int]) -> None:
    ours = to_pixels(picture(*size), 32, "adm")
    assert np.allclose(ours, adm_by_hand(picture(*size), 32), atol=1e-6)
    assert ours.shape == (3, 32, 32) and ours.dtype == np.float32


def test_halving_is_no_bicubic_resize_and_both_agree_without_any() -> None:
    large, exact = picture(128, 96), picture(32, 32)
    assert not np.array_equal(to_pixels(large, 32, "adm"), to_pixels(large, 32))
    assert np.array_equal(to_pixels(exact, 32, "adm"), to_pixels(exact, 32))
    # an image of twice the side is averaged over blocks of 2×2
    mean = averages(np.asarray(picture(64, 64)).astype(float)).transpose(2, 0, 1) / 127.5 - 1
    assert np.allclose(to_pixels(picture(64, 64), 32, "adm"), mean, atol=1e-6)


@pytest.fixture
def dit(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return loaded(saved("dit", tmp_path_factory.getbasetemp()))


def latent_seen(model: Denoiser, **options: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    encode = model.encode_images

    def record(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(pixels[0])
        return encode(pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "encode_images", record)
        method = DiffusionMethod(
            model, PromptSet(("a", "b"), ("3", "0"), (0, 1)), Exhaustive(2), **options
        )
        list(method.classify([Item("i", 0, lambda: picture(130, 97))]))
    return seen[0]


def test_dit_sees_images_cropped_as_in_its_training(dit: Any) -> None:
    assert dit.interpolation == "adm"
    for options, resizing in (({}, "adm"), ({"interpolation": "bicubic"}, "bicubic")):
        expected = to_pixels(picture(130, 97), dit.image_size, resizing)
        assert np.array_equal(latent_seen(dit, **options).numpy(), expected)


def planned(folder: Path, *arguments: str) -> dict[str, Any]:
    line = ["--model", str(folder), "--draws", "2", "--limit", "3", "--dry-run", *arguments]
    (row,) = run_evaluation(**vars(parser().parse_args(line)))
    return row


def test_crop_is_part_of_the_fingerprint_of_dit_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base = tmp_path_factory.getbasetemp()
    dit, sd1 = saved("dit", base), saved("sd1", base)
    own, bicubic = planned(dit), planned(dit, "--interpolation", "bicubic")
    assert own["spec"]["interpolation"] == "adm"
    assert "interpolation" not in bicubic["spec"]
    assert own["fingerprint"] != bicubic["fingerprint"]
    assert planned(dit, "--interpolation", "adm")["fingerprint"] == own["fingerprint"]
    plain = planned(sd1)
    assert "interpolation" not in plain["spec"]
    assert planned(sd1, "--interpolation", "bicubic")["fingerprint"] == plain["fingerprint"]


def test_loss_of_the_bound_is_part_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = saved("dit", tmp_path_factory.getbasetemp())
    rows = [planned(folder, "--loss", loss) for loss in ("l2", "vlb", "l2+vlb")]
    assert [row["spec"]["loss"] for row in rows] == ["l2", "vlb", "l2+vlb"]
    assert len({row["fingerprint"] for row in rows}) == 3
