"""Side-by-side benchmark of diffcls and the published script, in miniature."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.accuracy.published_checkout import COMMANDS, DIT_SCRIPT, SCRIPT, Checkout
from benchmarks.core.tables import read_rows
from benchmarks.speed import published_speed
from benchmarks.speed.published_rows import Comparison, difference, ratio, row_of
from benchmarks.speed.published_sides import (
    Answer,
    Lap,
    NoisePrediction,
    OurSide,
    PublishedSide,
    take_turns,
)
from benchmarks.speed.published_speed import Unfinished
from benchmarks.speed.published_speed_report import COLUMNS, write_page
from benchmarks.speed.throughput import plan_of
from diffcls.support.errors import ModelError

CHECKOUT = os.environ.get("DIFFCLS_PUBLISHED_CHECKOUT")

# the stages of Li et al. 2023, algorithm 2, one evaluation at a time
FAKE_SCRIPT = '''
import numpy as np
import torch


def get_transform(size):
    def transform(image):
        pixels = np.asarray(image.resize((size, size), 3).convert("RGB"), np.float32)
        return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)

    return transform


def eval_prob_adaptive(unet, latent, text, scheduler, args, latent_size, all_noise):
    step = 1000 // max(args.n_samples)
    grid, known = range(step // 2, 1000, step), []
    errors, classes = {k: [] for k in range(len(text))}, list(range(len(text)))
    for count, keep in zip(args.n_samples, args.to_keep):
        every = len(grid) // count
        times = [t for t in grid[every // 2 :: every][:count] if t not in known]
        for k in classes:
            for place, t in enumerate(times, start=len(known)):
                squared, noise = scheduler.alphas_cumprod[t], all_noise[place]
                noisy = latent * squared.sqrt() + noise * (1 - squared).sqrt()
                with torch.no_grad():
                    out = unet(noisy, torch.tensor([t]), encoder_hidden_states=text[[k]]).sample
                errors[k].append(float(((out - noise) ** 2).mean()))
        known += times
        classes = sorted(classes, key=lambda k: np.mean(errors[k]))[:keep]
    return classes[0], {k: {"pred_errors": torch.tensor(e)} for k, e in errors.items()}


def eval_error(*arguments):
    """Serves the warm-up alone."""
'''


@pytest.fixture
def fake(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    (root / "prompts").mkdir(parents=True)
    for name in (DIT_SCRIPT, COMMANDS):
        (root / name).touch()
    (root / SCRIPT).write_text(FAKE_SCRIPT, encoding="utf-8")
    return Checkout(root)


def both_sides(checkout: Checkout, images: int) -> Iterator[tuple[Any, Any]]:
    """Both sides after all turns, of a short schedule of 5 and then 10 samples per class."""
    plan = plan_of(dataset="digits", limit=images, n_samples=[5, 10], to_keep=[3, 1], batch_size=32)
    items = list(plan.dataset.items)
    ours = OurSide(plan.built.method, items, 1, keep_errors=True)
    with checkout.script() as script:
        published = PublishedSide(script, plan.built.method, items)
        for side in (published, ours):
            side.warm_up(items[0])
        take_turns((published, ours), images)
    yield published, ours
    ours.close()


def check_agreement(checkout: Checkout) -> None:
    for published, ours in both_sides(checkout, images=2):
        assert published.answers.keys() == ours.answers.keys()
        for name, theirs in published.answers.items():
            assert theirs.prediction == ours.answers[name].prediction
            # 10 classes on 5 draws, the best 3 of them on 5 more
            assert theirs.evaluations == ours.answers[name].evaluations == 65
            assert difference(theirs.errors, ours.answers[name].errors) < 1e-5
            assert max(map(len, theirs.errors.values())) == 10
        assert len(published.laps) == len(ours.laps) == 2
        assert all(lap.seconds > 0 for lap in (*published.laps, *ours.laps))


@pytest.mark.slow
def test_both_sides_compute_the_same_errors_and_predictions(fake: Checkout) -> None:
    check_agreement(fake)


@pytest.mark.slow
@pytest.mark.skipif(
    CHECKOUT is None,
    reason="DIFFCLS_PUBLISHED_CHECKOUT does not name a checkout of the published repository",
)
def test_the_published_script_computes_the_same_errors_and_predictions() -> None:
    check_agreement(Checkout(Path(CHECKOUT or "").resolve()))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_perfect_network_predicts_the_noise_whatever_it_was_trained_for(kind: str) -> None:
    x0, noise = torch.randn(2, 3, 4, 4, 4).unbind(0)
    squared = torch.linspace(0.99, 0.01, 1000)
    times = torch.tensor([10, 500, 990])
    alpha, sigma = (v[times].sqrt().view(-1, 1, 1, 1) for v in (squared, 1 - squared))
    output = noise if kind == "epsilon" else alpha * noise - sigma * x0

    def unet(*_: Any, **__: Any) -> Any:
        return SimpleNamespace(sample=output)

    config = SimpleNamespace(prediction_type=kind)
    network = NoisePrediction(unet, SimpleNamespace(config=config, alphas_cumprod=squared))
    out = network(alpha * x0 + sigma * noise, times, encoder_hidden_states=None).sample
    assert torch.allclose(out, noise, atol=1e-5)
    # what the script does not do itself is not counted as its time
    assert (network.spent.seconds > 0) == (kind == "v_prediction")
    config.prediction_type = "sample"
    with pytest.raises(ModelError, match="sample"):
        NoisePrediction(unet, SimpleNamespace(config=config, alphas_cumprod=squared))


def test_order_is_reversed_from_turn_to_turn() -> None:
    order: list[str] = []
    sides: Any = [SimpleNamespace(turn=lambda name=name: order.append(name)) for name in "abc"]
    take_turns(sides, 3)
    assert "".join(order) == "abccbaabc"


def test_ratio_is_that_of_the_sums_and_lies_in_its_interval() -> None:
    # a busy moment that hits both sides of a turn leaves the ratio as it is
    assert ratio(np.array([[10.0, 30.0, 20.0], [1.0, 3.0, 2.0]])) == pytest.approx((10, 10, 10))
    seconds = np.array([[10.0, 10.0, 10.0, 10.0], [1.0, 2.0, 1.0, 1.0]])
    times, low, high = ratio(seconds)
    assert times == 8 and 5 <= low < times < high <= 10


def test_errors_are_compared_on_the_draws_of_both_sides() -> None:
    one = {0: np.array([1.0, 2.0, 3.0]), 1: np.array([5.0])}
    assert difference(one, {0: np.array([1.0, 2.0]), 1: np.array([5.0])}) == 0
    assert difference(one, {0: np.array([1.0, 2.5]), 1: np.array([5.0])}) == 0.25  # relative to 2
    assert difference(one, {0: np.array([1.0, np.nan])}) == np.inf
    assert difference(one, {}) == np.inf


def side(answers: dict[str, tuple[int, int]], laps: list[float], per_turn: int = 1) -> Any:
    return SimpleNamespace(
        answers={name: Answer(*answer) for name, answer in answers.items()},
        laps=[Lap(seconds, seconds / 2) for seconds in laps],
        images_per_turn=per_turn,
    )


def measured_row(target: float = 8) -> dict[str, Any]:
    published = side({"a": (1, 100), "b": (0, 100)}, [20.0, 20.0])
    ours = side({"a": (1, 4), "b": (2, 6), "c": (2, 4), "d": (3, 6)}, [4.0, 6.0], per_turn=2)
    labels = {"a": 1, "b": 2, "c": 2, "d": 0}
    row = row_of(Comparison("digits", "racing", target, 2), published, ours, labels)
    return {"classes": 10, **row}


def test_row_has_seconds_per_image_and_the_agreement_on_the_images_of_both() -> None:
    row = measured_row()
    assert tuple(row) == ("classes", *[name for name in COLUMNS if name != "classes"])
    assert (row["published_seconds_per_image"], row["seconds_per_image"]) == (20, 2.5)
    assert (row["published_evaluations_per_image"], row["evaluations_per_image"]) == (100, 5)
    assert row["times"] == row["cpu_times"] == 8 and row["ci_low"] <= 8 <= row["ci_high"]
    assert row["core_share"] == 0.5
    assert (row["same_predictions"], row["compared"], row["accuracy"]) == (1, 2, 0.75)
    assert row["largest_difference"] is None  # the searches evaluate different pairs


def test_page_says_which_targets_are_met(tmp_path: Path) -> None:
    published_speed.record_environment(tmp_path, "published_speed", published="0123")
    rows = [measured_row(target) for target in (7, 8, 9, 11)]
    for row in rows:
        row.update(ci_low=7.5, ci_high=10, core_share=0.95)
    write_page(rows, tmp_path)
    page = (tmp_path / "PUBLISHED_SPEED.md").read_text(encoding="utf-8")
    assert "8.00 times faster, target 7: met." in page
    assert "8.00 times faster, target 8: met, but the interval reaches below it." in page
    assert "8.00 times faster, target 9: missed, but within the interval." in page
    assert "8.00 times faster, target 11: missed." in page
    assert "busy" not in page
    rows[3]["core_share"] = 0.5
    write_page(rows, tmp_path)
    page = (tmp_path / "PUBLISHED_SPEED.md").read_text(encoding="utf-8")
    assert "**The machine was busy**: the process received 50% of a core at worst." in page


def test_interrupted_benchmark_resumes_with_its_finished_data_sets(
    fake: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(_: Checkout, comparisons: Any, *__: Any) -> list[dict[str, Any]]:
        measured.append(comparisons[0].dataset)
        if measured == ["digits", "fashion_mnist"]:
            raise KeyboardInterrupt
        row = {**measured_row(), "dataset": comparisons[0].dataset}
        return [{**row, "search": one.search} for one in comparisons]

    monkeypatch.setattr(published_speed, "measure", measure)
    line = ["--checkout", str(fake.root), "--output-dir", str(tmp_path)]
    assert published_speed.main(line) == 130
    assert (tmp_path / published_speed.UNFINISHED).exists()
    assert published_speed.main(line) == 0
    datasets = list(dict.fromkeys(c.dataset for c in published_speed.COMPARISONS))
    assert measured == ["digits", *datasets[1:2], *datasets[1:]]
    assert not (tmp_path / published_speed.UNFINISHED).exists()
    rows = read_rows(tmp_path / published_speed.TABLE)
    assert list(dict.fromkeys(row["dataset"] for row in rows)) == datasets
    # one data set again: the rows of the others stay
    assert published_speed.main([*line, "--only", "cifar10"]) == 0
    assert measured[-1] == "cifar10" and read_rows(tmp_path / published_speed.TABLE) == rows


def test_rows_of_other_settings_are_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    Unfinished(path, {"images": 8}).add("digits", [{"times": 2.0}])
    assert Unfinished(path, {"images": 8}).rows == {"digits": [{"times": 2.0}]}
    assert Unfinished(path, {"images": 9}).rows == {}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--checkout is required"),
        (["--checkout", "."], "is no checkout"),
        (["--images", "1", "--checkout", "FAKE"], "--images out of range"),
    ],
)
def test_impossible_input_is_refused(
    more: list[str],
    message: str,
    fake: Checkout,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = [str(fake.root) if part == "FAKE" else part for part in more]
    assert published_speed.main([*line, "--output-dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
