"""Cost of a run, and its fit to a time budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diffcls.classifiers.diffusion import DiffusionMethod
from diffcls.evaluate import parser
from diffcls.evaluation import cost
from diffcls.evaluation.run import run_evaluation
from diffcls.reports.run_inventory import runs
from diffcls.support.errors import RecordError, UsageError

BATCH_SECONDS, ROWS = 0.5, 64


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that takes half a second for a batch of 64."""
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: BATCH_SECONDS)


def dry(**options: Any) -> dict[str, Any]:
    (row,) = run_evaluation(**{"dry_run": True, "limit": 100, "batch_size": ROWS, **options})
    return row


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800), (" 1H2M3S ", 3723)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert cost.read_time(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 hours", "h", "0m", "-1h", "1m2h", "1.2.3h"])
def test_text_that_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--budget cannot be read.*1h30m"):
        cost.read_time(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (9000, "2.5 h")],
)
def test_times_are_described(seconds: float, text: str) -> None:
    assert cost.describe_time(seconds) == text


def test_cost_is_batches_times_their_time() -> None:
    row = dry(search="exhaustive", draws=7)
    assert row["images"] == 100 and row["evaluations_per_image_at_most"] == 70
    assert row["seconds_at_most"] == -(-7000 // ROWS) * BATCH_SECONDS


def test_a_batch_that_is_halved_while_it_is_timed_counts_as_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def halve(method: DiffusionMethod) -> float:
        method.batch_size = ROWS // 2
        return BATCH_SECONDS

    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", halve)
    row = dry(search="exhaustive", draws=7)
    assert row["seconds_at_most"] == -(-7000 // (ROWS // 2)) * BATCH_SECONDS


def test_sufficient_budget_changes_nothing() -> None:
    for options in ({}, {"search": "paper"}, {"search": "halving"}):
        assert dry(budget="99h", **options)["fingerprint"] == dry(**options)["fingerprint"]


@pytest.mark.parametrize("search", ["racing", "exhaustive", "halving"])
def test_short_budget_reduces_draws_first(search: str) -> None:
    whole, fitted = dry(search=search), dry(search=search, budget="60s")
    assert fitted["images"] == 100  # 60 s are 7,680 evaluations, 76 per image
    assert whole["evaluations_per_image_at_most"] > 76
    assert 50 <= fitted["evaluations_per_image_at_most"] <= 76
    assert fitted["seconds_at_most"] <= 60


@pytest.mark.parametrize("search", ["racing", "exhaustive", "paper"])
def test_shorter_budget_reduces_images_too(search: str) -> None:
    fitted = dry(search=search, budget="30s")  # 3,840 evaluations
    assert fitted["images"] == 3840 // fitted["evaluations_per_image_at_most"] < 100
    assert fitted["seconds_at_most"] <= 30
    if search == "paper":
        assert fitted["evaluations_per_image_at_most"] == 2750
    else:
        assert fitted["evaluations_per_image_at_most"] == cost.MIN_DRAWS_PER_CLASS * 10
    # a stratified sample, the one that --limit takes
    (limited,) = run_evaluation(dry_run=True, limit=fitted["images"], search=search)
    assert limited["spec"]["subset"] == fitted["spec"]["subset"]


def test_budget_too_short_for_one_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"too short for one image: '1s'; allowed: .* or more"):
        dry(search="paper", budget="1s")


def evaluate(folder: Path, **changes: Any) -> dict[str, Any]:
    options = {"limit": 12, "search": "exhaustive", "budget": "8s", "quiet": True, **changes}
    (row,) = run_evaluation(output_dir=str(folder), batch_size=ROWS, **options)
    return row


@pytest.mark.slow
def test_same_command_resumes_with_the_stored_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(tmp_path)
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 7 * BATCH_SECONDS)
    assert evaluate(tmp_path)["fingerprint"] == first["fingerprint"]
    assert evaluate(tmp_path / "new")["fingerprint"] != first["fingerprint"]
    assert first["n_scored"] == 12 and first["evaluations_per_image"] < 100


