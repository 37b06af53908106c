"""Models of odd but honest kinds: other variants of weights, other sizes, many threads."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.log_messages import own_messages
from helpers.payloads import rewrite
from safetensors.torch import load_file, save_file

from diffcls.models import hub, loading
from diffcls.models.quiet import quiet
from diffcls.support.errors import ModelError, UsageError

Pipelines = Callable[[str], Path]
NETWORKS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"} | {
    "text_encoder": "model"
}


@pytest.fixture
def folder(tmp_path: Path, tiny_pipeline: Pipelines) -> Path:
    return Path(shutil.copytree(tiny_pipeline("v_prediction"), tmp_path / "mine"))


def output(model: Any) -> torch.Tensor:
    x_t = torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8)
    out: torch.Tensor = model.predict(x_t, torch.tensor([500]), model.encode_prompts(["a 3"]))
    return out


# ---- variants of weights ------------------------------------------------------------------------


def rename(folder: Path, variant: str) -> None:
    for part, stem in NETWORKS.items():
        (folder / part / f"{stem}.safetensors").rename(
            folder / part / f"{stem}.{variant}.safetensors"
        )


@pytest.mark.parametrize("variant", ["bf16", "fp16", "fp32", "ema", "non_ema"])
def test_only_variant_of_the_weights_is_read_and_named(
    folder: Path, variant: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = output(loading.load(str(folder)))
    rename(folder, variant)
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        assert torch.equal(output(loading.load(str(folder))), plain)
    (message,) = own_messages(caplog)
    assert all(f"{variant} of {part}" in message for part in NETWORKS)


def test_half_precision_reads_its_variant_without_a_word(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rename(folder, "bf16")
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        loading.load(str(folder), dtype=torch.bfloat16)
    assert not own_messages(caplog)


def test_several_unknown_variants_are_refused_by_name(folder: Path) -> None:
    rename(folder, "ema")
    unet = folder / "unet"
    shutil.copy(
        unet / "diffusion_pytorch_model.ema.safetensors",
        unet / "diffusion_pytorch_model.other.safetensors",
    )
    with pytest.raises(ModelError, match=r"several variants .*'ema, other'"):
        loading.load(str(folder))


@pytest.mark.parametrize("part", NETWORKS)
def test_pickles_alone_are_refused_with_a_way_to_convert_them(folder: Path, part: str) -> None:
    path = folder / part / f"{NETWORKS[part]}.safetensors"
    pickle = path.with_name("pytorch_model.bin")
    path.rename(pickle)
    with pytest.raises(ModelError) as caught:
        loading.load(str(folder))
    line = str(caught.value)
    assert "pickles, which are never opened" in line and str(pickle) in line
    assert "save_pretrained" in line and "\n" not in line


@pytest.fixture
def with_averages(folder: Path) -> Path:
    """The folder with a second set of the U-Net's weights, as some models hold them."""
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = {name: 2 * tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path.with_name("diffusion_pytorch_model.non_ema.safetensors"))
    return folder


def test_chosen_variant_is_read_where_a_part_has_it(
    with_averages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain: Any = loading.load(str(with_averages))
    with caplog.at_level(logging.WARNING, logger="diffcls"):
        other: Any = loading.load(str(with_averages), variant="non_ema")
    assert not own_messages(caplog)  # it was asked for
    for name, tensor in plain.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], 2 * tensor), name
    text = plain.pipeline.text_encoder.state_dict()
    for name, tensor in other.pipeline.text_encoder.state_dict().items():
        assert torch.equal(text[name], tensor), name
    assert other.card.revision == f"{plain.card.revision} non_ema"
    described = loading.card_of_text_model(str(with_averages), variant="non_ema")
    assert described is not None and described.revision == other.card.revision


def test_variant_that_no_part_has_is_refused_with_those_there_are(with_averages: Path) -> None:
    with pytest.raises(ModelError, match=r"chosen variant: 'ema'.*non_ema.*remove --variant"):
        loading.load(str(with_averages), variant="ema")


