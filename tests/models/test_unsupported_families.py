"""Families that are refused: all of diffusers' text-to-image pipelines have an answer here."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

from diffcls.models import loading
from diffcls.models.family_table import FAMILY_TABLE, UNUSED
from diffcls.models.in_memory import denoiser_of
from diffcls.models.unsupported_families import ALIASES, UNSUPPORTED
from diffcls.support.errors import ModelError


def index_of(family: object, folder: Path) -> Path:
    """A model folder that has an index alone."""
    (folder / "model_index.json").write_text(json.dumps({"_class_name": family}))
    return folder


@pytest.mark.slow
def test_every_text_to_image_pipeline_of_diffusers_has_an_answer() -> None:
    import diffusers
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING as theirs

    known = {*FAMILY_TABLE, *ALIASES, *UNSUPPORTED}
    new = sorted({kind.__name__ for kind in theirs.values()} - known)
    assert not new, (
        f"diffusers {diffusers.__version__} has text-to-image pipelines without an answer: "
        f"{', '.join(new)}; add each to family_table.py or unsupported_families.py"
    )


@pytest.mark.slow
def test_every_name_is_one_of_diffusers() -> None:
    import diffusers

    names = {*FAMILY_TABLE, *ALIASES, *UNSUPPORTED}
    assert sorted(name for name in names if not hasattr(diffusers, name)) == []


def test_no_name_has_two_answers() -> None:
    assert not set(FAMILY_TABLE) & set(UNSUPPORTED), "supported now: remove the refusal"
    assert not set(ALIASES) & {*FAMILY_TABLE, *UNSUPPORTED}


def test_what_is_chosen_instead_is_supported() -> None:
    assert set(ALIASES.values()) <= set(FAMILY_TABLE)
    assert {why.instead for why in UNSUPPORTED.values()} - {""} <= set(FAMILY_TABLE)
    assert all(why.reason for why in UNSUPPORTED.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ALIASES))
def test_an_alias_has_the_parts_of_its_family(name: str) -> None:
    import diffusers

    def parts(pipeline: str) -> set[str]:
        parameters = inspect.signature(getattr(diffusers, pipeline).__init__).parameters
        return {p for p in parameters if p in FAMILY_TABLE[ALIASES[name]].parts}

    others = {
        p.name
        for p in inspect.signature(getattr(diffusers, name).__init__).parameters.values()
        if p.default is p.empty and p.name not in {"self", *UNUSED}
    }
    assert parts(name) == parts(ALIASES[name]) == set(FAMILY_TABLE[ALIASES[name]].parts)
    assert others <= parts(name)  # it needs nothing else


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_a_refusal_says_why_and_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        loading.load(str(index_of(name, tmp_path)))
    text, why = str(refused.value), UNSUPPORTED[name]
    assert text.startswith(f"model family not supported: {name!r}; {why.reason}; choose ")
    assert why.instead in text and "\n" not in text


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_an_alias_names_the_class_that_reads_the_same_parts(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        loading.load(str(index_of(name, tmp_path)))
    wanted = f"{ALIASES[name]}.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)"
    assert str(refused.value).endswith(wanted)


@pytest.mark.parametrize("family", [["a"], {"a": 1}, None, 5, "Cat", ""])
def test_an_index_of_anything_else_is_refused_with_the_families(
    family: object, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"family not supported.*allowed: StableDiffusionPipeline"):
        loading.load(str(index_of(family, tmp_path)))


def test_the_remedy_of_an_alias_makes_a_model_that_loads(tmp_path: Path) -> None:
    """A pipeline saved under another name, opened and saved under its family's."""
    import diffusers
    from helpers.tiny_families import sd1

    pipe = sd1()
    alias = diffusers.StableDiffusionPAGPipeline(**pipe.components, requires_safety_checker=False)
    alias.save_pretrained(tmp_path / "alias")
    with pytest.raises(ModelError, match="allowed: StableDiffusionPipeline, which reads"):
        loading.load(str(tmp_path / "alias"))
    plain = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path / "alias")
    plain.save_pretrained(tmp_path / "plain")
    assert loading.load(str(tmp_path / "plain")).sample_shape == (4, 16, 16)


def test_a_pipeline_in_memory_is_refused_with_the_same_reason() -> None:
    import diffusers
    from helpers.tiny_families import sd1

    parts = sd1().components
    inpainting = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(ModelError, match="a masked image is part of its input; choose a model of"):
        denoiser_of(inpainting)
    alias = diffusers.StableDiffusionPAGPipeline(**parts, requires_safety_checker=False)
    with pytest.raises(ModelError, match=r"call StableDiffusionPipeline\.from_pipe\(pipe\)"):
        denoiser_of(alias)


def test_the_tables_are_read_without_a_model_library() -> None:
    code = (
        "import sys, diffcls.models.unsupported_families; "
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
