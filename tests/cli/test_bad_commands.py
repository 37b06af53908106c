"""Bad command lines: each is refused in a few lines, within seconds, and leaves nothing behind."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.bad_inputs import write_inputs
from helpers.command_lines import Line, faults_of, run_lines
from helpers.generated_lines import generated_lines

from diffcls.__main__ import COMMANDS

LINES = Path(__file__).with_name("bad_commands.jsonl")
"""Lines that people could type; ``{X*5000}`` stands for 5,000 times the letter."""
SAMPLED = 40
SECONDS = 3600
"""Time that the slow tests may take on a busy machine."""
NEED_MODEL = {"--model", "--init", "--lead", "--class", "--variance", "--device", "--lora"}
NEED_MODEL |= {
    "--loss-weighting",
    "--output-dir",
    "--save-errors",
    "--img-size",
    "--model-config",
    "--template",
    "--clip-model",
    "--guide-model",
    "--extractor",
}
"""Flags of which some values are known to be bad only when a model is there."""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "in"
    folder.mkdir()
    write_inputs(folder)
    return folder


def collected_lines() -> list[Line]:
    rows = map(json.loads, LINES.read_text(encoding="utf-8").splitlines())
    return [Line(row["command"], tuple(map(_long, row["arguments"]))) for row in rows]


def _long(argument: str) -> str:
    return re.sub(r"\{X\*(\d+)\}", lambda match: "x" * int(match[1]), argument)


def needs_model(line: Line) -> bool:
    """Whether a refusal may need files or a model: the fast test has none."""
    of_files = any("{IN}" in word or ":" in word for word in line.arguments)
    return of_files or line.arguments[-1].partition("=")[0] in NEED_MODEL


def test_sampled_bad_commands_are_refused_before_a_model_library_is_imported(
    tmp_path: Path,
) -> None:
    lines = [line for line in collected_lines() if not needs_model(line)]
    first = {line.command: line for line in reversed(lines)}  # of each command
    sampled = [*lines[:: len(lines) // SAMPLED], *first.values()]
    uncollected = {"replay", "checkpoints", "demo", "report", "merge", "learn_concept", "edit"}
    uncollected |= {"counterfactual"}
    assert {line.command for line in sampled} >= {*COMMANDS} - uncollected
    inputs = tmp_path / "in"
    inputs.mkdir()
    results = run_lines(sampled, tmp_path / "run", inputs, early=True)
    assert faults_of(results) == []
    assert [line for line, ended in results if not ended.is_early] == []


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_all_collected_bad_commands_are_refused(inputs: Path, tmp_path: Path) -> None:
    faults = faults_of(run_lines(collected_lines(), tmp_path / "run", inputs))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS)
def test_bad_values_of_every_flag_of_every_command_are_refused(
    inputs: Path, tmp_path: Path
) -> None:
    lines = generated_lines()
    assert len(lines) >= 1500
    faults = faults_of(run_lines(lines, tmp_path / "run", inputs))
    assert not faults, "\n".join(faults)
