"""The command ``python -m diffcls.fidelity`` on folders of images on either side."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

import diffcls
from diffcls import fidelity
from diffcls.data.load import load_dataset
from diffcls.models import feature_extractors
from diffcls.models.feature_extractors import Extractor
from diffcls.runs import fidelity_table

Capture = pytest.CaptureFixture[str]


def forward(images: Tensor) -> tuple[Tensor, Tensor]:
    """Feature extractor of two features, for images of any size, without classes."""
    flat = images.flatten(1)
    return torch.stack([flat.mean(dim=1), flat.std(dim=1)], dim=1), flat[:, :0]


@pytest.fixture
def extractor(monkeypatch: pytest.MonkeyPatch) -> Extractor:
    """Replace CLIP by a fast feature extractor."""
    one = Extractor("small-2", "1", 2, forward, square=False)
    monkeypatch.setattr(feature_extractors, "load", lambda *_: one)
    return one


def write(folder: Path, count: int, seed: int) -> list[Any]:
    """Random images of three sizes, one of them not square, half of them in a subfolder."""
    rng, images = np.random.default_rng(seed), []
    for i in range(count):
        height, width = ((8, 8), (12, 12), (9, 14))[i % 3]
        images.append(rng.integers(0, 60 + 40 * seed, (height, width, 3), dtype=np.uint8))
        path = folder / ("more" if i % 2 else "") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[-1]).save(path)
    return images


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    write(tmp_path / "real", 30, 1)
    write(tmp_path / "generated", 24, 2)
    (tmp_path / "real" / "notes.txt").write_text("not an image")
    for hidden in ("__MACOSX/._000.png", "more/.ipynb_checkpoints/001.png", "._000.png"):
        (tmp_path / "real" / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / "real" / hidden).write_bytes(b"no image")
    return tmp_path / "real", tmp_path / "generated"


@pytest.fixture
def measure(tmp_path: Path, capsys: Capture) -> Callable[..., Any]:
    def run(*flags: object, status: int = 0) -> Any:
        fixed = ["--output-dir", str(tmp_path / "out"), "--quiet"]
        json_flag = ["--json"] if status == 0 else []
        assert fidelity.main([*fixed, *json_flag, *map(str, flags)]) == status
        printed, err = capsys.readouterr()
        return json.loads(printed, parse_constant=pytest.fail) if status == 0 else err

    return run


def features_of(folder: Path) -> Tensor:
    paths = sorted(p for p in folder.rglob("[0-9]*.png") if ".ipynb_checkpoints" not in p.parts)
    pixels = (torch.from_numpy(np.array(Image.open(p))).permute(2, 0, 1)[None] for p in paths)
    return torch.cat([forward(one / 127.5 - 1)[0] for one in pixels])


def test_values_of_two_folders_are_those_of_torch_fidelity_on_the_same_features(
    measure: Callable[..., Any], folders: tuple[Path, Path], extractor: Extractor
) -> None:
    real, generated = (features_of(folder) for folder in folders)
    flags = ("--real", folders[0], "--generated", folders[1], "--extractor", "clip-digits")
    rows = {row["metric"]: row for row in measure(*flags, "--batch-size", 4)}
    statistics = (fid_features_to_statistics(f) for f in (generated, real))
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert rows["FID"]["value"] == pytest.approx(expected, rel=1e-4)
    shared = prc_features_to_metric(
        real, generated, prc_neighborhood=3, prc_batch_size=100, verbose=False
    )
    assert rows["precision"]["value"] == pytest.approx(shared["precision"])
    assert rows["recall"]["value"] == pytest.approx(shared["recall"])
    assert list(rows) == ["FID", "KID", "precision", "recall"]  # IS needs classes


def test_rows_name_both_folders_and_both_counts(
    measure: Callable[..., Any], folders: tuple[Path, Path], extractor: Extractor, tmp_path: Path
) -> None:
    flags = ("--real", folders[0], "--generated", folders[1], "--extractor", "clip-digits")
    (result,) = measure(*flags, "--metrics", "FID")
    assert (result["n"], result["n_real"]) == (24, 30)
    (row,) = fidelity_table.read(tmp_path / "out" / "fidelity.csv")
    assert (row["model"], row["dataset"]) == ("folder:generated", "folder:real (30 images)")
    assert (row["split"], row["guidance"], row["steps"], row["n"]) == ("", "", "", "24")
    (fewer,) = measure(*flags, "--metrics", "FID", "--count", 12)
    assert (fewer["n"], fewer["n_real"], fewer["dataset"]) == (12, 12, "folder:real")


def test_distance_of_a_folder_from_itself_is_zero(
    measure: Callable[..., Any], folders: tuple[Path, Path], extractor: Extractor
) -> None:
    flags = ("--real", folders[0], "--generated", folders[0], "--extractor", "clip-digits")
    rows = {row["metric"]: row["value"] for row in measure(*flags)}
    assert abs(rows["FID"]) < 1e-6 and rows["precision"] == rows["recall"] == 1


def test_a_folder_of_digits_is_close_to_the_split_that_it_was_taken_from(
    measure: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    for i, item in enumerate(load_dataset("digits").items[:40]):
        item.open().save(tmp_path / "mine" / f"{i}.png")
    flags = ("--generated", tmp_path / "mine", "--dataset", "digits", "--count", 40)
    rows = {row["metric"]: row for row in measure(*flags, "--extractor", "clip-digits")}
    assert rows["IS"]["value"] > 5  # CLIP tells the ten digits apart
    assert rows["precision"]["value"] > 0.8
    assert rows["FID"]["dataset"] == "digits" and rows["FID"]["split"] == "test"


def test_real_images_of_a_folder_are_compared_with_those_of_a_model(
    measure: Callable[..., Any], folders: tuple[Path, Path], extractor: Extractor
) -> None:
    (row,) = measure("--real", folders[0], "--steps", 1, "--metrics", "FID", "--count", 12)
    assert (row["model"], row["n"], row["n_real"], row["guidance"]) == ("digits", 12, 12, 2.0)


def test_grid_and_settings_of_generate_are_not_counted_as_images(
    measure: Callable[..., Any], folders: tuple[Path, Path], extractor: Extractor, tmp_path: Path
) -> None:
    made = diffcls.generate_images(
        classes=["1", "2"], count=6, steps=1, output_dir=tmp_path / "samples", quiet=True
    )
    assert len(made.files) == 12 and (made.folder / "grid.png").is_file()
    flags = ("--real", folders[0], "--generated", made.folder, "--extractor", "clip-digits")
    assert measure(*flags, "--metrics", "FID")[0]["n"] == 12


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--real none --generated BASE/generated", "--real is not a folder: 'none'"),
        ("--real BASE/real --generated none", "--generated is not a folder: 'none'"),
        ("--real BASE/empty --generated BASE/generated", "--real contains no image"),
        ("--real BASE/one --generated BASE/generated", "too few real images to compare: 1;"),
        ("--real BASE/real --generated BASE/one", "too few generated images to compare: 1;"),
        ("--generated BASE/generated", "add --real DIR or --dataset NAME"),
        ("--generated BASE/generated --real BASE/real --model scenes --steps 3", "--model --steps"),
        ("--generated BASE/generated --real BASE/real --metrics IS", "IS needs an extractor with"),
        ("--generated BASE/broken --real BASE/real", "cannot read image"),
    ],
)
def test_bad_usage_of_folders_is_refused(
    measure: Callable[..., Any],
    folders: tuple[Path, Path],
    extractor: Extractor,
    tmp_path: Path,
    flags: str,
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "one", 1, 1)
    write(tmp_path / "broken", 12, 1)
    (tmp_path / "broken" / "000.png").write_bytes(b"no image")
    words = [word.replace("BASE", str(tmp_path)) for word in flags.split()]
    err = measure(*words, "--extractor", "clip-digits", status=2)
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_data_set_the_extractor_must_be_named(
    measure: Callable[..., Any],
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    err = measure("--real", folders[0], "--generated", folders[1], status=2)
    assert "--extractor is required without --dataset" in err


# ---- the library functions -----------------------------------------------------------------------


def test_library_functions_show_their_arguments_and_return_results(tmp_path: Path) -> None:
    for function, argument in (
        (diffcls.measure_fidelity, "extractor"),
        (diffcls.estimate_likelihood, "levels"),
        (diffcls.generate_images, "guidance"),
    ):
        assert argument in inspect.signature(function).parameters
    bound = diffcls.estimate_likelihood(limit=4, levels=2, quiet=True)
    assert bound.value == pytest.approx(bound.prior + bound.steps + bound.decoder)
    assert bound.n == 4 and bound.unit == "pixels-1x8x8" and bound.status == "complete"
    (result,) = diffcls.measure_fidelity(count=10, steps=1, metrics=["FID"], quiet=True)
    assert result.n == 10 and result.metrics[0].name == "FID"
    with pytest.raises(TypeError, match="no_such"):
        diffcls.generate_images(no_such=1)
