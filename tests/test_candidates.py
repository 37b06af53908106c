"""Images that are asked about candidates of their own, against the empty prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffcls
from diffcls.data.dataset import Item
from diffcls.errors import UsageError
from diffcls.method import ClassScores
from diffcls.methods.building import most_evaluations
from diffcls.methods.diffusion import DiffusionMethod
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.prompts import PromptSet
from diffcls.records import read_records
from diffcls.scorer import Scorer
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.search.table import Search
from diffcls.transforms import load_image, to_image, to_pixels

Pipelines = Callable[[str], Path]
TEXTS = [f"text {i}" for i in range(6)]
RNG = np.random.default_rng(7)
MEANS = {
    text: torch.tensor(RNG.uniform(-0.8, 0.8, (3, 4, 4)), dtype=torch.float32)
    for text in ("", *TEXTS)
}


def item(i: int) -> Item:
    pixels = np.random.default_rng(i).normal(MEANS[TEXTS[i]].numpy(), 0.2)
    image: Image.Image = to_image(pixels)
    first = i - i % 2
    return Item(f"test/{i}", i % 2, lambda: image, (first, first + 1))


def method(search: Search) -> DiffusionMethod:
    prompts = PromptSet.from_templates(TEXTS, ["{}"], asked=2)
    return DiffusionMethod(
        GaussianDenoiser(MEANS, 0.2), prompts, search, batch_size=8, encode_batch=2
    )


def by_id(answers: list[ClassScores]) -> dict[str, ClassScores]:
    return {answer.image_id: answer for answer in answers}


def test_scores_are_what_a_text_explains_better_than_none() -> None:
    model, plan = GaussianDenoiser(MEANS, 0.2), method(Exhaustive(7)).plan
    scorer = Scorer(model, model.encode_prompts([*TEXTS, ""]), plan, batch_size=7)
    answers = by_id(list(method(Exhaustive(7)).classify([item(i) for i in range(6)])))
    for i in range(6):
        one = item(i)
        x0 = torch.from_numpy(to_pixels(load_image(one.open()), 4))
        rows = (*one.candidates, len(TEXTS))
        mean = [
            float(scorer.errors(x0.expand(7, -1, -1, -1), torch.full((7,), r), range(7)).mean())
            for r in rows
        ]
        answer = answers[one.image_id]
        assert answer.scores == pytest.approx([mean[2] - mean[0], mean[2] - mean[1]], abs=1e-6)
        assert answer.evaluations == 3 * 7
        assert answer.ranking[0] == one.label


def test_company_changes_no_bit_and_the_bound_holds() -> None:
    search = Racing(20)
    together = by_id(list(method(search).classify([item(i) for i in range(6)])))
    alone = by_id([next(method(search).classify([item(i)])) for i in range(6)])
    prompts = PromptSet.from_templates(TEXTS, ["{}"], asked=2)
    for name, answer in together.items():
        assert np.array_equal(answer.scores, alone[name].scores)
        assert answer.evaluations == alone[name].evaluations
        assert 0 < answer.evaluations <= most_evaluations(search, prompts)


def test_prompts_cannot_race_among_candidates_of_ones_own() -> None:
    prompts = PromptSet.from_templates(TEXTS, ["{}", "a {}"], asked=2)
    with pytest.raises(UsageError, match="cannot race"):
        DiffusionMethod(GaussianDenoiser(MEANS), prompts, Racing(), aggregate="prompts")


def test_command_scores_pairs(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the tiny model's text encoder reads too few tokens for whole sentences
    monkeypatch.setattr("diffcls.models.diffusers_unet.report_truncation", lambda *_: None)
    (row,) = diffcls.run_evaluation(
        dataset="scenes/pairs",
        model=str(tiny_pipeline("v_prediction")),
        limit=4,
        draws=4,
        check_model=False,
        output_dir=str(tmp_path),
        quiet=True,
    )
    assert (row["n_classes"], row["n_scored"], row["top5"]) == (2, 4, None)
    files = tmp_path.glob("runs/*/records-*.jsonl")
    records = [record for file in files for record in read_records(file)]
    assert len(records) == 4
    assert all(len(r.scores) == 2 and sorted(r.ranking) == [0, 1] for r in records)
