"""Loading and moving a classifier: devices, precisions, defaults of the calls, and refusals."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffcls import ModelError, UsageError, ZeroShotImageClassifier
from diffcls.api.load_arguments import device_name
from diffcls.api.remote_images import WebAccess
from diffcls.models import loading
from diffcls.models.gaussian import GaussianDenoiser

LABELS = ["one", "seven"]
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
OPTIONS: dict[str, Any] = {"search": "exhaustive", "draws": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def model(tiny_pipeline: Callable[[str], Path]) -> str:
    return str(tiny_pipeline("v_prediction"))


def load(model: str, **arguments: Any) -> ZeroShotImageClassifier:
    return ZeroShotImageClassifier.from_pretrained(model, **OPTIONS, **arguments)


def answer(classifier: ZeroShotImageClassifier) -> Any:
    return classifier(PIXELS, candidate_labels=LABELS)


def weights(classifier: ZeroShotImageClassifier) -> dict[str, torch.Tensor]:
    parts = classifier.denoiser.pipeline.components  # type: ignore[attr-defined]
    modules = {k: v for k, v in parts.items() if isinstance(v, torch.nn.Module)}
    return {
        f"{part}.{name}": tensor.clone()
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and bool((a[k] == b[k]).all()) for k in a
    )


# ---- moving --------------------------------------------------------------------------------------


def test_a_moved_classifier_is_one_that_was_loaded_so(model: str) -> None:
    classifier, half = load(model), load(model, dtype="bfloat16")
    single = weights(classifier)
    assert classifier.to(dtype=torch.bfloat16) is classifier
    assert classifier.dtype == torch.bfloat16 and same(weights(classifier), weights(half))
    assert answer(classifier) == answer(half)
    # and back, without the rounding
    classifier.to(torch.float32)
    assert classifier.dtype == torch.float32 and same(weights(classifier), single)
    assert answer(classifier) == answer(load(model))


@pytest.mark.parametrize("device", ["cpu", -1, torch.device("cpu"), None])
def test_the_device_may_be_text_number_or_torchs(model: str, device: Any) -> None:
    classifier = load(model, device=-1)
    before, wanted = weights(classifier), answer(classifier)
    moved = classifier.to(device)
    assert moved.device == torch.device("cpu") and moved.dtype == torch.float32
    assert same(weights(moved), before) and answer(moved) == wanted


def test_a_pipeline_that_someone_holds_is_copied_and_stays_as_it_is(model: str) -> None:
    denoiser = loading.load(model)
    held = ZeroShotImageClassifier(denoiser, search="exhaustive", search_options={"draws": 2})
    other = ZeroShotImageClassifier(denoiser, search="exhaustive", search_options={"draws": 2})
    before, wanted = weights(other), answer(other)
    held.to(torch_dtype="bfloat16")
    assert held.dtype == torch.bfloat16 and held.denoiser is not denoiser
    assert same(weights(other), before) and answer(other) == wanted
    loaded = weights(load(model, dtype="bfloat16"))
    assert same(weights(held), loaded)


def test_a_moved_classifier_is_pickled_as_it_is(model: str) -> None:
    classifier = load(model).to("cpu", "bfloat16")
    again = pickle.loads(pickle.dumps(classifier))
    assert again.dtype == torch.bfloat16 and answer(again) == answer(classifier)


def test_moves_that_cannot_be_are_refused_and_change_nothing(model: str) -> None:
    classifier = load(model)
    before = weights(classifier)
    for arguments, message in (
        ({"device": "tpu"}, "unknown device: 'tpu'"),
        ({"device": 99}, "accelerator 99 is not available: 99"),
        ({"device": -2}, "unknown device: -2"),
        ({"device": True}, "unknown device: True"),
        ({"device": 1.5}, "unknown device: 1.5"),
        ({"dtype": torch.int8}, "unknown dtype: 'int8'"),
        ({"dtype": "float32", "torch_dtype": torch.float16}, "dtype and torch_dtype differ"),
        ({"device": torch.float16, "dtype": torch.float32}, "dtype and torch_dtype differ"),
    ):
        with pytest.raises(UsageError, match=message):
            classifier.to(**arguments)
    assert same(weights(classifier), before)
    analytic = ZeroShotImageClassifier(GaussianDenoiser({"a": torch.zeros(1, 2, 2)}))
    with pytest.raises(ModelError, match="cannot be moved: 'GaussianDenoiser'"):
        analytic.to(torch.float16)


def test_numbers_are_accelerators_as_torch_counts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_name(n) for n in (-1, 0, 1)] == ["cpu", "cuda:0", "cuda:1"]
    assert device_name(torch.device("cuda", 1)) == "cuda:1"
    with pytest.raises(UsageError, match="accelerator 2 is not available"):
        device_name(2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_name(0) == "mps"


# ---- loading -------------------------------------------------------------------------------------


def test_defaults_of_the_calls_are_those_of_loading_and_are_pickled(model: str) -> None:
    plain = load(model)
    templates = ["the {}!", "{}"]
    made = load(model, hypothesis_template=templates, timeout=3, allow_private_addresses=True)
    for classifier in (made, pickle.loads(pickle.dumps(made))):
        assert classifier.web_access == WebAccess(3, True)
        wanted = plain(PIXELS, candidate_labels=LABELS, hypothesis_template=templates)
        assert answer(classifier) == wanted != answer(plain)
        again = classifier(PIXELS, candidate_labels=LABELS, hypothesis_template="a photo of a {}.")
        assert again == answer(plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": "digits", "model": "sd15"}, "not named once"),
        ({"name_or_path": "zero-shot-image-classification"}, "not named once"),
        ({"task": "image-classification"}, "task is not supported: 'image-classification'"),
        ({"name_or_path": object()}, "not a name or path: 'object'.*from_pipeline"),
        ({"name_or_path": "digits", "revision": "main"}, "not on the Hub: 'main'"),
        ({"name_or_path": "a/b@r1", "revision": "r2"}, "two revisions: 'a/b@r1, revision r2'"),
        ({"revision": "r2"}, "not on the Hub: 'r2'"),
        ({"dtype": "float64"}, "unknown dtype: 'float64'"),
        ({"batch_size": 0}, "batch_size out of range: 0"),
        ({"batch_size": "auto"}, "batch_size out of range: 'auto'"),
        ({"timeout": 0}, "timeout out of range: 0"),
        ({"hypothesis_template": 3}, "hypothesis_template cannot be read: 3"),
        ({"drawz": 5}, "unknown argument of from_pretrained: 'drawz'.*did you mean 'draws'"),
        ({"stages": 5, "search": "racing"}, "unknown argument|no such option"),
        ({"search": "exhaustive", "confidence": 0.9}, "no such option: confidence: 0.9.*'racing'"),
        ({"draws": -1}, "-1"),
        ({"trust_remote_code": True}, "trust_remote_code is no argument.*no code of a model"),
        ({"token": "hf_x"}, "token is no argument of from_pretrained.*hf auth login"),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_opened(
    arguments: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(loading, "load")
    with pytest.raises(UsageError, match=message) as raised:
        ZeroShotImageClassifier.from_pretrained(**arguments)
    assert "\n" not in str(raised.value)


def test_the_first_argument_may_be_transformers_task(monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    denoiser = GaussianDenoiser({"a": torch.zeros(1, 2, 2)})
    monkeypatch.setattr(loading, "load", lambda name, *_: names.append(name) or denoiser)
    ZeroShotImageClassifier.from_pretrained("zero-shot-image-classification", model="sd15")
    assert names == ["sd15"]


def test_a_representation_names_model_search_device_and_precision(model: str) -> None:
    text = repr(load(model, seed=3))
    assert text == (
        f"ZeroShotImageClassifier(model={Path(model).name!r}, search='exhaustive', device='cpu', "
        "dtype='float32', img_size=32, seed=3, batch_size=4)"
    )


# ---- batch size ----------------------------------------------------------------------------------


def test_a_calls_batch_size_is_that_of_loading_to_the_bit_and_of_this_call_alone(
    model: str,
) -> None:
    classifier, eight = load(model), load(model)
    eight.batch_size = 8
    wanted = answer(classifier)
    assert classifier(PIXELS, LABELS, batch_size=8) == answer(eight)
    assert answer(classifier) == wanted
    found, plain = (
        {e["label"]: e["score"] for e in one}
        for one in (classifier(PIXELS, LABELS, batch_size=3), wanted)
    )
    assert found == pytest.approx(plain, rel=1e-4)
    for rows in (0, -1, 2.5, True, "auto", 10**6):
        with pytest.raises(UsageError, match=f"batch_size out of range: {rows!r}"):
            classifier(PIXELS, LABELS, batch_size=rows)