@pytest.mark.slow
def test_damaged_fit_is_reported(tmp_path: Path) -> None:
    evaluate(tmp_path)
    (path,) = tmp_path.rglob("budget-*.json")
    path.write_text('{"options": 3}')
    with pytest.raises(RecordError, match="stored fit to the budget cannot be read"):
        evaluate(tmp_path)


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    evaluate(tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_shards_share_the_stored_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate(tmp_path, shard="0/2")
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 3 * BATCH_SECONDS)
    assert evaluate(tmp_path, shard="1/2")["status"] == "complete"


@pytest.mark.parametrize(
    ("search", "budget"),
    [
        ("racing", "99h"),
        ("exhaustive", "30s"),
        ("paper", "30s"),
        ("racing", "15s"),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                *(("exhaustive", "99h"), ("paper", "99h"), ("racing", "30s")),
                *(("exhaustive", "15s"), ("paper", "15s")),
            )
        ),
    ],
)
def test_a_dry_run_names_the_flags_that_parts_on_other_machines_need(
    search: str, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"dry_run": True, "search": search, "batch_size": ROWS}
    (fitted,) = run_evaluation(**whole, budget=budget, shard="0/2", limit=100)
    flags = vars(parser().parse_args(fitted["fitted"].split()))
    has_all_images = budget == "99h" or (budget == "30s" and search != "paper")
    assert (flags["limit"] == 100) == has_all_images
    for shard, slower in (("0/2", 1), ("1/2", 3)):
        seconds = slower * BATCH_SECONDS
        monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self, s=seconds: s)
        (part,) = run_evaluation(**whole, **flags, shard=shard)
        assert part["fingerprint"] == fitted["fingerprint"] and "fitted" not in part


def test_images_that_no_limit_can_name_are_not_given_as_flags() -> None:
    row = dry(search="exhaustive", budget="15s", limit=None, subset="9-per-class")
    assert row["images"] < 90 and "fitted" not in row


def test_cost_is_reported_before_the_first_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(tmp_path, budget=None, draws=4, quiet=False)
    err = capsys.readouterr().err
    assert "12 images × 40 evaluations at most = 480: 4 s at most" in err
    assert "may take" not in err
    monkeypatch.setattr(DiffusionMethod, "seconds_per_batch", lambda self: 3600.0)
    evaluate(tmp_path / "slow", budget=None, draws=4, quiet=False)
    assert "this may take 8.0 h; to shorten it, use --limit, --budget 1h" in capsys.readouterr().err
    evaluate(tmp_path / "racing", budget=None, draws=4, quiet=False, search="racing")
    err = capsys.readouterr().err
    assert "this may take 8.0 h, less as far as racing stops early; to shorten it, use" in err
    assert "--search racing" not in err


@pytest.mark.parametrize("search", ["exhaustive", "paper", "gradient"])
def test_a_long_run_of_another_search_is_pointed_to_racing(search: str) -> None:
    assert "use --limit, --budget 1h or --search racing;" in str(cost.advice(3601.0, search))
    assert cost.advice(3600.0, search) is None


def test_racing_is_not_advised_where_the_search_is_racing_or_the_default() -> None:
    for search in ("racing", None):
        assert "--search" not in str(cost.advice(3601.0, search))


@pytest.mark.slow
def test_kept_options_describe_the_run_that_was_fitted_to_the_budget(tmp_path: Path) -> None:
    row = evaluate(tmp_path, budget="3s", limit=9)
    (path,) = tmp_path.glob("runs/*/run.json")
    kept = json.loads(path.read_text())["options"]
    assert row["n_asked"] < 9 and "budget" not in kept
    (again,) = run_evaluation(**kept, dry_run=True)
    assert again["fingerprint"] == row["fingerprint"] and again["images"] == row["n_asked"]
    assert [entry["status"] for entry in runs(tmp_path)] == ["complete"]
