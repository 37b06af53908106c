"""Catalog of data sets: sources, splits and names of each row."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffcls.data import catalog
from diffcls.support.errors import UsageError


@pytest.mark.parametrize("spec", catalog.SPECS.values(), ids=lambda spec: spec.name)
def test_row_has_a_source_or_a_layout_and_repository(spec: catalog.DatasetSpec) -> None:
    assert (spec.source is None) == (spec.hub is not None and spec.layout is not None)
    assert all(template.count("{}") == 1 for template in spec.templates)
    assert "test" in spec.splits or spec.name == "scenes"  # for training only
    assert not spec.validation or {"train", "validation"} <= set(spec.splits)
    if spec.hub is not None:
        assert set(spec.hub.splits) <= set(spec.splits)
    last, keep = spec.stages.samples[-1], spec.stages.keep
    assert (
        len(spec.stages.samples) == len(keep) and keep[-1] == 1 and last == max(spec.stages.samples)
    )


def test_only_some_sets_have_other_split_names_on_the_hub() -> None:
    renamed = {n: dict(s.hub.splits) for n, s in catalog.SPECS.items() if s.hub and s.hub.splits}
    # their test images are published as validation; Caltech-101 has no official split
    validation = {"test": "validation"}
    assert renamed == {
        "food101": validation,
        "imagenet": validation,
        "caltech101": {"test": "train"},
    }


@pytest.mark.parametrize(
    ("alias", "name"),
    [("food", "food101"), ("flowers", "flowers102"), ("aircraft", "fgvc_aircraft")],
)
def test_names_of_the_published_script_are_aliases(alias: str, name: str) -> None:
    assert catalog.find(alias) is catalog.SPECS[name]


@pytest.mark.parametrize(
    ("name", "revision"),
    [("hf:me/set", ""), ("hf:me/set@refs/convert/parquet", "refs/convert/parquet")],
)
def test_repository_name_may_contain_a_revision(name: str, revision: str) -> None:
    spec = catalog.find(name)
    assert spec.hub == catalog.Repository("me/set", revision)
    assert spec.name == name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("own/photos", "folder:own/photos"),
        ("tables", "parquet:tables"),
        ("nested", "parquet:nested"),
        ("tables/test.parquet", "parquet:tables/test.parquet"),
        ("./gone", "folder:./gone"),
        ("~/gone.parquet", "parquet:~/gone.parquet"),
        ("digit", "digits"),
        ("scenes/atributes", "scenes/attributes"),
    ],
)
def test_path_without_a_prefix_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    (tmp_path / "own" / "photos").mkdir(parents=True)
    (tmp_path / "nested" / "data").mkdir(parents=True)
    (tmp_path / "tables").mkdir()
    for path in ("tables/test.parquet", "nested/data/train.parquet"):
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"unknown dataset.*did you mean '{meant}'\?"):
        catalog.find(name)


@pytest.mark.parametrize("name", ["x\0y", "x" * 5000, "photo.png"])
def test_name_that_is_no_path_of_data_has_no_suggestion_of_one(name: str) -> None:
    with pytest.raises(UsageError, match="unknown dataset") as refused:
        catalog.find(name)
    assert "did you mean 'folder:" not in str(refused.value)


def test_own_data_are_those_with_a_prefix_for_them() -> None:
    own = ("folder:x", "parquet:x", "hf:x/y")
    assert all(catalog.find(name).own for name in own)
    assert not any(spec.own for spec in catalog.SPECS.values())
    assert not catalog.find("scenes:10").own
