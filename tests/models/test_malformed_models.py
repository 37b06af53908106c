"""Malformed model folders: refused in one line, never believed, and no request to the Hub."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.payloads import rewrite

from diffcls.models import clip, hub, loading
from diffcls.models.hub_names import HubModel
from diffcls.support.errors import DiffclsError, ModelError

Pipelines = Callable[[str], Path]
INDEX, CARD, SCHEDULER = "model_index.json", "diffcls.json", "scheduler/scheduler_config.json"
CLIP_CONFIG = "open_clip_config.json"
DEEP = "[" * 100_000
LONG = '{"a":' * 50_000
LENGTHS = ("x", -1, [], 0, False, 0.5, float("nan"))

# file -> entries that are wrong
ENTRIES: list[tuple[str, dict[str, Any]]] = [
    *((CARD, {"temperature": value}) for value in ("x", 0, -1, None, True, [1], 1e9, 10**400)),
    *((CARD, {"temperature": value}) for value in (float("nan"), float("inf"))),
    *((CARD, {"name": value}) for value in (None, 3, "", "a\0b", "a\nb", "x" * 300)),
    *((CARD, {"allocation": value}) for value in ("nothing", 3, "../x.json", "learned@x:1=x")),
    (CARD, {"allocation": "learned@x:0=1e300"}),
    *((CARD, {"trained_on": value}) for value in ("digits", [1], {"a": 1}, None)),
    *((CARD, {"recipe": {"widths": value}}) for value in (None, [], [7], "8", [8, 0])),
    *((CARD, {"labels": value}) for value in ("abc", [["a"]], 10, ["a\nb"])),
    *((CARD, {"images": value}) for value in ("many", -1, 1.5, True)),
    *((CARD, {"recipe": value}) for value in (3, [], {"images": "x"})),
    (CARD, {"continued_from": {"images": -5}}),
    *((INDEX, {"vae": value}) for value in (None, "AutoencoderKL", 3, {}, [], ["diffusers"])),
    (INDEX, {"vae": ["diffusers", "AutoencoderKL", "more"]}),
    (INDEX, {"vae": [None, None]}),
    (INDEX, {"vae": ["diffusers", None]}),
    (INDEX, {"vae": ["diffusers", "Autoencoder\0KL"]}),
    (INDEX, {"unet\0": ["diffusers", "UNet2DConditionModel"]}),
    (INDEX, {"../unet": ["diffusers", "UNet2DConditionModel"]}),
    (INDEX, {"scheduler": ["diffusers", "NoSuchScheduler"]}),
    *((INDEX, {"_class_name": value}) for value in (None, 3, [], "", "StableDiffusion")),
    *((SCHEDULER, {"beta_start": value}) for value in ("x", [], True, -1, float("nan"))),
    *((SCHEDULER, {"num_train_timesteps": value}) for value in ("x", 0, -5, 10**9, 10**30)),
    (SCHEDULER, {"trained_betas": "x"}),
    (SCHEDULER, {"prediction_type": "noise"}),
    (SCHEDULER, {"beta_schedule": 3}),
    *(("vae/config.json", {"scaling_factor": v}) for v in ("x", 0, -1, [], float("inf"))),
    ("vae/config.json", {"shift_factor": "x"}),
    ("vae/config.json", {"latents_mean": [0.0], "latents_std": [1.0]}),
    ("vae/config.json", {"block_out_channels": "x"}),
    *(("unet/config.json", {"layers_per_block": v}) for v in ("x", 10**9, -1, None)),
    *(("unet/config.json", {"sample_size": v}) for v in ("x", 0, -8, [8], 10**30, True)),
    *(("unet/config.json", {"norm_eps": v}) for v in ("x", -1.0, float("nan"))),
    ("unet/config.json", {"flip_sin_to_cos": "no"}),
    ("unet/config.json", {"down_block_types": ["NoSuchBlock", "DownBlock2D"]}),
    *(("text_encoder/config.json", {"hidden_size": v}) for v in ("x", 0, 10**12)),
    ("text_encoder/config.json", {"num_hidden_layers": 10**9}),
    ("text_encoder/config.json", {"vocab_size": 5}),
    ("text_encoder/config.json", {"transformers_weights": "../vae/x.safetensors"}),
    *(("tokenizer/tokenizer_config.json", {"model_max_length": v}) for v in LENGTHS),
    ("tokenizer/tokenizer_config.json", {"pad_token": 5}),
    ("tokenizer/tokenizer.json", {"model": {"type": "BPE", "vocab": {}, "merges": []}}),
    ("tokenizer/tokenizer.json", {"model": None}),
]
FILES = (
    *(INDEX, CARD, SCHEDULER, "vae/config.json", "unet/config.json", "text_encoder/config.json"),
    *("tokenizer/tokenizer_config.json", "tokenizer/tokenizer.json"),
)
CONTENTS = {
    "a list": "[]",
    "null": "null",
    "a number": "3",
    "nothing": "",
    "deep lists": DEEP,
    "deep objects": LONG,
    "a number of 10,000 digits": '{"temperature": ' + "9" * 10_000 + "}",
    "no UTF-8": "\udcff",
}


@pytest.fixture
def folder(tmp_path: Path, tiny_pipeline: Pipelines, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete model with a card; any connection fails the test, as if the Hub were in reach."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a request to the network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    made = Path(shutil.copytree(tiny_pipeline("v_prediction"), tmp_path / "mine"))
    (made / CARD).write_text("{}")
    return made


def refusal(folder: Path) -> str:
    """The line with which a model is refused."""
    with pytest.raises(DiffclsError) as caught:
        loading.load(str(folder))
    line = str(caught.value)
    assert caught.value.exit_status == 2 and "\n" not in line and len(line) < 1000
    return line


def short(value: object) -> str:
    return ascii(value)[:60]


@pytest.mark.parametrize(("file", "changes"), ENTRIES, ids=short)
def test_wrong_entry_is_refused(folder: Path, file: str, changes: dict[str, Any]) -> None:
    rewrite(folder / file, **changes)
    refusal(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (file, content)
        for file in FILES
        for content in CONTENTS
        if file in FILES[:2] or "deep" in content
    ]
    + [("text_encoder/config.json", "a list"), ("tokenizer/tokenizer.json", "null")],
)
def test_file_that_is_no_json_object_is_refused_by_name(
    folder: Path, file: str, content: str
) -> None:
    (folder / file).write_bytes(CONTENTS[content].encode("utf-8", "surrogateescape"))
    assert Path(file).name in refusal(folder)


def test_error_names_entry_value_and_what_is_allowed(folder: Path) -> None:
    rewrite(folder / CARD, temperature="x")
    line = refusal(folder)
    assert (
        line
        == f"'temperature' in {folder / CARD} is wrong: 'x'; allowed: a number from 1e-06 to 1e+06"
    )


def test_card_is_checked_without_loading_the_model(folder: Path) -> None:
    rewrite(folder / CARD, temperature=-1, images="many")
    for read in (
        lambda: loading.read_card(loading.ModelFiles(folder)),
        lambda: loading.card_of_text_model(str(folder)),
        lambda: loading.images_seen(str(folder)),
    ):
        with pytest.raises(ModelError, match="temperature"):
            read()


@pytest.mark.parametrize("shard", [3, None, "../other.safetensors", "a\0b", "missing.safetensors"])
def test_index_of_shards_must_name_files_of_its_folder(folder: Path, shard: object) -> None:
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    path.rename(folder / "other.safetensors")
    index = folder / "unet/diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_in.weight": shard}}))
    assert "safetensors" in refusal(folder)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "a/" * 3000])
def test_impossible_names_are_unknown_names(name: str) -> None:
    with pytest.raises(DiffclsError):
        loading.check_name(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"embed_dim": "x"},
        {"embed_dim": 0},
        {"quick_gelu": "no"},
        {"vision_cfg": None},
        {"vision_cfg": {"image_size": 32, "layers": 10**9}},
        {"vision_cfg": {"image_size": "x"}},
        {"text_cfg": []},
        {"text_cfg": {"context_length": 24, "vocab_size": 10**12}},
    ],
    ids=short,
)
def test_wrong_entry_of_a_clip_folder_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    made = Path(shutil.copytree(loading.WEIGHTS / "clip-digits", tmp_path / "mine"))
    stored = json.loads((made / CLIP_CONFIG).read_text())
    rewrite(made / CLIP_CONFIG, model_cfg={**stored["model_cfg"], **changes})
    with pytest.raises(ModelError) as caught:
        clip.load(str(made))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": "x"},
        {"mean": [0.5]},
        {"std": [0, 0, 0]},
        {"interpolation": "x"},
        {"resize_mode": 3},
    ],
    ids=short,
)
def test_wrong_preprocessing_of_a_clip_folder_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    made = Path(shutil.copytree(loading.WEIGHTS / "clip-digits", tmp_path / "mine"))
    rewrite(made / CLIP_CONFIG, preprocess_cfg=changes)
    with pytest.raises(ModelError, match=next(iter(changes))):
        clip.load(str(made))


@pytest.mark.parametrize("content", CONTENTS)
def test_clip_config_that_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    made = Path(shutil.copytree(loading.WEIGHTS / "clip-digits", tmp_path / "mine"))
    (made / CLIP_CONFIG).write_bytes(CONTENTS[content].encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError):
        clip.load(str(made))


@pytest.mark.parametrize(
    "index", ["[]", DEEP, '{"_class_name": "X"}', '{"_class_name": []}'], ids=short
)
def test_index_on_the_hub_is_checked_before_weights_are_downloaded(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    class Info:
        sha = "0" * 40
        siblings = (type("File", (), {"rfilename": name}) for name in (INDEX, "unet/config.json"))

    def get(_: HubModel, __: str, files: list[str]) -> Path:
        fetched.extend(files)
        (tmp_path / INDEX).write_text(index)
        return tmp_path

    monkeypatch.setattr(hub, "ask_hub", lambda *_: Info())
    monkeypatch.setattr(hub, "_get", get)
    with pytest.raises(ModelError):
        hub.fetch(HubModel("someone/model"))
    assert fetched == [INDEX]


@pytest.mark.parametrize("merges", [{}, "", None, 3, "removed"], ids=str)
def test_merges_that_are_no_list_are_refused(folder: Path, merges: object) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    if merges == "removed":
        del content["model"]["merges"]
    else:
        content["model"]["merges"] = merges
    path.write_text(json.dumps(content), encoding="utf-8")
    line = refusal(folder)
    assert "merges" in line and "a list" in line
