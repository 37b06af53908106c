"""Lengths of the prompts of a learning: all vectors are read, or nothing is learned."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from diffcls.concepts.learn import learn
from diffcls.concepts.learned_rows import initial_vectors
from diffcls.concepts.options import ConceptSettings
from diffcls.concepts.prompt_lengths import check_prompts
from diffcls.models import loading
from diffcls.models.concepts import add_vectors
from diffcls.models.prompt_truncation import token_counts, with_all_vectors
from diffcls.support.errors import UsageError

TOKEN, TEMPLATES = "<mine>", ("{}", "a photo of a {}, seen from above", "there is a{}in it.")


def longest(count: int) -> int:
    """Tokens of the longest prompt with a word of V vectors, as the text encoder reads it."""
    model: Any = loading.load("digits")
    add_vectors(model.pipeline, TOKEN, {"text_encoder": torch.zeros(count, 96)})
    tokenizer = model.pipeline.tokenizer
    prompts = with_all_vectors(tokenizer, [t.replace("{}", TOKEN) for t in TEMPLATES])
    return max(token_counts(tokenizer, prompts))


def test_the_largest_number_of_vectors_is_named() -> None:
    model: Any = loading.load("digits")
    with pytest.raises(UsageError, match="--vectors: more than") as refused:
        check_prompts(model, ConceptSettings(name=TOKEN, vectors=32), TEMPLATES)
    (number,) = re.findall(r"at most (\d+);", str(refused.value))
    fits, limit = int(number), model.pipeline.tokenizer.model_max_length
    assert longest(fits) == limit and longest(fits + 1) == limit + 1
    check_prompts(model, ConceptSettings(name=TOKEN, vectors=fits), TEMPLATES)
    with pytest.raises(UsageError, match=f"allowed: at most {fits};"):
        check_prompts(model, ConceptSettings(name=TOKEN, vectors=fits + 1), TEMPLATES)


def test_every_vector_that_fits_is_learned() -> None:
    model: Any = loading.load("digits")
    fits = model.pipeline.tokenizer.model_max_length - 2  # start and end
    chosen = ConceptSettings(name=TOKEN, vectors=fits, template=("{}",), steps=1, batch_size=2)
    start = initial_vectors(model, TOKEN, None, fits)["text_encoder"]
    learned = learn(model, chosen, torch.zeros(1, *model.sample_shape)).vectors["text_encoder"]
    assert ((learned - start).abs().amax(dim=1) > 0).all()


def test_prompts_of_other_classes_fit_too() -> None:
    model: Any = loading.load("digits")
    long = "zero " * 24
    for given in (
        {"method": "discriminative", "against": ("two", long)},
        {"method": "dreambooth", "init": long},
    ):
        with pytest.raises(UsageError, match=r"longer than the model.*at most 24"):
            check_prompts(model, ConceptSettings(name=TOKEN, **given), TEMPLATES)


def test_a_refused_learning_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    import diffcls.learn_concept as command

    Image.new("L", (8, 8), 9).save(tmp_path / "0.png")
    out = tmp_path / "c"
    flags = ["--images", str(tmp_path), "--name", TOKEN, "--vectors", "30", "--quiet"]
    assert command.main([*flags, "--output-dir", str(out)]) == 2
    assert "--vectors: more than" in capsys.readouterr().err
    assert not out.exists()
