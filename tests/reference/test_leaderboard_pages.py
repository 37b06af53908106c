"""The committed leaderboard, its page and README.md's table hold the same figures."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"


def tables(page: Path) -> Iterator[list[dict[str, str]]]:
    """The Markdown tables of a page, each a list of rows by column name."""
    lines: list[list[str]] = []
    for line in [*page.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("|"):
            lines.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if lines:
            header, _, *rows = lines
            yield [dict(zip(header, row, strict=True)) for row in rows]
        lines = []


def summary_of(page: Path) -> dict[str, dict[str, str]]:
    """The table with a column for each benchmark: its rows by method, cells without spaces."""
    for table in tables(page):
        rows = [{re.sub(r"/ ", "/", name): cell for name, cell in row.items()} for row in table]
        if rows and "scenes/held-out" in rows[0] and "method" in rows[0]:
            return {row.pop("method").split(" (")[0]: row for row in rows}
    raise AssertionError(f"{page} has no table of accuracies")


def measured() -> dict[str, dict[str, str]]:
    """Rows of leaderboard.csv that this project measured, by fingerprint."""
    with (REFERENCE / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return {r["fingerprint"]: r for r in csv.DictReader(file) if r["source"] == "measured"}


def page_rows() -> list[tuple[str, dict[str, str]]]:
    """(benchmark, row) of the tables of the page that name a fingerprint."""
    text = (REFERENCE / "LEADERBOARD.md").read_text(encoding="utf-8")
    names = re.findall(r"^### (\S+)$", text, flags=re.MULTILINE)
    detailed = [t for t in tables(REFERENCE / "LEADERBOARD.md") if "row" in t[0]]
    assert len(names) == len(detailed) == 8
    return [(name, row) for name, table in zip(names, detailed, strict=True) for row in table]


def test_the_readme_repeats_the_table_of_the_leaderboard_page() -> None:
    page, readme = summary_of(REFERENCE / "LEADERBOARD.md"), summary_of(ROOT / "README.md")
    assert len(readme) >= 5
    for method, cells in readme.items():
        assert cells == page[method], method


@pytest.mark.parametrize(("benchmark", "row"), page_rows())
def test_each_row_of_the_page_is_a_row_of_the_leaderboard(
    benchmark: str, row: dict[str, str]
) -> None:
    stored = measured()[row["row"].strip("`")]
    assert stored["dataset"] == benchmark
    assert stored["model"] == row["model"]
    assert stored["supervision"] == row["supervision"]
    assert row["accuracy"] == f"{100 * float(stored['accuracy']):.1f}%"
    low, high = (f"{100 * float(stored[key]):.1f}%" for key in ("ci_low", "ci_high"))
    assert row["95 % interval"] == f"{low} to {high}"
    assert row["evaluations per image"] == f"{float(stored['evaluations_per_image']):,.1f}"


def test_the_summary_of_the_page_holds_the_accuracies_of_its_rows() -> None:
    summary = summary_of(REFERENCE / "LEADERBOARD.md")
    cells = {(b, row["method"]): row["accuracy"].rstrip("%") for b, row in page_rows()}
    assert len(cells) == len(page_rows())
    for (benchmark, method), accuracy in cells.items():
        assert summary[method][benchmark].strip("*") == accuracy


def test_the_best_of_each_benchmark_is_bold_on_the_page() -> None:
    summary = summary_of(REFERENCE / "LEADERBOARD.md")
    for benchmark in summary["diffusion"]:
        column = {method: row[benchmark] for method, row in summary.items() if "*" not in method}
        numbers = {m: float(c.strip("*")) for m, c in column.items() if c.strip("*") != "–"}
        bold = {m for m, c in column.items() if c.startswith("**")}
        assert bold == {m for m, number in numbers.items() if number == max(numbers.values())}
