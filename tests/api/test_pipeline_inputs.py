"""The tables of inputs in docs/inputs.md: an example of each row.

The column "transformers" is checked against the installed pipeline's own code, the column "diffcls"
against the classifier: "yes" works and gives what the plain form gives, "no" is refused in a line.
"""

from __future__ import annotations

import base64
import inspect
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
import transformers
from helpers.habit_tables import (
    IS_COMPARED,
    LABELS,
    ONE,
    SEVERAL,
    TABLES,
    TEXTS,
    gaussian_classifier,
)
from helpers.transformers_pipeline import ReferencePipeline
from PIL import Image
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import KeyDataset

from diffcls import DiffclsError, ZeroShotImageClassifier
from diffcls.api import image_openers

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 7, 3), dtype=np.uint8)
IMAGE = Image.fromarray(PIXELS)
CHW = torch.from_numpy(PIXELS).permute(2, 0, 1)


def png() -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, "PNG")
    return file.getvalue()


PNG = png()
BASE64 = base64.b64encode(PNG).decode()


@pytest.fixture(scope="module")
def classifier() -> ZeroShotImageClassifier:
    return gaussian_classifier()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the image, which is also on the web."""
    (tmp_path / "one.png").write_bytes(PNG)
    answer = SimpleNamespace(content=PNG)
    monkeypatch.setattr("transformers.image_utils.httpx.get", lambda *_, **__: answer)
    monkeypatch.setattr(image_openers, "fetch", lambda *_: PNG)
    return tmp_path / "one.png"


def outcome(call: Callable[[], Any]) -> Any:
    """The result of a call, or its one-line refusal."""
    try:
        result = call()
        return result if isinstance(result, list) else list(result)
    except DiffclsError as error:
        assert "\n" not in str(error)
        return error


# ---- images --------------------------------------------------------------------------------------

IMAGES: dict[str, Callable[[Path], Any]] = {
    "PIL image": lambda p: IMAGE,
    "path as text": str,
    "`pathlib.Path`": lambda p: p,
    "`http://` or `https://` address": lambda p: "https://images.example/one.png",
    "base64 text": lambda p: BASE64,
    "data URI": lambda p: "data:image/png;base64," + BASE64,
    "bytes": lambda p: PNG,
    "binary file": lambda p: io.BytesIO(PNG),
    '`{"bytes": …, "path": …}`': lambda p: {"bytes": PNG, "path": None},
    "row of a data set": lambda p: {"image": IMAGE, "label": 0},
    "array (H, W) or (H, W, C)": lambda p: PIXELS / 255.0,
    "tensor (C, H, W)": lambda p: CHW,
    "array (C, H, W)": lambda p: CHW.numpy(),
    "address of another kind": lambda p: "s3://bucket/one.png",
    "text file": lambda p: io.StringIO("text"),
    "chat messages": lambda p: [{"role": "user", "content": "which animal is it?"}],
}


class Torch(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return [IMAGE][index - index]


class Keyed(Torch):
    def __getitem__(self, index: int) -> Any:
        return {"image": IMAGE}


def generator(path: Path) -> Iterator[Any]:
    yield from [IMAGE, str(path), IMAGE]


def table() -> datasets.Dataset:
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": [IMAGE] * 3}, features=features)


def shard(path: Path) -> Any:
    reason = "the library webdataset is not installed"
    wds = pytest.importorskip("webdataset", reason=reason)
    with wds.TarWriter(str(path.with_suffix(".tar"))) as sink:
        for key in range(3):
            sink.write({"__key__": f"{key}", "png": IMAGE, "cls": key})
    data = wds.WebDataset(str(path.with_suffix(".tar")), shardshuffle=False)
    return data.decode("pil").to_tuple("png", "cls")


MANY: dict[str, Callable[[Path], Any]] = {
    "list": lambda p: [IMAGE, str(p), IMAGE],
    "generator": generator,
    "torch data set": lambda p: Torch(),
    "`KeyDataset`": lambda p: KeyDataset(Keyed(), "image"),
    "iterator": lambda p: iter([IMAGE] * 3),
    "data set of `datasets`": lambda p: table(),
    "column of `datasets`": lambda p: table()["image"],
    "pipeline of `webdataset`": shard,
    "tuple": lambda p: (IMAGE, IMAGE, IMAGE),
    "array or tensor of four dimensions": lambda p: torch.stack([CHW] * 3),
    "pandas or NumPy column": lambda p: pandas.Series([str(p)] * 3),
    "empty list": lambda p: [],
    "data loader": lambda p: torch.utils.data.DataLoader(Torch(), collate_fn=list),
    "set": lambda p: {str(p)},
    "list of lists": lambda p: [[IMAGE, IMAGE], [IMAGE]],
}


@pytest.mark.parametrize("form", TABLES[ONE])
def test_each_form_of_an_image(form: str, path: Path, classifier: ZeroShotImageClassifier) -> None:
    row, reference = TABLES[ONE][form], ReferencePipeline()
    try:
        reference(IMAGES[form](path), candidate_labels=LABELS)
        taken = (reference.model.pixels[0] == PIXELS).all()
    except Exception:  # whatever it raises: it does not take this form
        taken = False
    assert taken == row.transformers or not IS_COMPARED
    found = outcome(lambda: classifier(IMAGES[form](path), candidate_labels=LABELS))
    assert isinstance(found, DiffclsError) != row.diffcls
    if row.diffcls:
        assert found == classifier(IMAGE, candidate_labels=LABELS)


@pytest.mark.parametrize("form", TABLES[SEVERAL])
def test_each_form_of_several_images(
    form: str, path: Path, classifier: ZeroShotImageClassifier
) -> None:
    row, reference = TABLES[SEVERAL][form], ReferencePipeline()
    kind = {"list": list, "iterator": Iterator, "": DiffclsError}[row.answer]
    try:
        answers = reference(MANY[form](path), candidate_labels=LABELS)
        taken = len(list(answers)) == 3 == len(reference.model.pixels)
    except Exception:
        taken = False
    assert taken == row.transformers or not IS_COMPARED
    if taken and IS_COMPARED:
        assert isinstance(answers, list) == (kind is list)
    found = outcome(lambda: classifier(MANY[form](path), candidate_labels=LABELS))
    assert isinstance(found, DiffclsError) != row.diffcls
    if row.diffcls:
        assert isinstance(classifier(MANY[form](path), candidate_labels=LABELS), kind)
        assert found == [classifier(IMAGE, candidate_labels=LABELS)] * 3


# ---- labels and templates ------------------------------------------------------------------------

PHOTO = "a photo of a {}."
# what is given, and the prompts that are meant
GIVEN: dict[str, tuple[Callable[[], Any], Any, list[str]]] = {
    "list of texts": (lambda: ["cat", "dog"], PHOTO, ["a photo of a cat.", "a photo of a dog."]),
    "tuple, array, series or keys": (
        lambda: pandas.Series(["cat", "dog"]),
        PHOTO,
        ["a photo of a cat.", "a photo of a dog."],
    ),
    "generator of labels": (lambda: (x for x in ["cat", "dog"]), "{}", ["cat", "dog"]),
    "comma-separated text": (lambda: "cat, dog", "{}", ["cat", "dog"]),
    "one label": (lambda: ["cat"], "{}", ["cat"]),
    "the same label twice": (lambda: ["cat", "dog", "cat"], "{}", ["cat", "dog", "cat"]),
    "labels that are no texts": (lambda: [3, "cat"], "{}", ["3", "cat"]),
    "labels per image": (lambda: [["cat", "dog"], ["cat", "3"]], "{}", ["cat", "dog"]),
    "template with one `{}`": (lambda: ["cat", "dog"], "the {}!", ["the cat!", "the dog!"]),
    "template `{}`": (lambda: ["cat", "dog"], "{}", ["cat", "dog"]),
    "several templates": (
        lambda: ["cat", "dog"],
        ["{}", "the {}!"],
        ["cat", "the cat!", "dog", "the dog!"],
    ),
    "template without `{}`": (lambda: ["cat", "dog"], "a photo", ["a photo", "a photo"]),
    "template with `{0}`": (lambda: ["cat", "dog"], "the {0}!", ["the cat!", "the dog!"]),
}


@pytest.mark.parametrize("form", TABLES[TEXTS])
def test_each_form_of_labels_and_templates(form: str, classifier: ZeroShotImageClassifier) -> None:
    row, reference = TABLES[TEXTS][form], ReferencePipeline()
    make, template, prompts = GIVEN[form]
    try:
        answer = reference(IMAGE, candidate_labels=make(), hypothesis_template=template)
        taken = len(answer) == len(prompts) and reference.prompts == prompts
    except Exception:
        taken = False
    assert taken == row.transformers or not IS_COMPARED
    found = outcome(lambda: classifier(IMAGE, make(), template))
    assert isinstance(found, DiffclsError) != row.diffcls
    if row.diffcls:
        (method,) = classifier._methods.values()
        assert list(method.prompts.prompts) == prompts
        assert [entry["label"] for entry in found] != [] and len(found) == 2


@pytest.mark.skipif(not IS_COMPARED, reason="an older transformers")
def test_the_forms_of_images_in_the_installed_pipeline_have_rows() -> None:
    source = inspect.getsource(transformers.image_utils.load_image)
    kinds = set(re.findall(r"isinstance\(image, ([\w.]+)\)", source))
    assert kinds <= {"str", "PIL.Image.Image"}
    prefixes = set(re.findall(r'startswith\("([^"]+)"\)', source))
    assert prefixes <= {"http://", "https://", "data:image/"}
    source = inspect.getsource(Pipeline.__call__)
    containers = set(re.findall(r"isinstance\(inputs(?:\[0\])?, ([\w.]+|\(.*?\))\)", source))
    containers |= set(re.findall(r"\bKeyDataset\b", source))
    known = {"list", "types.GeneratorType", "Dataset", "ChunkPipeline", "container_types", "Chat"}
    assert containers <= known | {"(list, tuple)", "KeyDataset"}


def test_rows_and_examples_are_the_same() -> None:
    assert set(IMAGES) == set(TABLES[ONE]) and set(MANY) == set(TABLES[SEVERAL])
    assert set(GIVEN) == set(TABLES[TEXTS])
