"""Memory forecast: sizes by the configs alone, and the peak memory of a process of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.control_nets import CLASSES, save
from helpers.library_pipelines import Folders, folders  # noqa: F401
from helpers.sized_pipelines import FAMILIES, peak_rss, save_random
from helpers.tiny_families import TEXT
from PIL import Image

from diffcls.models import control_files, loading
from diffcls.models.forecast import Forecast, Workload, forecast
from diffcls.models.memory_options import MemoryOptions
from diffcls.models.model_index import read_index


def of_folder(folder: Path, **work: Any) -> Forecast:
    usual = {"dtype": torch.float32, "batch_size": 8, "img_size": 32}
    return forecast(read_index(folder), Workload(**{**usual, **work}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["sd2", "sdxl", "sd3", "flux", "pixart"])
def test_parameters_and_bytes_are_those_of_the_loaded_model(
    name: str,
    dtype: torch.dtype,
    folders: Folders,  # noqa: F811
) -> None:
    parts = {part.name: part for part in of_folder(folders(name), dtype=dtype).parts}
    model: Any = loading.load(str(folders(name)), "cpu", dtype, 32)
    modules = {
        name: part
        for name, part in model.pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
    assert parts.keys() == modules.keys()
    for part, module in modules.items():
        tensors = [*module.parameters(), *module.buffers()]
        assert parts[part].parameters == sum(p.numel() for p in module.parameters())
        size = sum(t.numel() * t.element_size() for t in tensors)
        assert parts[part].size == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_a_controlnet_adds_its_weights_and_activations_and_its_weights_are_not_read(
    name: str,
    folders: Folders,  # noqa: F811
    tmp_path: Path,
) -> None:
    import diffusers

    folder = folders(name)
    control = save(name, diffusers.DiffusionPipeline.from_pretrained(folder), tmp_path / "control")
    loaded = control_files.open_files(control_files.find(str(control)), torch.bfloat16)
    for path in control.glob("*.safetensors"):
        path.unlink()
    with_it = of_folder(folder, dtype=torch.bfloat16, control=control)
    plain = of_folder(folder, dtype=torch.bfloat16)
    *others, part = with_it.parts
    assert tuple(others) == plain.parts
    assert part.parameters == sum(p.numel() for p in loaded.parameters())
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert part.size == pytest.approx(sum(t.numel() * t.element_size() for t in tensors), rel=0.01)
    for more, less in zip(with_it.stages, plain.stages, strict=True):
        assert more.weight_bytes == less.weight_bytes + part.size
    assert with_it.stages[-1].activation_bytes > plain.stages[-1].activation_bytes


def test_no_weights_are_needed(folders: Folders, tmp_path: Path) -> None:  # noqa: F811
    bare = tmp_path / "configs"
    shutil.copytree(folders("flux"), bare, ignore=shutil.ignore_patterns("*.safetensors"))
    assert of_folder(bare).stages == of_folder(folders("flux")).stages


@pytest.mark.parametrize("name", sorted(TEXT))
def test_each_family_has_three_stages_that_grow_with_the_batch(
    name: str,
    folders: Folders,  # noqa: F811
) -> None:
    small, large = (of_folder(folders(name), batch_size=rows) for rows in (1, 8))
    assert [stage.name for stage in large.stages][-1] == "evaluating 8 rows"
    assert large.stages[-1].activation_bytes == 8 * small.stages[-1].activation_bytes
    assert large.stages[:-1] == small.stages[:-1]


def test_offload_leaves_the_parts_of_one_role_and_then_one_layer_on_the_device(
    folders: Folders,  # noqa: F811
) -> None:
    folder = folders("flux")
    whole, encoders, layers = (
        of_folder(folder, device="cuda", options=MemoryOptions(offload=offload))
        for offload in ("none", "encoders", "sequential")
    )
    sizes = {part.name: part.size for part in whole.parts}
    assert {stage.weight_bytes for stage in whole.stages} == {sum(sizes.values())}
    assert [stage.weights for stage in encoders.stages] == [
        ("text_encoder", "text_encoder_2"),
        ("vae",),
        ("transformer",),
    ]
    assert encoders.stages[2].weight_bytes == sizes["transformer"]
    assert layers.stages[2].weights == ("one layer",)
    assert 0 < layers.stages[2].weight_bytes < sizes["transformer"] / 2


def test_slices_need_a_sixteenth_of_the_memory_of_images_and_tiles_that_of_a_tile(
    folders: Folders,  # noqa: F811
) -> None:
    def encoding(**options: Any) -> int:
        options_of = MemoryOptions(**options)
        return of_folder(folders("sd2"), img_size=64, options=options_of).stages[1].activation_bytes

    assert encoding() == 16 * encoding(vae_slicing=True) == 4 * encoding(vae_tiling=True)


def test_encoded_prompts_stay_on_the_device(folders: Folders) -> None:  # noqa: F811
    none, thousand = (of_folder(folders("sd2"), prompts=count) for count in (0, 1000))
    more = {
        b.activation_bytes - a.activation_bytes
        for a, b in zip(none.stages, thousand.stages, strict=True)
    }
    assert more == {1000 * 77 * 32 * 4}  # tokens, width and bytes of a value


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Path]:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "0.png")
    yield tmp_path / "photos"
    shutil.rmtree(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_peak_memory_of_a_third_depth_is_within_a_fifth_of_the_forecast(
    family: str, photos: Path, tmp_path: Path
) -> None:
    """The memory of the process itself, the one constant, is that of the first two depths."""
    measured, forecasts = [], []
    for depth in (1, 2, 3):
        folder = save_random(lambda d=depth: FAMILIES[family](d), tmp_path / "m", torch.float32)
        work: dict[str, Any] = {"batch_size": 4, "prompts": 2, "img_size": 128}
        forecasts.append(of_folder(folder, **work).resident(0))
        flags = ["--dataset", f"folder:{photos}", "--model", str(folder), "--device", "cpu"]
        flags += ["--img-size", "128", "--batch-size", "4", "--draws", "2", "--no-check-model"]
        flags += ["--search", "exhaustive", "--output-dir", str(tmp_path / f"out{depth}")]
        status, peak = peak_rss(flags, tmp_path / "log")
        assert status == 0, (tmp_path / "log").read_text()
        measured.append(peak)
        shutil.rmtree(folder)
    process = sum(m - f for m, f in zip(measured[:2], forecasts[:2], strict=True)) / 2
    print(family, [round(m / 1e6) for m in measured], [round(f / 1e6) for f in forecasts], process)
    assert forecasts[2] + process == pytest.approx(measured[2], rel=0.2)
    # the weights themselves are most of the growth, so that a constant alone would not do
    assert forecasts[2] - forecasts[0] > 0.2 * measured[0]
