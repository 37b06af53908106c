"""Image transforms: torchvision's pixels bit for bit, all formats, and errors."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from diffcls.data.transforms import MAX_PIXELS, load_image, to_image, to_pixels
from diffcls.support.errors import DataError, UsageError

SIZES = [
    (32, 32), (33, 32), (32, 33), (64, 48), (45, 67), (500, 375), (333, 500), (7, 5), (5, 7),
    (1, 1), (1, 9), (9, 1), (127, 129), (640, 97), (97, 641), (31, 32), (32, 31), (300, 301),
]  # fmt: skip
TARGETS = [32, 33, 8, 1, 96]
UINT8 = np.arange(256, dtype=np.uint8)


def random_image(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    rng = np.random.default_rng((seed, width, height))
    pixels = rng.integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(image: Image.Image) -> list[Any]:
    assert image.mode == "RGB"
    return np.asarray(image).tolist()


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---- resize and crop -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", TARGETS)
def test_pixels_equal_torchvisions_bit_for_bit(size: int) -> None:
    transforms = pytest.importorskip(
        "torchvision.transforms", reason="the reference is torchvision"
    )
    reference = transforms.Compose(
        [
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    for width, height in SIZES:
        image = random_image(width, height)
        ours = to_pixels(image, size)
        assert ours.shape == (3, size, size)
        assert ours.dtype == np.float32
        assert (ours == reference(image).numpy()).all(), (width, height)


def test_bytes_are_scaled_to_minus_1_to_1_and_back() -> None:
    image = Image.fromarray(np.stack([UINT8, UINT8[::-1], UINT8 ^ 85], -1).reshape(16, 16, 3))
    pixels = to_pixels(image, 16)
    assert (pixels.min(), pixels.max()) == (-1.0, 1.0)
    assert pixels[0].ravel() == pytest.approx(np.linspace(-1, 1, 256), abs=1e-6)
    assert pixels_of(to_image(pixels)) == pixels_of(image)


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_conversion_to_an_image_and_back_keeps_the_pixels(
    width: int, height: int, size: int
) -> None:
    pixels = to_pixels(random_image(width, height), size)
    assert (to_pixels(to_image(pixels), size) == pixels).all()


def test_values_outside_the_range_are_clipped() -> None:
    pixels = np.array([[[-3.0, -1.0]], [[0.0, 1.0]], [[1.01, 9.0]]])  # (3, 1, 2)
    assert pixels_of(to_image(pixels)) == [[[0, 128, 255], [0, 255, 255]]]


def test_crop_is_centred() -> None:
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 255
    assert (to_pixels(Image.fromarray(stripes), 4) == 1.0).all()
    assert (to_pixels(Image.fromarray(stripes.transpose(1, 0, 2)), 4) == 1.0).all()


def test_size_below_1_is_an_error() -> None:
    with pytest.raises(UsageError, match="image size out of range: 0"):
        to_pixels(random_image(4, 4), 0)


@pytest.mark.parametrize("shape", [(1, 400), (400, 1)])
def test_elongated_image_is_an_error_before_resizing_exhausts_memory(
    shape: tuple[int, int],
) -> None:
    with pytest.raises(
        DataError, match="image too elongated to resize its shorter side to 512 pixels"
    ):
        to_pixels(Image.new("RGB", shape), 512)


# ---- formats and colour modes --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "JPEG", "WEBP"])
def test_path_text_bytes_and_pil_image_give_the_same_image(kind: str, tmp_path: Path) -> None:
    data = encoded(random_image(9, 6), kind)
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(data)
    expected = pixels_of(Image.open(io.BytesIO(data)).convert("RGB"))
    for source in (path, str(path), data, bytearray(data), Image.open(io.BytesIO(data))):
        loaded = load_image(source)
        assert pixels_of(loaded) == expected
        assert to_pixels(loaded, 6).shape == (3, 6, 6)  # after the file is closed


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr", "HSV"])
def test_colour_modes_are_converted_as_by_pil(mode: str) -> None:
    image = random_image(5, 4, mode)
    assert pixels_of(load_image(image)) == pixels_of(image.convert("RGB"))


def test_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    r, g, b = np.asarray(load_image(encoded(red, "JPEG"))).reshape(-1, 3).T
    assert (r.min(), g.max(), b.max()) >= (250, 0, 0)
    assert max(g.max(), b.max()) <= 5


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_dropped_and_colours_are_kept(mode: str) -> None:
    image = random_image(5, 4, mode)
    opaque = image.copy()
    opaque.putalpha(255)
    assert pixels_of(load_image(encoded(image))) == pixels_of(load_image(encoded(opaque)))
    colours = np.asarray(image)[..., :-1].tolist()
    assert pixels_of(load_image(image)) == np.broadcast_to(colours, (4, 5, 3)).tolist()


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palette_with_transparency_keeps_its_colours(transparency: Any) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(UINT8.reshape(16, 16))
    image.putpalette(palette.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    loaded = load_image(encoded(image, **options))
    assert pixels_of(loaded) == palette.reshape(16, 16, 3).tolist()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_is_scaled_not_clipped(kind: str) -> None:
    wide = (UINT8.astype(np.uint16) * 257).reshape(16, 16)
    expected = np.repeat(UINT8.reshape(16, 16, 1), 3, axis=2).tolist()
    assert pixels_of(load_image(encoded(Image.fromarray(wide), kind))) == expected


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_first_frame_of_an_animation_is_read(kind: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"animation.{kind.lower()}"
    lossless = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    with Image.open(path) as animation:
        assert animation.n_frames == 3
    assert pixels_of(load_image(path)) == pixels_of(frames[0])
    assert (to_pixels(load_image(path), 4)[0] == 1.0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint16])
def test_arrays_contain_floats_in_0_to_1_or_integers_in_0_to_255(dtype: Any) -> None:
    gray = UINT8.reshape(16, 16)
    is_float = np.dtype(dtype).kind == "f"
    given_array = (gray / 255.0 if is_float else gray).astype(dtype)
    assert pixels_of(load_image(given_array)) == np.repeat(gray[..., None], 3, axis=2).tolist()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_have_two_dimensions_or_up_to_four_channels(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    colours = array.reshape(4, 5, -1)[..., :3]
    assert pixels_of(load_image(array)) == np.broadcast_to(colours, (4, 5, 3)).tolist()
    assert pixels_of(load_image(array.tolist())) == pixels_of(load_image(array))


# ---- errors --------------------------------------------------------------------------------------

PHOTO = encoded(random_image(64, 64))
WITH_NAN = np.full((4, 4, 3), 0.5)
WITH_NAN[1, 2, 0] = np.nan


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG\r\n\x1a\n", b"<svg/>", PHOTO[: len(PHOTO) // 2]]
    + [encoded(random_image(64, 64), kind)[:900] for kind in ("JPEG", "GIF", "TIFF", "BMP")],
    ids="zero-byte header svg PNG JPEG GIF TIFF BMP".split(),
)
def test_corrupt_or_truncated_file_is_an_error_with_its_name(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read image .*broken\.png"):
        load_image(path)
    with pytest.raises(DataError, match=rf"cannot read image .*{len(data)} bytes"):
        load_image(data)


def test_truncated_image_opened_by_pil_is_an_error() -> None:
    # PIL opens lazily; the error must be raised here, not when the pixels are used
    with pytest.raises(DataError, match="cannot read image"):
        load_image(Image.open(io.BytesIO(PHOTO[: len(PHOTO) // 2])))


def test_missing_file_folder_or_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    for path in (tmp_path / "none.png", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(DataError, match="cannot read image"):
            load_image(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)),
        lambda: encoded(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000))),
        lambda: Image.new("RGB", (0, 5)),
    ],
    ids=["PIL", "file", "empty"],
)
def test_empty_or_too_large_image_is_an_error(make: Callable[[], Any]) -> None:
    with pytest.raises(DataError, match="image is empty or too large"):
        load_image(make())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (WITH_NAN, "pixel values out of range: 'nan to nan as float64'; allowed: 0 to 1"),
        (np.full((2, 2), np.inf), "out of range"),
        (np.full((2, 2), 1.5), "out of range: '1.5 to 1.5"),
        (np.full((2, 2), -1), "out of range: '-1 to -1 as int64'; allowed: 0 to 255"),
        (np.full((2, 2), 65536), "out of range: '65536 to 65536 as int64'"),
        (np.zeros((3, 4, 5)), r"not an image: 'shape \(3, 4, 5\)"),
        (np.zeros((1, 4, 4, 3)), "not an image"),
        (np.zeros((0, 4, 3)), "not an image"),
        (np.zeros((4, 4), bool), "not an image"),
        (np.full((4, 4), "x"), "not an image"),
        (None, "not an image"),
        ([[1, 2], [3]], "cannot be converted to an array"),
    ],
)
def test_array_that_is_not_an_image_is_an_error(array: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_image(array)


# ---- the scale of gray images and arrays ---------------------------------------------------------

DIGIT = np.arange(256).reshape(16, 16)
EXPECTED = np.repeat(DIGIT[..., None], 3, axis=2).tolist()


def forms_of(pixels: Any) -> dict[str, Any]:
    """The same pixels as an array, in PIL's modes, and as a file where a format has the mode."""
    forms: dict[str, Any] = {str(pixels.dtype): pixels, "nested list": pixels.tolist()}
    if pixels.dtype.kind == "f":
        forms["F"] = Image.fromarray(pixels.astype(np.float32))
    else:
        forms["I"] = Image.fromarray(pixels.astype(np.int32))
        if pixels.min() >= 0 and pixels.max() <= 65535:
            forms["I;16"] = Image.fromarray(pixels.astype(np.uint16))
            forms["PNG"] = encoded(forms["I;16"], "PNG")
    mode = "F" if "F" in forms else "I"
    assert forms[mode].mode == mode
    return {**forms, "TIFF": encoded(forms[mode], "TIFF")}


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (DIGIT, EXPECTED),
        (DIGIT * 257, EXPECTED),
        (DIGIT.astype(np.float64), EXPECTED),
        (DIGIT * 257.0, EXPECTED),
        (DIGIT / 255.0, EXPECTED),
        (DIGIT // 16, (np.array(EXPECTED) // 16).tolist()),  # dark, but whole numbers
        (DIGIT % 2 * 1.0, (np.array(EXPECTED) % 2 * 255).tolist()),  # a mask of floats
    ],
    ids=["8 bit", "16 bit", "8 bit floats", "16 bit floats", "0 to 1", "dark", "mask"],
)
def test_arrays_and_images_of_the_same_pixels_are_the_same_image(
    pixels: Any, expected: Any
) -> None:
    for name, source in forms_of(pixels).items():
        assert pixels_of(load_image(source)) == expected, name


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(DIGIT - 1, id="negative"),
        pytest.param(DIGIT * 258, id="above 16 bit"),
        pytest.param(DIGIT - 1.0, id="negative floats"),
        pytest.param(DIGIT * 258.0, id="floats above 16 bit"),
        pytest.param(DIGIT * 0.5, id="fractions"),
        pytest.param(DIGIT // 16 * 1.0, id="0 to 15, as scikit-learn's digits"),
        pytest.param(DIGIT / 254.0, id="above 1"),
        pytest.param(np.full((2, 2), np.nan), id="NaN"),
        pytest.param(np.full((2, 2), np.inf), id="infinite"),
    ],
)
def test_pixels_without_a_usual_scale_are_refused_in_arrays_and_images_alike(pixels: Any) -> None:
    for source in forms_of(pixels).values():
        with pytest.raises(DataError, match="pixel values out of range"):
            load_image(source)


def test_16_bit_image_differs_from_the_8_bit_one_only_by_its_scale() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 65536, (50, 50), dtype=np.uint16)
    wide[0, 0] = 65535
    expected = np.rint(wide / 257.0).astype(int)  # 65535 = 257·255
    assert (np.asarray(load_image(wide))[..., 0] == expected).all()


@pytest.mark.parametrize(("feature", "kind"), [("avif", "AVIF"), ("jpg_2000", "JPEG2000")])
def test_formats_that_pillow_was_built_with_are_read(feature: str, kind: str) -> None:
    if not features.check(feature):
        pytest.skip(f"Pillow without {kind}")
    loaded = np.asarray(load_image(encoded(Image.new("RGB", (16, 16), (200, 100, 50)), kind)))
    assert np.abs(loaded.astype(int) - (200, 100, 50)).max() <= 3
