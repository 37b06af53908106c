"""The report of the fault suite: ``pytest tests/faults --faults-report=FILE.csv``.

A test that injects a fault hands its figures to the fixture `report`. The rows of the tests that
ran replace those of the same fault and victim in the file; the others stay. The option is written
with "=", or pytest would take the path of a file that exists for one of tests.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.fault_runs import Server, server

COLUMNS = (
    *("fault", "victim", "criterion", "injected", "survived", "records_lost", "records_doubled"),
    *("most_scored_again", "seconds", "figure"),
)
"""Columns of the report; `figure` is a text for what the others cannot say."""
ROWS = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-report", metavar="FILE", help="CSV file of the faults' figures")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Hand in the figures of a fault: ``report(fault, victim, criterion, **columns)``."""

    def hand_in(fault: str, victim: str, criterion: str, **columns: Any) -> None:
        assert set(columns) <= set(COLUMNS)
        one = {"fault": fault, "victim": victim, "criterion": criterion, **columns}
        record_property("fault", json.dumps(one))

    return hand_in


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report, in the process that collects all results."""
    path = session.config.getoption("--faults-report", None)
    if not path or hasattr(session.config, "workerinput"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    new = [
        json.loads(str(value))
        for result in reporter.stats.get("passed", ())
        for name, value in getattr(result, "user_properties", ())
        if name == "fault"
    ]
    write_report(Path(path), new)


def write_report(path: Path, new: list[dict[str, Any]]) -> None:
    """Replace the rows of the same fault and victim, and keep the order of the file."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            rows = {(one["fault"], one["victim"]): one for one in csv.DictReader(file)}
    rows |= {(one["fault"], one["victim"]): one for one in new}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def skip_without_proc() -> None:
    """Skip where the names of open files cannot be read, on which the file events depend."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("file events are read from the /proc of Linux")


@pytest.fixture(scope="session")
def proc() -> None:
    """Skip without /proc."""
    skip_without_proc()


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts runs in processes of their own."""
    skip_without_proc()
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture(scope="session")
def serving_beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same, for processes that run at the same time."""
    with server(tmp_path_factory.mktemp("server")) as one:
        yield one
