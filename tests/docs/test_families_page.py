"""Tables of model families in ``docs/models.md``: up to date, and true to the tests' references."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from helpers.references import REFERENCES

from diffcls.models.family_table import FAMILY_TABLE
from diffcls.models.hub_names import MODELS
from diffcls.models.unsupported_families import ALIASES, UNSUPPORTED

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "models.md"
PREDICTS = {"flow": "flow", "epsilon": "noise", "v_prediction": "v"}


def generator() -> ModuleType:
    """``tools/document_families.py``, which is no part of an installed package."""
    path = ROOT / "tools" / "document_families.py"
    spec = importlib.util.spec_from_file_location("document_families", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == generator().page(text), "run `python -m tools.document_families`"


def test_every_family_has_facts_and_no_other() -> None:
    assert set(generator().FACTS) == set(FAMILY_TABLE)


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_what_a_family_predicts_is_what_its_reference_does(name: str) -> None:
    reference = REFERENCES[name]
    predicts = generator().FACTS[reference.pipeline].predicts
    assert PREDICTS[reference.predicts] == predicts.partition(",")[0]


def test_the_page_names_every_class_and_every_model() -> None:
    code = set(re.findall(r"`(\w[\w.-]*)`", PAGE.read_text(encoding="utf-8")))
    assert {*FAMILY_TABLE, *UNSUPPORTED, *ALIASES, *MODELS} <= code


def test_a_short_name_has_its_id_licence_and_gate() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, model in MODELS.items():
        gated = "yes" if model.gated else "no"
        assert f"\n| `{name}` | {model} | {model.licence} | {gated} |\n" in text
