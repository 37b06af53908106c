"""Parts of a pipeline: refused if they do not fit each other, used as the library uses them."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from helpers.tiny_families import WIDTH, autoencoder, clip_encoder, saved, sdxl, t5_encoder

from diffcls.models import loading
from diffcls.models.autoencoder import Autoencoder
from diffcls.support.errors import ModelError, UsageError

Copy = Callable[..., Path]
WITH_CLIP = ["sd1", "sdxl", "sd3", "sd3_without_t5", "flux"]


@pytest.fixture
def copy(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Name of a family -> a pipeline folder of its own, to be changed."""

    def make(name: str, place: str = "copy") -> Path:
        source = saved(name, tmp_path_factory.getbasetemp())
        return Path(shutil.copytree(source, tmp_path / place))

    return make


def narrow_clip(projected: bool) -> Any:
    return clip_encoder(projected, hidden=WIDTH // 2)


def narrow_t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    settings = t5_encoder().config.to_dict()
    return T5EncoderModel(T5Config(**{**settings, "d_model": WIDTH // 2}))


def test_text_encoder_without_the_layers_that_klein_reads_is_refused(copy: Copy) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = copy("flux_2_klein")
    settings = json.loads((folder / "text_encoder" / "config.json").read_text())
    settings |= {"num_hidden_layers": 26, "layer_types": None}
    shutil.rmtree(folder / "text_encoder")
    Qwen3ForCausalLM(Qwen3Config(**settings)).save_pretrained(folder / "text_encoder")
    with pytest.raises(ModelError, match="fewer layers than the pipeline reads") as refused:
        loading.load(str(folder), img_size=32)
    assert "26 layers" in str(refused.value) and "at least 27" in str(refused.value)


@pytest.mark.parametrize(
    ("family", "part", "build", "given"),
    [
        (
            "sdxl",
            "text_encoder",
            lambda: narrow_clip(False),
            "unet expects width 64",
        ),
        (
            "sdxl",
            "text_encoder_2",
            lambda: narrow_clip(True),
            "unet expects width 64",
        ),
        ("sd3", "text_encoder", lambda: narrow_clip(True), "expects width 64, text_encoder has 16"),
        ("sd3", "text_encoder_2", lambda: narrow_clip(True), "text_encoder_2 has 16"),
        ("sd3", "text_encoder_3", narrow_t5, "expects width 32, text_encoder_3 has 16"),
        ("flux", "text_encoder", lambda: narrow_clip(False), "width 32, text_encoder has 16"),
        ("flux", "text_encoder_2", narrow_t5, "expects width 32, text_encoder_2 has 16"),
        ("sdxl", "vae", lambda: autoencoder(8), "4 input, 4 output and 8 latent"),
        ("sd3", "vae", lambda: autoencoder(4), "16 input, 16 output and 4 latent"),
        ("flux", "vae", lambda: autoencoder(8), "4 input, 4 output and 8 latent"),
    ],
)
def test_part_of_another_width_is_refused(
    copy: Copy, family: str, part: str, build: Callable[[], Any], given: str
) -> None:
    folder = copy(family)
    shutil.rmtree(folder / part)
    build().save_pretrained(folder / part)
    with pytest.raises(ModelError, match="do not fit each other") as refused:
        loading.load(str(folder), img_size=32)
    assert given in str(refused.value)


def test_pooled_prompt_of_another_width_is_refused(copy: Copy) -> None:
    """The hidden states fit, the projection beside SDXL's sizes does not."""
    from transformers import CLIPTextModelWithProjection

    folder = copy("sdxl")
    config = clip_encoder(projected=True).config
    config.projection_dim = 24
    CLIPTextModelWithProjection(config).save_pretrained(folder / "text_encoder_2")
    with pytest.raises(ModelError, match="the unet expects width 32, text_encoder_2 has 24"):
        loading.load(str(folder))


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer_2"])
@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_missing_part_is_refused(copy: Copy, family: str, part: str) -> None:
    path = copy(family) / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, part: [None, None]}))
    with pytest.raises(ModelError, match=f"part '{part}' of the model is missing"):
        loading.load(str(path.parent), img_size=32)


@pytest.mark.parametrize("family", WITH_CLIP)
def test_tokenizer_without_a_limit_gets_its_encoders(copy: Copy, family: str) -> None:
    folder = copy(family)
    for path in folder.glob("tokenizer*/tokenizer_config.json"):
        settings = json.loads(path.read_text())
        del settings["model_max_length"]
        path.write_text(json.dumps(settings))
    prompts = ["a photo of a three", "zero" + " photo" * 100]
    unlimited = loading.load(str(folder), img_size=32).encode_prompts(prompts)
    limited = loading.load(str(copy(family, "limited")), img_size=32).encode_prompts(prompts)
    assert set(unlimited) == set(limited)
    for part, tensor in limited.items():
        assert torch.equal(unlimited[part], tensor), part


@pytest.mark.parametrize(
    ("family", "largest"),
    # tables of 32, 8 and 16 positions a row, of patches of 2 latents of 2 pixels
    [("sd3", 128), ("aura_flow", 32), ("cogview_3_plus", 64)],
)
def test_more_positions_than_the_table_has_are_refused(
    copy: Copy, family: str, largest: int
) -> None:
    folder = str(copy(family))
    model = loading.load(folder, img_size=largest)
    cond = model.encode_prompts(["zero"])
    assert model.predict(torch.zeros(1, *model.sample_shape), torch.tensor([3]), cond).ndim == 4
    size = largest + 4
    with pytest.raises(
        UsageError, match=f"image size does not fit the model: {size}; allowed: at most {largest}"
    ):
        loading.load(folder, img_size=size)


@torch.inference_mode()
def test_constants_of_each_channel_are_applied_as_the_library_does() -> None:
    """Some autoencoders of SDXL carry a mean and a standard deviation a channel."""
    mean, std = [-1.6, 2.3, 0.1, -0.7], [8.4, 5.9, 0.5, 1.2]
    parts = sdxl().components
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts["vae"] = autoencoder(scaling_factor=0.5, latents_mean=mean, latents_std=std).eval()
    # the library samples: let there be next to no variance
    parts["vae"].quant_conv.weight[4:] = 0
    parts["vae"].quant_conv.bias[4:] = -30
    pipe = StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = pipe.prepare_latents(x, None, 2, 1, torch.float32, "cpu", add_noise=False)
    mine = Autoencoder(parts["vae"], torch.device("cpu"))
    x0 = mine.encode(x)
    torch.testing.assert_close(x0, theirs, rtol=1e-5, atol=1e-5)
    z = parts["vae"].encode(x).latent_dist.mode()
    torch.testing.assert_close(mine.decode(x0), parts["vae"].decode(z).sample, rtol=1e-4, atol=1e-5)


def test_third_encoder_of_sd3_is_optional_with_its_tokenizer_alone(copy: Copy) -> None:
    path = copy("sd3") / "model_index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({**index, "tokenizer_3": [None, None]}))
    with pytest.raises(ModelError, match="only one of text_encoder_3 and tokenizer_3"):
        loading.load(str(path.parent))


@pytest.mark.parametrize("family", ["chroma", "flux", "sd1"])
def test_loading_announces_no_changes_of_the_libraries(
    family: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = saved(family, tmp_path_factory.getbasetemp())
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        loading.load(str(folder), img_size=32)
