"""Table of faults in ``docs/reliability.md``: up to date, and of faults that were survived."""

from __future__ import annotations

import ast
from pathlib import Path

from tools import document_reliability as generator

FAULTS = Path(__file__).parents[1] / "faults"


def test_the_table_is_up_to_date() -> None:
    text = generator.FILE.read_text(encoding="utf-8")
    assert text == generator.written(text, generator.read()), (
        "run `python -m tools.document_reliability`"
    )


def test_nothing_is_lost_or_doubled() -> None:
    rows = generator.read()
    assert len(rows) > 15
    for row in rows:
        assert row["records_lost"] in ("", "0") and row["records_doubled"] in ("", "0")
        assert row["survived"] == row["injected"]


def test_every_row_is_of_a_fault_that_a_test_injects() -> None:
    sources = [path.read_text(encoding="utf-8") for path in FAULTS.glob("test_*.py")]
    texts = {
        node.value
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for row in generator.rows_of(generator.FIGURES):
        fault = row["fault"].replace("429", "").replace("503", "")
        assert fault in texts or row["fault"] in texts, row["fault"]


def test_a_long_run_states_memory_and_handles_at_its_first_and_last_point() -> None:
    points = [
        {"model": "m", "mode": "serial", "images": "20000", "done": done, "memory_mib": memory}
        for done, memory in (("1000", "500.4"), ("9000", "777"), ("20000", "1500.6"))
    ]
    (row,) = generator.long_runs([{**point, "handles": "31"} for point in points])
    assert row["fault"] == "20,000 images in one run" and row["victim"] == "serial, m model"
    assert generator.figure(row) == (
        "500 MiB and 31 handles at image 1,000, 1,501 MiB and 31 handles at image 20,000"
    )