def test_chosen_variant_is_downloaded_and_a_part_without_its_weights() -> None:
    parts = {"unet": ("diffusers", "UNet2DConditionModel"), "vae": ("diffusers", "AutoencoderKL")}
    stem = "diffusion_pytorch_model"
    files = ["model_index.json", "unet/config.json", "vae/config.json"]
    weights = [f"unet/{stem}.safetensors", f"unet/{stem}.non_ema.safetensors"]
    all_files = [*files, *weights, f"vae/{stem}.safetensors"]
    chosen = hub.required_files(all_files, parts, half=False, variant="non_ema")
    assert chosen == [*files, weights[1], f"vae/{stem}.safetensors"]
    chosen = hub.required_files(all_files, parts, half=False, without="unet")
    assert chosen == [*files, f"vae/{stem}.safetensors"]


def test_files_of_one_variant_are_downloaded() -> None:
    parts = {"unet": ("diffusers", "UNet2DConditionModel"), "safety_checker": None}
    stem = "unet/diffusion_pytorch_model"
    index = ["model_index.json", "unet/config.json"]
    alone = [*index, f"{stem}.bf16.safetensors", f"{stem}.bin", "safety_checker/model.safetensors"]
    assert hub.required_files(alone, parts, half=False) == [*index, f"{stem}.bf16.safetensors"]
    sharded = [
        *index,
        f"{stem}.safetensors.index.json",
        f"{stem}.safetensors.index.fp16.json",
        f"{stem}-00001-of-00001.safetensors",
        f"{stem}.fp16-00001-of-00001.safetensors",
    ]
    whole, half = (hub.required_files(sharded, parts, half=half) for half in (False, True))
    assert whole == [*index, sharded[2], sharded[4]] and half == [*index, sharded[3], sharded[5]]
    with pytest.raises(ModelError, match=r"pickles, which are never opened.*unet/.*\.bin"):
        hub.required_files([*index, f"{stem}.bin"], parts, half=False)
    assert hub.required_files([*index, f"{stem}.bin"], parts, half=False, weights=False) == index


# ---- sizes --------------------------------------------------------------------------------------


def test_size_that_is_not_square_is_refused_with_a_size_to_choose(folder: Path) -> None:
    rewrite(folder / "unet/config.json", sample_size=[8, 12])
    with pytest.raises(UsageError) as caught:
        loading.load(str(folder))
    line = str(caught.value)
    assert "not square: '32 x 48'" in line and "--img-size 32" in line and "\n" not in line
    assert loading.load(str(folder), img_size=32).image_size == 32


def test_square_pair_is_a_size(folder: Path) -> None:
    rewrite(folder / "unet/config.json", sample_size=[8, 8])
    assert loading.load(str(folder)).sample_shape == (4, 8, 8)


def test_config_without_a_size_needs_the_flag(folder: Path) -> None:
    rewrite(folder / "unet/config.json", sample_size=None)
    with pytest.raises(UsageError, match="--img-size is required"):
        loading.load(str(folder))
    assert loading.load(str(folder), img_size=64).sample_shape == (4, 16, 16)


# ---- threads ------------------------------------------------------------------------------------


def load_in_threads(count: int) -> None:
    """Load a model in several threads at once; all of them succeed, with equal weights."""
    models: list[Any] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        try:
            barrier.wait()
            models.append(loading.load("digits"))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    first = models[0].network.state_dict()
    for model in models[1:]:
        weights = model.network.state_dict()
        assert all(torch.equal(weights[name], tensor) for name, tensor in first.items())


def test_eight_threads_load_a_model_at_once() -> None:
    load_in_threads(8)


@pytest.mark.slow
def test_eight_threads_load_a_model_at_once_twenty_times() -> None:
    for _ in range(20):
        load_in_threads(8)


def test_messages_return_when_the_last_thread_is_done() -> None:
    import diffusers

    log = diffusers.utils.logging
    before = log.get_verbosity()
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with quiet():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hold)
    with quiet():
        thread.start()
        entered.wait()
    assert log.get_verbosity() == log.ERROR  # the other thread is still inside
    leave.set()
    thread.join()
    assert log.get_verbosity() == before
