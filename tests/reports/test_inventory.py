"""Inventories: every registered name is there, and every figure is that of the thing itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from diffcls.classifiers import METHODS
from diffcls.data import specs
from diffcls.data.catalog import ALIASES, PREFIXES, SPECS, DatasetSpec, Repository
from diffcls.data.dataset_facts import FACTS
from diffcls.data.load import load_dataset
from diffcls.generation.samplers import SAMPLERS
from diffcls.models.hub_names import MODELS
from diffcls.models.loading import WEIGHTS, bundled
from diffcls.reports.inventory import datasets, methods, samplers, searches
from diffcls.reports.inventory_table import format_entries
from diffcls.reports.model_inventory import models, parameters
from diffcls.runs.leaderboard import published_rows
from diffcls.search import SEARCHES


def test_every_registered_name_is_listed() -> None:
    listed = {entry["name"]: entry for entry in datasets()}
    assert listed.keys() == {*SPECS, *(f"{k}:{row.argument}" for k, row in PREFIXES.items())}
    for alias, name in ALIASES.items():
        assert alias in listed[name]["aliases"]
    clip = {path.parent.name for path in WEIGHTS.glob("*/open_clip_config.json")}
    assert {entry["name"] for entry in models()} >= {*bundled(), *clip, *MODELS}
    assert {entry["name"] for entry in models()} == {*MODELS, *(p.name for p in WEIGHTS.iterdir())}
    for entries, registry in ((methods, METHODS), (searches, SEARCHES), (samplers, SAMPLERS)):
        assert [entry["name"] for entry in entries()] == list(registry)


def test_every_entry_says_what_it_is() -> None:
    for entries in (datasets, models, methods, searches, samplers):
        for entry in entries():
            assert 2 < len(entry["about"]) < 120, entry["name"]
            assert "\n" not in entry["about"]


def test_entries_of_a_kind_have_the_same_keys_and_a_line_each() -> None:
    for entries in (datasets, models, methods, searches, samplers):
        listed = entries()
        assert len({tuple(entry) for entry in listed}) == 1
        lines = format_entries(listed).splitlines()
        assert [line.split("  ")[0] for line in lines[2:]] == [entry["name"] for entry in listed]


def test_a_new_data_set_is_listed_without_a_change_here(monkeypatch: pytest.MonkeyPatch) -> None:
    new = DatasetSpec(
        name="birds",
        model="sd2-base",
        templates=("a photo of a {}.",),
        layout="diffcls.data.layouts.pets:load",
        hub=Repository("owner/birds", gated=True),
    )
    monkeypatch.setitem(specs.SPECS, "birds", new)  # type: ignore[arg-type]
    (entry,) = (entry for entry in datasets() if entry["name"] == "birds")
    assert (entry["gated"], entry["hub_id"]) == (True, "owner/birds")
    assert entry["about"].startswith("Oxford-IIIT Pet")  # the layout's own words
    assert (entry["classes"], entry["licence"]) == (None, None)
    (line,) = (line for line in format_entries([entry]).splitlines() if line.startswith("birds"))
    assert line.count("unknown") == 4  # classes, images, licence, size


@pytest.mark.parametrize("name", ["digits", *(n for n in SPECS if n.startswith("scenes/"))])
def test_facts_are_those_of_the_data(name: str) -> None:
    data = load_dataset(name, "test")
    assert (FACTS[name].classes, FACTS[name].test_images) == (data.n_candidates, len(data))


def test_facts_agree_with_the_published_figures_and_hold_known_names_only() -> None:
    assert FACTS.keys() <= SPECS.keys()
    for row in published_rows():
        assert FACTS[row["dataset"]].classes == row["n_classes"]
    for name, spec in SPECS.items():
        assert spec.hub_classes in (0, FACTS[name].classes)


def test_bundled_models_have_the_size_of_their_tensors_and_the_licence_of_their_card() -> None:
    for entry in models():
        if entry["where"] != "bundled":
            continue
        files = list((WEIGHTS / entry["name"]).glob("**/*.safetensors"))
        arrays = [array for path in files for array in load_file(path).values()]
        assert entry["parameters"] == sum(array.size for array in arrays)
        assert entry["megabytes"] == pytest.approx(sum(p.stat().st_size for p in files) / 1e6, 0.2)
        assert entry["licence"] == "apache-2.0"
        assert entry["data_licence"] == FACTS[entry["trained_on"][0]].licence is not None


def test_hub_models_have_the_terms_of_the_table_and_no_guessed_size() -> None:
    listed = {entry["name"]: entry for entry in models()}
    for name, model in MODELS.items():
        entry = listed[name]
        assert (entry["licence"], entry["gated"]) == (model.licence, model.gated)
        assert str(model) in entry["aliases"]
        if entry["where"] == "Hub":
            assert entry["parameters"] is None and entry["megabytes"] is None


def test_a_model_in_the_cache_is_found_there_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--sd2-community--stable-diffusion-2-base"
    part = repository / "snapshots" / "abc" / "unet"
    part.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file({"w": np.zeros((3, 5)), "b": np.zeros(4)}, part / "model.safetensors")
    listed = {entry["name"]: entry for entry in models()}
    assert listed["sd2-base"]["where"] == str(repository)
    assert listed["sd2-base"]["parameters"] == 19
    assert listed["sd2"]["where"] == "Hub"


def test_a_file_that_is_no_safetensors_file_has_no_known_size(tmp_path: Path) -> None:
    for name, data in {"a": b"", "b": b"\xff" * 40, "c": b"\x02" + bytes(7) + b"[]"}.items():
        (tmp_path / name).write_bytes(data)
        assert parameters([tmp_path / name]) is None
    assert parameters([]) is None
