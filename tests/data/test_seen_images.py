"""Hashes of training data: copies of an image are equal, and files are read back or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcls.data import seen_images
from diffcls.data.dataset import Dataset, Item
from diffcls.data.load import load_dataset
from diffcls.data.seen_images import SeenImages, collect, hash_image, hash_name, read
from diffcls.data.transforms import load_image
from diffcls.support.errors import DataError, ModelError


def noise(seed: int, side: int = 12) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 200, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(values)


def made(seeds: range, name: str = "made") -> Dataset:
    items = tuple(Item(f"{s}", s % 2, lambda s=s: noise(s)) for s in seeds)  # type: ignore[misc]
    return Dataset(name, "train", ("An apple", "pear"), items, "r")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_a_lossless_copy_has_the_hash_of_its_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"copy.{suffix}"
    noise(0).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert hash_image(load_image(path)) == hash_image(noise(0))


def test_other_gray_levels_in_the_same_order_have_the_same_hash() -> None:
    """The usual ways of writing the 17 levels of scikit-learn's digits as bytes."""
    levels = np.random.default_rng(0).integers(0, 17, (8, 8)).astype(np.float64)
    ways = [levels, levels * 15, np.rint(levels * 255 / 16), np.floor(levels / 16 * 255)]
    hashes = {hash_image(load_image(Image.fromarray(way.astype(np.uint8)))) for way in ways}
    assert len(hashes) == 1


def test_any_other_pixel_order_or_shape_has_another_hash() -> None:
    pixels = np.asarray(noise(0))
    changed = pixels.copy()
    changed[3, 3, 0] ^= 255
    turned, tall = pixels[::-1], pixels.reshape(24, 6, 3)
    images = [Image.fromarray(np.ascontiguousarray(a)) for a in (pixels, changed, turned, tall)]
    assert len({hash_image(image) for image in images}) == 4


def test_images_of_one_colour_are_no_evidence() -> None:
    assert hash_image(Image.new("RGB", (8, 8), (9, 80, 7))) is None
    assert hash_image(Image.new("RGB", (8, 8))) is None


def test_names_are_compared_by_letters_and_digits() -> None:
    same = ["T-shirt/top", "t shirt top", "tshirt_TOP"]
    assert len(set(map(hash_name, same))) == 1
    assert hash_name("café") == hash_name("cafe\N{COMBINING ACUTE ACCENT}")
    assert hash_name("cat") != hash_name("cats")


def test_a_file_is_read_back(tmp_path: Path) -> None:
    seen = collect(made(range(30)).items, ["b", "a"], limit=20)
    path = tmp_path / seen_images.SEEN_FILE
    path.write_bytes(seen.to_bytes())
    again = read(path)
    assert (again.images == seen.images).all() and (again.names == seen.names).all()
    assert (len(again.images), again.total, len(again.names)) == (20, 30, 2)


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b"",
        lambda b: b[:-1],
        lambda b: b + b"\0",
        lambda b: b.replace(b"20 of 30", b"20 of 10"),
        lambda b: b.replace(b"20 of 30", b"99999999 of 999999999"),
        lambda b: b.replace(b"seen 1", b"seen 2"),
        lambda b: b[:60] + b[60:][::-1],
        lambda b: b"\x80\x04" + b,
        lambda b: b"{}",
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    path = tmp_path / "seen.bin"
    content = collect(made(range(30)).items, ["a"], limit=20).to_bytes()
    path.write_bytes(damage(content))  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"damaged.*seen\.bin"):
        read(path)
    with pytest.raises(ModelError, match="cannot read"):
        read(tmp_path)


def test_a_copy_is_one_whose_share_of_training_images_is_an_eighth() -> None:
    seen = collect(made(range(200)).items, [], limit=200)
    hashes = {
        s: np.array([hash_image(noise(s))], np.uint64) for s in (*range(64), *range(900, 964))
    }

    def mixed(old: int) -> np.ndarray:
        seeds = [*range(old), *range(900, 964 - old)]
        return np.concatenate([hashes[s] for s in seeds])

    assert [seen.is_copy(mixed(old)) for old in (0, 7, 8, 64)] == [False, False, True, True]
    assert [seen.common_images(mixed(old)) for old in (0, 7, 64)] == [0, 7, 64]
    # of training images that were hashed in part, only that part of the share can be found
    part = SeenImages(seen.images, 4 * len(seen.images), seen.names)
    assert [part.is_copy(mixed(old)) for old in (0, 1, 2)] == [False, False, True]


def test_the_sample_is_bounded_and_unreadable_images_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[int] = []

    def opener(i: int) -> Image.Image:
        opened.append(i)
        if i % 2:
            raise DataError("broken")
        return noise(i)

    items = tuple(Item(str(i), i % 2, lambda i=i: opener(i)) for i in range(500))  # type: ignore[misc]
    data = Dataset("bounded", "test", ("a", "b"), items, "r")
    monkeypatch.setattr(seen_images, "_sampled", {})
    hashes = seen_images.sample_hashes(data)
    assert len(opened) == seen_images.SAMPLE_IMAGES
    assert len(hashes) == sum(i % 2 == 0 for i in opened)
    seen_images.sample_hashes(data)
    assert len(opened) == seen_images.SAMPLE_IMAGES  # read once


def test_union_keeps_the_hashes_of_both() -> None:
    one, two = collect(made(range(5)).items, ["a"], 9), collect(made(range(5, 9)).items, ["b"], 9)
    both = one.union(two)
    assert both.total == 9 and len(both.images) == 9
    assert both.has_name(["A"]) and both.has_name(["B"]) and not both.has_name(["c"])


def test_phrases_of_a_prompt_have_one_to_four_words() -> None:
    assert list(seen_images.phrases("a red ankle-boot.")) == [
        *("a", "red", "ankle-boot"),
        *("a red", "red ankle-boot", "a red ankle-boot"),
    ]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_image_of_the_digits_is_among_their_hashes(split: str) -> None:
    data = load_dataset("digits", split)
    seen = seen_images.of_benchmark("digits")
    assert seen is not None
    hashes = {hash_image(load_image(item.open())) for item in data.items}
    assert seen.common_images(np.array(sorted(hashes), np.uint64)) == len(data)  # type: ignore[type-var]
    assert seen.has_name(["seven"]) and seen.has_name(["7"]) and not seen.has_name(["frog"])


def test_scenes_are_hashed_without_the_held_out_combinations() -> None:
    seen = seen_images.of_benchmark("scenes:20")
    assert seen is not None

    def share(name: str, split: str) -> float:
        hashes = seen_images.sample_hashes(load_dataset(name, split))
        return seen.common_images(hashes) / len(hashes)

    assert share("scenes/attributes", "test") == share("scenes/relations", "validation") == 1.0
    assert share("scenes/held-out", "test") == 0.0
    held_out = load_dataset("scenes/held-out", "test")
    assert not seen.has_name({held_out.class_names[item.label] for item in held_out.items})


def test_hashed_benchmarks_are_those_of_bundled_models() -> None:
    for name, count, word in (("cifar10", 55_000, "lorry"), ("fashion_mnist", 65_000, "handbag")):
        seen = seen_images.of_benchmark(name)
        assert seen is not None and (len(seen.images), seen.total) == (20_000, count)
        assert seen.has_name([word])
    assert seen_images.of_benchmark("folder:digits") is None
    assert sum(path.stat().st_size for path in seen_images.ASSETS.iterdir()) < 400_000
