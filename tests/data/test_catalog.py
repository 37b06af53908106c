"""Catalog of data sets: sources, splits and names of each row."""

from __future__ import annotations

import pytest

from diffcls.data import catalog


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
