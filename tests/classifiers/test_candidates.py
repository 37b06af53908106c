"""Images with candidates of their own, scored against the empty prompt."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import diffcls
from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.classifiers.search_options import most_evaluations
from diffcls.data.dataset import Item
from diffcls.data.load import load_dataset
from diffcls.data.prompts import PromptSet
from diffcls.data.transforms import load_image, to_image, to_pixels
from diffcls.evaluation.replay import replay
from diffcls.models.gaussian import GaussianDenoiser
from diffcls.runs.records import Record, read_records
from diffcls.scoring.class_scores import ClassScores
from diffcls.scoring.scorer import Scorer
from diffcls.search.base import Search
from diffcls.search.exhaustive import Exhaustive
from diffcls.search.racing import Racing
from diffcls.support.errors import UsageError

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


def method(search: Search, **wishes: Any) -> DiffusionMethod:
    prompts = PromptSet.from_templates(TEXTS, ["{}"], asked=2)
    model = GaussianDenoiser(MEANS, 0.2)
    return DiffusionMethod(model, prompts, search, batch_size=8, encode_batch=2, **wishes)


def by_id(answers: list[ClassScores]) -> dict[str, ClassScores]:
    return {answer.image_id: answer for answer in answers}


def test_scores_are_error_differences_to_the_empty_prompt() -> None:
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


def test_scores_are_independent_of_the_batch_and_within_the_cost_limit() -> None:
    search = Racing(20)
    together = by_id(list(method(search).classify([item(i) for i in range(6)])))
    alone = by_id([next(method(search).classify([item(i)])) for i in range(6)])
    prompts = PromptSet.from_templates(TEXTS, ["{}"], asked=2)
    for name, answer in together.items():
        assert np.array_equal(answer.scores, alone[name].scores)
        assert answer.evaluations == alone[name].evaluations
        assert 0 < answer.evaluations <= most_evaluations(search, prompts)


def test_order_and_vote_do_not_change_a_clear_winner() -> None:
    items = [item(i) for i in range(6)]
    forward, backward = (
        by_id(list(method(Racing(20)).classify(order))) for order in (items, items[::-1])
    )
    for name, answer in forward.items():
        assert np.array_equal(answer.scores, backward[name].scores)
        assert np.array_equal(answer.ranking, backward[name].ranking)
    ranked = by_id(list(method(Exhaustive(7), vote="rank").classify(items)))
    for one in items:
        # scores are minus mean ranks, which sum to −1 for two classes; the empty prompt has none
        assert ranked[one.image_id].scores.sum() == pytest.approx(-1)
        assert ranked[one.image_id].ranking[0] == one.label


def test_images_and_prompts_need_the_same_number_of_candidates() -> None:
    whole = Item("test/0", 0, item(0).open)
    with pytest.raises(UsageError, match="the prompts do not fit images of 0 candidates"):
        next(method(Exhaustive(2)).classify([whole]))
    of_all = DiffusionMethod(
        GaussianDenoiser(MEANS, 0.2), PromptSet.from_templates(TEXTS, ["{}"]), Exhaustive(2)
    )
    with pytest.raises(UsageError, match="the prompts do not fit images of 2 candidates"):
        next(of_all.classify([item(0)]))


def test_prompts_cannot_compete_for_images_with_own_candidates() -> None:
    prompts = PromptSet.from_templates(TEXTS, ["{}", "a {}"], asked=2)
    with pytest.raises(UsageError, match="--aggregate prompts needs classes that all images share"):
        DiffusionMethod(GaussianDenoiser(MEANS), prompts, Racing(), aggregate="prompts")


@pytest.fixture
def evaluate(
    tiny_pipeline: Pipelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs four images of pairs: (the row, the records by image)."""
    # the tiny model's text encoder reads too few tokens for whole sentences
    monkeypatch.setattr(
        "diffcls.models.families.stable_diffusion.report_truncation", lambda *_: None
    )

    def run(**wishes: Any) -> tuple[dict[str, Any], dict[str, Record]]:
        options = {"limit": 4, "draws": 4, "check_model": False, "quiet": True, **wishes}
        out = options.setdefault("output_dir", tmp_path / "out")
        (row,) = diffcls.run_evaluation(
            dataset="scenes/pairs", model=str(tiny_pipeline("v_prediction")), **options
        )
        files = (out / "runs" / row["fingerprint"]).glob("records-*.jsonl")
        return row, {r.image_id: r for file in files for r in read_records(file)}

    return run


def test_command_scores_pairs(evaluate: Callable[..., Any]) -> None:
    row, records = evaluate()
    assert (row["n_classes"], row["n_scored"], row["top5"]) == (2, 4, None)
    assert row["ci_low"] <= row["accuracy"] <= row["ci_high"] and 0 <= row["ece"] <= 1
    assert len(records) == 4
    for record in records.values():
        assert len(record.scores) == 2 and sorted(record.ranking) == [0, 1]
        # two texts and the empty one, on two draws at first and four at most
        assert 3 * 2 <= record.evaluations <= 3 * 4
    assert evaluate(vote="rank")[0]["ece"] is None  # mean ranks have no posterior


def test_error_tables_of_pairs_are_replayed(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    row, records = evaluate(search="exhaustive", save_errors=str(tmp_path / "t"))
    names = load_dataset("scenes/pairs", "test").class_names
    for image_id, record in records.items():
        with np.load(tmp_path / "t" / f"{image_id}.npz") as kept:
            errors, texts = kept["errors"], kept["class_names"].tolist()
        first = int(image_id.rpartition("/")[2]) // 2 * 2
        assert texts == list(names[first : first + 2])
        assert errors.shape == (2, 4) and record.evaluations == 3 * 4
        # the empty prompt's error is the same in both scores
        assert record.scores[0] - record.scores[1] == pytest.approx(
            errors[1].mean() - errors[0].mean(), abs=1e-6
        )
    (again,) = replay(tmp_path / "t")
    assert again["accuracy"] == row["accuracy"]
    assert again["evaluations_per_image"] == 2 * 4  # the empty prompt has no table


def test_prompts_of_a_file_are_scored_per_image(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    data = load_dataset("scenes/pairs", "test")
    with open(tmp_path / "p.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "classidx"])
        for k, words in enumerate(data.prompt_names or data.class_names):
            rows.writerow([f"a picture of {words}.", k])
    row, records = evaluate(search="exhaustive")
    # another output folder: the same prompts would resume the same run
    asked = {"search": "exhaustive", "prompts": str(tmp_path / "p.csv")}
    theirs, same = evaluate(**asked, output_dir=tmp_path / "other")
    assert theirs["fingerprint"] == row["fingerprint"]
    assert {i: r.scores for i, r in same.items()} == {i: r.scores for i, r in records.items()}
