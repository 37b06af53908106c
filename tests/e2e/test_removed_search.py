"""Runs of a search that this version no longer has: read by all commands, and not run again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import diffcls
from diffcls import compare, evaluate, list, replay, report
from diffcls.search import SEARCHES


@pytest.fixture(scope="module")
def written(
    tiny_pipeline: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """An output folder, and the fingerprints of its two runs by search: tree, and racing."""
    out = tmp_path_factory.mktemp("removed")
    fingerprints = {}
    with pytest.MonkeyPatch.context() as patch:
        # as in the version that had it; what it computed is of no matter to a reader
        patch.setitem(SEARCHES._places, "tree", SEARCHES["gradient"])
        for search in ("tree", "racing"):
            (row,) = diffcls.run_evaluation(
                model=str(tiny_pipeline("v_prediction")),
                output_dir=str(out),
                search=search,
                draws=2,
                limit=6,
                check_model=False,
                quiet=True,
                save_errors=str(out / "tables" / search),
            )
            fingerprints[search] = row["fingerprint"]
    assert "tree" not in SEARCHES
    return out, fingerprints


@pytest.mark.slow
def test_its_runs_are_listed_compared_and_reported(
    written: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, fingerprints = written
    where = ["--output-dir", str(out)]
    assert list.main(["runs", "--json", *where]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["search"]: row["fingerprint"] for row in rows} == fingerprints
    assert compare.main(["search=tree", "search=racing", "--json", *where]) == 0
    assert fingerprints["tree"] in capsys.readouterr().out
    # with its tables, and where it would be scored once more
    for more in ([], ["--rescore", "2"], ["--errors", str(out / "tables" / "tree")]):
        assert report.main(["--csv", *more, *where]) == 0
    assert fingerprints["tree"] in (out / "report.html").read_text(encoding="utf-8")


def test_its_row_stays_beside_those_of_later_runs(
    written: tuple[Path, dict[str, str]], tiny_pipeline: Callable[[str], Path]
) -> None:
    out, fingerprints = written
    more = {"search": "exhaustive", "draws": 1, "limit": 6, "check_model": False, "quiet": True}
    diffcls.run_evaluation(model=str(tiny_pipeline("v_prediction")), output_dir=str(out), **more)
    with open(out / "leaderboard.csv", encoding="utf-8", newline="") as file:
        found = {row["fingerprint"]: row["search"] for row in csv.DictReader(file)}
    assert found[fingerprints["tree"]] == "tree" and "exhaustive" in found.values()


def test_it_is_refused_with_what_to_use_instead(
    written: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = written
    tables = str(out / "tables" / "tree")
    for main, arguments in (
        (evaluate.main, ["--search", "tree", "--output-dir", str(out)]),
        (replay.main, [tables, "--vote", "rank"]),
        (replay.main, [tables, "--search", "tree"]),
    ):
        assert main(arguments) == 2
        message = capsys.readouterr().err
        assert "this search was removed: 'tree'; allowed: racing," in message
        assert "choose --search learned" in message
