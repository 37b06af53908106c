"""The audit: a vulnerability fails it, and an unreachable database is never an all-clear."""

from __future__ import annotations

import json
from typing import Any

from tools.audit import summary

SAFE = {"name": "numpy", "version": "2.1", "vulns": []}
UNKNOWN = {"name": "diffcls", "skip_reason": "Dependency not found on PyPI"}
HOLE: dict[str, Any] = {
    "name": "pillow",
    "version": "9.0",
    "vulns": [{"id": "CVE-2023-50447", "fix_versions": ["10.2.0"], "aliases": []}],
}


def result(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerability_is_named_and_fails() -> None:
    status, lines = summary(result(SAFE, HOLE, UNKNOWN), "Found 1 known vulnerability")
    assert status == 1
    assert lines[0] == "pillow 9.0: CVE-2023-50447, fixed in 10.2.0"
    assert lines[-1] == "1 known vulnerabilities in 2 packages"


def test_packages_that_were_not_checked_are_named() -> None:
    status, lines = summary(result(SAFE, UNKNOWN), "")
    assert status == 0
    assert lines == [
        "not checked, unknown to the database: diffcls",
        "0 known vulnerabilities in 1 packages",
    ]


def test_a_database_out_of_reach_is_no_fault_and_no_all_clear() -> None:
    for output, errors in (
        ("", "ERROR: Connection refused"),
        ("", ""),
        ("[]", ""),
        (result(UNKNOWN, UNKNOWN), "No known vulnerabilities found"),
    ):
        status, (line,) = summary(output, errors)
        assert status == 0 and line.startswith("nothing was checked: ")
