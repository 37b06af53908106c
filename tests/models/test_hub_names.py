"""Names of models: short names, Hub ids, the Hub's cache, single files, LoRA."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffcls.models import hub, loading, lora, single_file
from diffcls.models.adapters import FAMILIES
from diffcls.models.hub_names import MODELS, HubModel
from diffcls.support.errors import ModelError, UsageError

Pipelines = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Hub that cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("diffcls.support.hub.is_offline", lambda: True)
    return tmp_path / "hub"


def put(cache: Path, repo_id: str, pipeline: Path, revision: str = "main") -> Path:
    """A pipeline in the cache, in the layout of huggingface_hub."""
    repository = cache / f"models--{repo_id.replace('/', '--')}"
    reference = repository / "refs" / revision
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT)
    return Path(shutil.copytree(pipeline, repository / "snapshots" / COMMIT))


# ---- names --------------------------------------------------------------------------------------


def test_every_short_name_has_an_id_and_a_supported_family() -> None:
    for name, model in MODELS.items():
        assert hub.named(name) == model
        assert hub.REPOSITORY_ID.fullmatch(str(model)), name
        assert model.family in FAMILIES
        loading.check_name(name)
    assert {"sd15", "sd2-base", "sd2", "sdxl", "sd35-medium", "flux-dev", "dit-256"} <= set(MODELS)


@pytest.mark.parametrize(
    ("name", "repo_id", "revision"),
    [
        ("me/mine", "me/mine", ""),
        ("me/mine@v1.0", "me/mine", "v1.0"),
        ("a/b@refs/pr/1", "a/b", "refs/pr/1"),
    ],
)
def test_id_may_include_a_revision(name: str, repo_id: str, revision: str) -> None:
    assert hub.named(name) == HubModel(repo_id, revision)


@pytest.mark.parametrize("name", ["sd2base", "sdx", "me/mine/deep", "me/", "@main", "a b/c"])
def test_unknown_name_is_refused_with_the_allowed_names(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown model: .*allowed: .*digits.*sd2-base"):
        loading.check_name(name)


def test_near_miss_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'sd2-base'"):
        loading.check_name("sd2-bsae")


# ---- the Hub ------------------------------------------------------------------------------------


def test_cached_model_is_used_and_its_revision_is_its_commit(
    cache: Path, tiny_pipeline: Pipelines
) -> None:
    put(cache, "me/mine", tiny_pipeline("v_prediction"))
    model = loading.load("me/mine")
    assert (model.card.name, model.card.revision) == ("me/mine", COMMIT)
    assert loading.load(f"me/mine@{COMMIT}").card == model.card


def test_short_name_is_resolved_to_its_id(cache: Path, tiny_pipeline: Pipelines) -> None:
    put(cache, MODELS["sd2-base"].id, tiny_pipeline("epsilon"))
    card = loading.load("sd2-base").card
    assert (card.name, card.revision) == ("sd2-base", COMMIT)


def test_uncached_revision_is_not_replaced_by_another(
    cache: Path, tiny_pipeline: Pipelines
) -> None:
    put(cache, "me/mine", tiny_pipeline("v_prediction"))
    with pytest.raises(ModelError, match="not in the cache: 'me/mine@v2'"):
        loading.load("me/mine@v2")


def test_error_for_an_unreachable_model_says_how_to_download_it(cache: Path) -> None:
    with pytest.raises(ModelError) as caught:
        loading.load("sd35-medium")
    text = str(caught.value)
    for part in (MODELS["sd35-medium"].id, str(cache), "hf download", "terms", "--model PATH"):
        assert part in text


def test_unreachable_hub_is_reported_within_five_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> None:
        time.sleep(60)

    monkeypatch.setattr("diffcls.support.hub.is_offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", hang)
    began = time.monotonic()
    with pytest.raises(ModelError, match="cannot be reached"):
        loading.load("sd2-base")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("RepositoryNotFoundError", "no such model on the Hub: 'me/mine'"),
        ("RevisionNotFoundError", "no such revision of me/mine: 'v9'"),
        ("GatedRepoError", "gated.*accept its terms"),
    ],
)
def test_errors_of_the_hub_are_reported(
    cache: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    from huggingface_hub import errors

    error = getattr(errors, kind).__new__(getattr(errors, kind))

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("diffcls.support.hub.is_offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", refuse)
    with pytest.raises(ModelError, match=message):
        loading.load("me/mine@v9")


def test_each_weight_is_downloaded_in_one_precision() -> None:
    parts = {"unet": ["diffusers", "U"], "vae": ["diffusers", "V"], "image_encoder": [None, None]}
    weight = "diffusion_pytorch_model"
    files = [
        "model_index.json",
        "README.md",
        "v1-5.safetensors",
        "image_encoder/model.safetensors",
        "unet/config.json",
        f"unet/{weight}.bin",
        f"unet/{weight}.safetensors",
        f"unet/{weight}.fp16.safetensors",
        f"unet/{weight}.non_ema.safetensors",
        f"vae/{weight}-00001-of-00002.safetensors",
        f"vae/{weight}-00002-of-00002.safetensors",
        f"vae/{weight}.safetensors.index.json",
        "vae/config.json",
    ]
    always = {"model_index.json", "unet/config.json", "vae/config.json"}
    always |= {path for path in files if path.startswith(f"vae/{weight}")}
    assert set(hub.required_files(files, parts, half=False)) == always | {
        f"unet/{weight}.safetensors"
    }
    assert set(hub.required_files(files, parts, half=True)) == always | {
        f"unet/{weight}.fp16.safetensors"
    }


def test_half_precision_files_are_loaded_if_there_are_no_others(
    tmp_path: Path, tiny_pipeline: Pipelines
) -> None:
    folder = Path(shutil.copytree(tiny_pipeline("epsilon"), tmp_path / "half"))
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    x_t, index = torch.ones(1, 4, 8, 8), torch.tensor([500])
    outs = []
    for place in (folder, tiny_pipeline("epsilon")):
        model = loading.load(str(place))
        outs.append(model.predict(x_t, index, model.encode_prompts(["a 3"])))
    assert torch.equal(*outs)


# ---- single files -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickles_are_not_opened(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x80\x04")
    with pytest.raises(UsageError, match=r"neither a safetensors nor a GGUF file.*safetensors"):
        loading.check_name(str(path))


def test_file_without_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot read model file"):
        loading.load(str(path))


def test_architecture_of_a_file_is_detected_from_its_tensors(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "xl.safetensors"
    # the key and shape by which diffusers detects SDXL checkpoints
    save_file(
        {
            "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": torch.zeros(
                1280
            )
        },
        path,
    )
    assert single_file.completed_by(path) == "sdxl"
    with pytest.raises(ModelError, match=f"not in the cache: '{MODELS['sdxl'].id}'"):
        loading.load(str(path))


def test_model_config_is_refused_for_a_folder(tiny_pipeline: Pipelines) -> None:
    with pytest.raises(UsageError, match="--model-config completes a single file"):
        loading.load(str(tiny_pipeline("epsilon")), model_config="sd15")


# ---- LoRA ---------------------------------------------------------------------------------------

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"


def low_rank(folder: Path, prefix: str = f"unet.{LAYER}") -> tuple[Path, torch.Tensor]:
    """A LoRA of rank 2 for one layer of the tiny U-Net, and its product."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 32, generator=rng), torch.randn(32, 2, generator=rng)
    path = folder / "mine.safetensors"
    tensors = {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}
    save_file(tensors, path, metadata={"format": "pt"})
    return path, b @ a


