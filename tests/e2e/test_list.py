"""Command ``python -m diffcls.list``."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.refusals import refusal
from helpers.stored_runs import write_run

import diffcls
from diffcls import list as command
from diffcls.__main__ import COMMANDS
from diffcls.data.catalog import SPECS
from diffcls.models.hub_names import MODELS
from diffcls.search import SEARCHES

HEAVY = {"torch", "torchvision", "diffusers", "transformers", "datasets", "open_clip"}
HEAVY |= {"pandas", "scipy", "sklearn", "accelerate"}
ANSWERS: dict[str, tuple[int, int | None]] = {"a": (0, 0), "b": (1, 2), "c": (2, 2), "d": (1, None)}


@pytest.mark.parametrize("kind", command.KINDS)
def test_no_list_imports_a_model_library(kind: str, tmp_path: Path) -> None:
    write_run(tmp_path, ANSWERS)
    arguments = [kind, *(("--output-dir", str(tmp_path)) if kind == "runs" else ())]
    code = (
        "import sys; from diffcls import list as command; "
        f"status = command.main({arguments!r}); "
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert len(done.stdout.splitlines()) > 2


@pytest.mark.parametrize(
    "words, names",
    [
        (("datasets", "dataset", "DATASETS"), SPECS),
        (("models", "model"), MODELS),
        (("searches", "search"), SEARCHES),
    ],
)
def test_singular_and_plural_list_every_name(
    words: tuple[str, ...], names: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = set()
    for word in words:
        assert command.main([word]) == 0
        outputs.add(capsys.readouterr().out)
    (text,) = outputs
    first = {line.split("  ")[0] for line in text.splitlines()}
    assert first >= set(names)
    assert command.main([words[0], "--json"]) == 0
    assert {entry["name"] for entry in json.loads(capsys.readouterr().out)} >= set(names)


def test_runs_are_listed_complete_partial_and_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = {
        "complete": write_run(tmp_path, ANSWERS),
        "partial": write_run(tmp_path, ANSWERS, seed=1, n_asked=9),
        "killed": write_run(tmp_path, ANSWERS, seed=2, has_row=False),
        "damaged header": write_run(tmp_path, ANSWERS, seed=3),
        "damaged record": write_run(tmp_path, ANSWERS, seed=4),
        "no records": write_run(tmp_path, ANSWERS, seed=5),
    }
    folders = {name: tmp_path / "runs" / fingerprint for name, fingerprint in runs.items()}
    (folders["damaged header"] / "run.json").write_text("{")
    record = folders["damaged record"] / "records-0-of-1.jsonl"
    record.write_text(record.read_text().replace('"label":1', '"label":2', 1))
    shutil.rmtree(folders["no records"])
    assert command.main(["runs", "--output-dir", str(tmp_path), "--json"]) == 0
    entries = {e["fingerprint"]: e for e in json.loads(capsys.readouterr().out)}
    assert entries.keys() == set(runs.values())
    shown = {name: entries[fingerprint]["status"] for name, fingerprint in runs.items()}
    assert shown == {
        "complete": "complete",
        "partial": "partial",
        "killed": "partial",
        "damaged header": "damaged",
        "damaged record": "damaged",
        "no records": "no records",
    }
    one = entries[runs["complete"]]
    assert (one["n_scored"], one["n_failed"], one["n_asked"]) == (3, 1, 4)
    assert one["accuracy"] == pytest.approx(2 / 3)
    assert entries[runs["killed"]]["n_asked"] is None
    assert command.main(["run", "--output-dir", str(tmp_path)]) == 0
    text, err = capsys.readouterr()
    assert all(fingerprint in text for fingerprint in runs.values())
    assert "3 of 4 (1 failed)" in text and "3 of 9" in text and "66.7 %" in text
    for name in ("damaged header", "damaged record"):
        assert f"diffcls: {runs[name]} is damaged: " in err
    assert "diffcls: runs without records: 1" in err
    assert err.count("\n") == 3
    assert "line 2 of" in err


def test_unknown_kinds_and_folders_are_refused_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean 'models'" in refusal(command.main, ["modles"], None, capsys)
    missing = tmp_path / "none"
    arguments = ["runs", "--output-dir", missing]
    assert "holds no runs" in refusal(command.main, arguments, missing, capsys)
    assert "remove --output-dir" in refusal(
        command.main, ["models", "--output-dir", missing], missing, capsys
    )


def test_the_command_named_as_a_builtin_shadows_nothing_in_the_package() -> None:
    # importing diffcls.list makes `list` a global of diffcls/__init__.py, and of no other file
    source = Path(diffcls.__file__).read_text(encoding="utf-8")
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert not names & {*COMMANDS}
    assert diffcls.list is command
