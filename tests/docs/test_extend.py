"""The steps of docs/extend.md: one file and one row, and the command evaluates the addition."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffcls import ZeroShotImageClassifier, run_evaluation
from diffcls.classifiers import METHODS
from diffcls.data.catalog import SPECS, DatasetSpec
from diffcls.models.adapters import FAMILIES
from diffcls.models.family_table import FAMILY_TABLE
from diffcls.search import SEARCHES
from diffcls.support.registry import Registry

pytest.importorskip("torch")

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
QUICK: dict[str, Any] = {"limit": 4, "threads": 1, "quiet": True, "check_model": False}


def block(section: str) -> str:
    """The Python block of a section of the page."""
    (text,) = re.findall(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    (source,) = re.findall(r"```python\n(.*?)```", text, re.S)
    return str(source)


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(module, source, table, row): a file, and its row in a table."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, source: str, table: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, module, raising=False)
        for name, value in row.items():
            places: Any = table._places if isinstance(table, Registry) else table
            monkeypatch.setitem(places, name, value)

    return write


def test_a_search_of_the_page_is_run_by_its_name(add: Any, tmp_path: Path) -> None:
    definition = block("A search").partition("\nsearch = ")[0]
    add("own_search", definition, SEARCHES, {"two-rounds": "own_search:TwoRounds"})
    options = {**QUICK, "search": "two-rounds", "draws": 20, "output_dir": str(tmp_path / "out")}
    (row,) = run_evaluation(**options)
    assert row["status"] == "complete" and row["search"] == "two-rounds"
    # ten digits on 5 draws, the best 3 on the other 15
    assert row["evaluations_per_image"] == 10 * 5 + 3 * 15
    (header,) = (tmp_path / "out").glob("runs/*/run.json")
    stored = json.loads(header.read_text(encoding="utf-8"))["spec"]["search_options"]
    assert {name: stored[name] for name in ("draws", "first", "kept")} == {
        "draws": 20,
        "first": 5,
        "kept": 3,
    }
    classifier = ZeroShotImageClassifier.from_pretrained(
        "digits", search="two-rounds", draws=8, first=2, kept=2
    )
    answers = classifier(np.zeros((8, 8)), [str(k) for k in range(10)])
    assert len(answers) == 10


READER = """
import hashlib

from PIL import Image

from diffcls.data.dataset import Dataset, Item


def load(query):
    files = sorted(query.root.glob(f"{query.split}/*.png")) if query.root else []
    if not files:
        return None
    names = ("forest", "lake")
    items = tuple(
        Item(f.name, names.index(f.stem.partition("_")[0]), lambda f=f: Image.open(f))
        for f in files
    )
    revision = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
    return Dataset(query.spec.name, query.split, names, items, revision)
"""


def test_a_data_set_of_the_page_is_read_by_its_row(add: Any, tmp_path: Path) -> None:
    from PIL import Image

    names: dict[str, Any] = {"DatasetSpec": DatasetSpec}
    row = block("A data set").strip()
    # the module of a real addition lies in the package
    spec = eval(row.replace("diffcls.data.layouts.eurosat", "own_layout"), names)
    add("own_layout", READER, SPECS, {spec.name: spec})
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    for i in range(6):
        name = f"{('lake', 'forest')[i % 2]}_{i}.png"
        Image.new("RGB", (8, 8), (0, 40 * i, 0)).save(folder / name)
    options = {**QUICK, "dataset": "eurosat", "data_root": str(tmp_path / "data")}
    options |= {"method": ("reference",), "reference": "chance", "limit": None}
    (row,) = run_evaluation(**options, output_dir=str(tmp_path / "out"))
    assert (row["dataset"], row["n_classes"], row["n_scored"]) == ("eurosat", 2, 6)
    (plan,) = run_evaluation(
        **{**QUICK, "dataset": "eurosat", "data_root": options["data_root"], "dry_run": True},
        model="digits",
        output_dir=str(tmp_path / "out"),
    )
    assert plan["prompts"] == ["a satellite photo of forest.", "a satellite photo of lake."]


def test_a_family_of_the_page_is_an_adapter_with_its_rows(
    add: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    from helpers import tiny_families

    from diffcls.models import loading

    own = type("OwnPipeline", (diffusers.DiTPipeline,), {})
    monkeypatch.setattr(diffusers, "OwnPipeline", own, raising=False)

    source = "from diffcls.models.families.dit import DiTDenoiser\n\n\n"
    source += "class Own(DiTDenoiser):\n    pass\n"
    add("own_family", source, FAMILIES, {"OwnPipeline": "own_family:Own"})
    monkeypatch.setitem(FAMILY_TABLE, "OwnPipeline", FAMILY_TABLE["DiTPipeline"])  # type: ignore[misc]
    folder = tiny_families.saved("dit", tmp_path)
    index = folder / "model_index.json"
    text = index.read_text(encoding="utf-8")
    index.write_text(text.replace("DiTPipeline", "OwnPipeline"), encoding="utf-8")
    assert type(loading.load(str(folder))).__name__ == "Own"


METHOD = """
import torch

from diffcls.classifiers.base import Built, MethodKind
from diffcls.classifiers.one_pass import BatchMethod
from diffcls.data.transforms import load_image, to_pixels
from diffcls.models.denoiser import ModelCard


def build(options, spec, prompts):
    def read(item):
        return to_pixels(load_image(item.open()), 8, "bicubic")

    def prepare():
        # the more light, the higher the class
        levels = torch.linspace(-1, 1, prompts.n_classes)
        return lambda pixels, ids: -(pixels.mean((1, 2, 3))[:, None] - levels).abs()

    return Built(
        method=BatchMethod(read, prepare, None),
        card=ModelCard("light", "1"),
        prompts=prompts,
        img_size=8,
        supervision="zero-shot",
    )


LIGHT = MethodKind(check=lambda options, spec: None, build=build, reads=frozenset())
"""


def test_a_method_of_the_page_is_run_and_refuses_the_options_of_others(
    add: Any, tmp_path: Path
) -> None:
    from diffcls import UsageError

    add("own_method", METHOD, METHODS, {"light": "own_method:LIGHT"})
    (row,) = run_evaluation(**QUICK, method=("light",), output_dir=str(tmp_path))
    assert (row["method"], row["status"], row["n_scored"]) == ("light", "complete", 4)
    with pytest.raises(UsageError, match="--guidance"):
        run_evaluation(**QUICK, method=("light",), guidance=2.0, output_dir=str(tmp_path))
