"""What the benchmarks of generators and of many heads compute, where the truth is known."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.core import flags as asked
from benchmarks.generation import fidelity, fidelity_report
from benchmarks.speed import class_heads
from diffcls.diffusion.draws import DrawPlan, nested_order
from diffcls.diffusion.timestep_allocation import allocate
from diffcls.models import loading
from diffcls.runs import fidelity_table
from diffcls.scoring.scorer import Scorer
from diffcls.support.errors import RecordError


@pytest.fixture(scope="module")
def digits() -> Any:
    return loading.load("digits")


class Told:
    """Stands for a network of many heads: asks the standard model about every class instead."""

    def __init__(self, denoiser: Any, prompts: list[str]) -> None:
        self.denoiser, self.cond = denoiser, denoiser.encode_prompts(prompts)

    def __call__(self, x_t: Tensor, index: Tensor) -> Tensor:
        outs = []
        for k in range(self.cond.count):
            rows = self.cond.rows(torch.full((len(x_t),), k))
            outs.append(self.denoiser.predict(x_t, index, rows))
        return torch.stack(outs, dim=1)


def test_errors_of_heads_are_the_scorers_on_the_same_draws(digits: Any) -> None:
    prompts = ["a photo of a handwritten digit 3.", "a photo of a handwritten digit 8."]
    x0 = torch.randn(3, *digits.sample_shape, generator=torch.Generator().manual_seed(0))
    draws = 4
    found = class_heads.table(Told(digits, prompts), digits, x0, draws)  # type: ignore[arg-type]
    indices = allocate(
        nested_order(len(digits.schedule), draws), digits.card.allocation, digits.schedule
    )
    scorer = Scorer(digits, digits.encode_prompts(prompts), DrawPlan(indices), batch_size=24)
    triples = [(i, k, j) for i in range(3) for k in range(2) for j in range(draws)]
    images, classes, columns = (list(column) for column in zip(*triples, strict=True))
    errors = scorer.errors(x0[images], torch.tensor(classes), columns)
    np.testing.assert_allclose(found.reshape(-1), errors.numpy(), rtol=1e-4)


def test_each_head_answers_for_its_class_alone(digits: Any) -> None:
    torch.manual_seed(0)
    empty = digits.encode_prompts([""])["text"].clone()
    network = class_heads.MultiHead(digits.network, empty, 3).eval()
    x_t, index = torch.randn(2, *digits.sample_shape), torch.tensor([100, 700])
    out = network(x_t, index)
    assert out.shape == (2, 3, *digits.sample_shape)
    loss = out[:, 1].square().mean()
    loss.backward()
    last = network.heads[-1]
    per_class = last.weight.grad.reshape(3, -1).abs().sum(dim=1)
    assert per_class[1] > 0
    assert per_class[0] == per_class[2] == 0
    # and the standard model's own weights are as they were
    assert all(not p.requires_grad for p in digits.network.parameters())


def row(metric: str, value: float, model: str = "m", **more: Any) -> dict[str, Any]:
    told = {"model": model, "dataset": "digits", "split": "test", "extractor": "clip-digits-128"}
    return {**told, "metric": metric, "n": 100, "value": value, "steps": 25, **more}


def test_the_page_shows_each_figure_where_it_belongs(tmp_path: Path) -> None:
    rows = [
        row("FID", 1.5, guidance=2.0, training_images=900),
        row("precision", 0.75, guidance=2.0, training_images=900),
        row("recall", 0.5, guidance=2.0, training_images=900),
        row("FID", 2.5, guidance=1.0, training_images=900),
        row("FID", 55.0, guidance=2.0, training_images=900, extractor="inception-v3-compat-2048"),
        row("FID", 0.5, guidance=2.0, training_images=900, steps=50),
        row("FID", 9.0, "m@100", guidance=2.0, training_images=100),
        row("FID", 12.0, "m@100 not averaged", guidance=2.0, training_images=100),
        row("bits_per_dim", 4.25, "m@100", training_images=100, stderr=0.01),
    ]
    path = tmp_path / "fidelity.csv"
    fidelity_table.put(path, rows)
    fidelity._put_accuracy(path, {("m@100", "digits"): 0.875, ("m@100", "other"): 0.1})
    read = fidelity_table.read(path)
    assert len(read) == len(rows)
    assert [r["accuracy"] for r in read if r["model"] == "m@100"] == ["0.875", "0.875"]
    led = [
        {
            **{"model": "m", "judge": "clip-digits", "weight": 4.0, "n": 100, "share": 0.66},
            **{"ci_low": 0.56, "ci_high": 0.74, "by_chance": 0.1},
        }
    ]
    fidelity_report.write(read, led, tmp_path, classified=200)
    page = (tmp_path / "FIDELITY.md").read_text(encoding="utf-8")
    assert "| m | clip-digits-128 | 100 | 1 | 2.500 |" in page
    assert "| m | clip-digits-128 | 100 | 2 | 1.500 |  |  | 0.750 | 0.500 |" in page
    # a figure stands beside what saw it, and beside no other
    assert "| m | inception-v3-compat-2048 | 100 | 2 | 55.000 |  |  |  |  |  |" in page
    assert "| m | clip-digits-128 | 100 | 2 | 0.500 |  |  |  |  |  |" in page
    assert "clip-digits-128: FID of 100 images on 128 features: its bias is considerable" in page
    told = "100 | averaged | clip-digits-128 | 100 | 2"
    assert f"| {told} | 9.000 |  | 4.250 ± 0.010 | 87.5% (82.2% to 91.4%) |" in page
    assert "| 100 | last | clip-digits-128 | 100 | 2 | 12.000 |" in page
    assert "| 4 | 100 | 66.0% | 56.0% to 74.0% |" in page
    assert (tmp_path / "fidelity.png").stat().st_size > 10_000
    assert (tmp_path / "led.csv").read_text(encoding="utf-8").count("\n") == 2
    # another data set is measured, and nothing is led: what was found stays
    fidelity_report.write(read, [], tmp_path, classified=200)
    assert (tmp_path / "FIDELITY.md").read_text(encoding="utf-8") == page


def test_a_training_that_left_no_snapshots_is_asked_for(capsys: pytest.CaptureFixture[str],
                                                         tmp_path: Path) -> None:  # fmt: skip
    status = fidelity.main(["--only", "fashion_mnist", "--models", str(tmp_path)])
    assert status == 2
    assert "no snapshots of a training there" in capsys.readouterr().err
    assert fidelity.main(["--only", "imagenet"]) == 2


def test_a_run_that_was_made_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[list[str]] = []

    def said(arguments: list[str]) -> str:
        made.append(arguments)
        return '[{"model": "digits", "dataset": "digits", "accuracy": 0.5}]'

    monkeypatch.setattr(fidelity, "said_by", said)
    flags = SimpleNamespace(output_dir=str(tmp_path), data_root="there")
    runs = fidelity._runs(fidelity.BENCHMARKS[0], flags)
    assert {(run.command, run.model) for run in runs} == {
        (command, model)
        for command in ("fidelity", "likelihood", "evaluate")
        for model in ("digits", "digits-pixels")
    }
    for _ in range(2):
        found = [fidelity._run(run, flags) for run in runs]
    assert len(made) == len(runs) == len(found)
    assert all("--data-root" in arguments for arguments in made)
    of_fidelity = [r for r in runs if r.model == "digits" and r.command != "likelihood"]
    rows = [[{"model": "digits", "dataset": "digits", "accuracy": 0.5}]] * 2
    assert fidelity._accuracies(of_fidelity, rows) == {("digits", "digits"): 0.5}


def test_what_was_kept_of_a_run_is_in_the_table_wherever_that_is(tmp_path: Path) -> None:
    runs = [fidelity.Run(name, "m", ()) for name in ("fidelity", "likelihood", "evaluate")]
    said = [
        [row("FID", 1.5, guidance=2.0), row("KID", 0.25, guidance=2.0, stderr=0.125)],
        row("bits_per_dim", 4.25, stderr=0.5, terms={"L_T": 0.0}),
        [{"model": "m", "accuracy": 0.5}],
    ]
    for _ in range(2):
        fidelity._put(tmp_path / "fidelity.csv", runs, said)
    found = [(r["metric"], r["value"]) for r in fidelity_table.read(tmp_path / "fidelity.csv")]
    assert found == [("FID", "1.5"), ("KID", "0.25"), ("bits_per_dim", "4.25")]


def test_a_run_that_fails_is_said_in_a_line() -> None:
    assert asked.said_by([sys.executable, "-c", "print(3)"]) == "3\n"
    with pytest.raises(RecordError, match="a run ended with status 2"):
        asked.said_by([sys.executable, "-c", "raise SystemExit(2)"])
    with pytest.raises(KeyboardInterrupt):
        asked.said_by([sys.executable, "-c", "raise SystemExit(130)"])
