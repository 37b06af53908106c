"""Registries: names are checked without imports, and objects are loaded only on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffcls.support.errors import UsageError
from diffcls.support.registry import Registry, position

PLACES = {"ordered": "collections:OrderedDict", "fraction": "fractions:Fraction"}


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an importable module that is not imported yet."""
    name = "diffcls_test_witness"
    (tmp_path / f"{name}.py").write_text("VALUE = object()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_load_returns_the_object_itself() -> None:
    from fractions import Fraction

    assert Registry("number", PLACES).load("fraction") is Fraction


def test_only_load_imports(witness: str) -> None:
    registry = Registry("thing", {"lazy": f"{witness}:VALUE"})
    assert registry["lazy"] == f"{witness}:VALUE"
    assert "lazy" in registry
    assert list(registry) == ["lazy"]
    assert dict(registry) == {"lazy": f"{witness}:VALUE"}
    with pytest.raises(UsageError):
        registry.load("lasy")
    assert witness not in sys.modules

    loaded = registry.load("lazy")
    assert loaded is sys.modules[witness].VALUE
    assert registry.load("lazy") is loaded


@pytest.mark.parametrize("ask", [Registry.__getitem__, Registry.load])
def test_unknown_name_is_a_usage_error_that_names_the_others(ask: object) -> None:
    registry = Registry("number", PLACES)
    with pytest.raises(UsageError) as caught:
        ask(registry, "fractoin")
    assert str(caught.value) == (
        "unknown number: 'fractoin'; allowed: ordered, fraction; did you mean 'fraction'?"
    )
    assert isinstance(caught.value, ValueError)
    assert not isinstance(caught.value, KeyError)
    # the message shows one error, without the failed look-up behind it
    assert caught.value.__suppress_context__


def test_a_removed_name_is_unknown_but_the_message_says_what_to_use() -> None:
    registry = Registry("number", PLACES, removed={"real": "choose fraction"})
    assert "real" not in registry and list(registry) == ["ordered", "fraction"]
    for ask in (Registry.__getitem__, Registry.load):
        with pytest.raises(UsageError) as caught:
            ask(registry, "real")
        assert str(caught.value) == (
            "this number was removed: 'real'; allowed: ordered, fraction; choose fraction"
        )


def test_membership_never_raises() -> None:
    registry = Registry("number", PLACES)
    assert "fraction" in registry
    assert "fractions" not in registry
    assert 3 not in registry


def test_names_keep_the_order_of_the_table() -> None:
    registry = Registry("number", PLACES)
    assert list(registry) == ["ordered", "fraction"]
    assert len(registry) == 2


def test_registry_does_not_follow_a_table_that_changes_later() -> None:
    places = dict(PLACES)
    registry = Registry("number", places)
    places["late"] = "math:pi"
    assert "late" not in registry
    assert len(registry) == 2


def test_registry_is_read_only() -> None:
    with pytest.raises(TypeError, match="item assignment"):
        Registry("number", PLACES)["late"] = "math:pi"


def test_a_name_is_found_whatever_its_case() -> None:
    assert [
        position("class", name, ["Shirt", "Ankle boot"]) for name in ("ANKLE BOOT", "shirt")
    ] == [1, 0]
    with pytest.raises(UsageError, match=r"unknown class.*did you mean 'Shirt'"):
        position("class", "Shirts", ["Shirt", "Ankle boot"])