def weight_of(model: Any) -> torch.Tensor:
    weights: torch.Tensor = model.network.get_submodule(LAYER).weight.detach()
    return weights


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_lora_adds_its_product(tmp_path: Path, tiny_pipeline: Pipelines, scale: float) -> None:
    path, product = low_rank(tmp_path)
    plain = loading.load(str(tiny_pipeline("epsilon")))
    merged = loading.load(str(tiny_pipeline("epsilon")), lora=f"{path}:{scale:g}")
    wanted = weight_of(plain) + scale * product
    torch.testing.assert_close(weight_of(merged), wanted, rtol=1e-6, atol=1e-6)
    names = [name for name, _ in merged.network.named_parameters()]
    assert not [name for name in names if "lora" in name]
    assert merged.card.revision.startswith(f"{plain.card.revision} + lora ")
    assert merged.card.revision.endswith(f" x {scale:g}")


def test_lora_of_another_model_is_refused(tmp_path: Path, tiny_pipeline: Pipelines) -> None:
    path, _ = low_rank(tmp_path, prefix="unet.no_such_block.to_q")
    with pytest.raises(ModelError, match="LoRA"):
        loading.load(str(tiny_pipeline("epsilon")), lora=str(path))


@pytest.mark.parametrize("text", ["none.safetensors", "none.safetensors:0.5", "x:y"])
def test_unreadable_lora_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--lora"):
        lora.parse(text)


def test_lora_of_the_fixture_fits_the_pipeline(tiny_pipeline: Pipelines) -> None:
    tensors = load_file(tiny_pipeline("epsilon") / "unet/diffusion_pytorch_model.safetensors")
    assert tensors[f"{LAYER}.weight"].shape == (32, 32)
