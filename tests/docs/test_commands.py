"""Shell commands of the documents: each is run, or checked by its parser, with the reason.

A new command that no table names fails `test_every_command_is_run_or_has_a_reason`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.document_commands import (
    ROOT,
    SYNOPSIS,
    Block,
    Command,
    all_commands,
    blocks,
    check_values,
    commands,
    module_of,
    uncommented,
)

from diffcls import UsageError

RUN_IN_ORDER = ("docs/tutorial.md",)
"""Pages whose shell and Python blocks are run one after another in a fresh folder; slow."""

RUN = {
    "python -m benchmarks.run": "fast",
    "python -m diffcls.evaluate --dry-run --limit 3": "fast",
    "python -m diffcls.evaluate --limit 200 --budget 20s --shard 0/2 --dry-run": "slow",
    "python -m diffcls.list datasets": "fast",
    "python -m diffcls.generate --class 7 --count 8 --trajectory": "slow",
    "python -m diffcls.likelihood": "slow",
}
"""Commands that run as they are, in a fresh folder; evaluations on packaged data: see `DRY`."""

RUN_BLOCKS = {
    "docs/start.md": "python -m diffcls.evaluate --limit 50",
    "docs/cluster.md": "python -m diffcls.evaluate --limit 20 --draws 8 --shard 0/2",
    "docs/report.md": "python -m diffcls.evaluate --limit 20 --draws 10 --save-errors tables",
}
"""Page -> first command of a block that runs as a whole, in a fresh folder; slow."""

DRY = re.compile(
    r"python -m diffcls\.evaluate(?:(?: --dataset (?:digits|scenes[/:]\S+)(?: scenes/\S+)*)?"
    r"(?: --model digits scenes --seed 0 1 2)?(?: --reject)?"
    r"(?: --class-bias 400| --combine clip| --control canny"
    r"| --ensemble imagenet80 --aggregate rotate| --search learned.*| --threads 1 --shard [01]/2)?"
    r"| --split validation --search exhaustive .*)"
)
"""Evaluations on packaged data, of minutes: run with ``--dry-run``, which loads and times them."""

REASONS = {
    "installs packages": r"pip install .*|python -m venv .*|source .*",
    "is run by .ci/run or a developer": r"(?:FAULTS_REPORT=\S+ )?tox( .*)?"
    r"|python -m tools\.document_reliability",
    "needs the Hub": r"hf download .*|.* (?:--dataset pets|--model (?:sd2-base|sdxl)|--backbone) .*"
    r"|.*--dataset pets|.*--backbone .*|.* --dataset imagenet --streaming .*",
    "takes minutes to hours, and has no dry run": r"python -m diffcls\.evaluate .* --multi-label"
    r"|python -m diffcls\.train .*"
    r"|python -m benchmarks\.run leaderboard|python -m diffcls\.fidelity --guidance 1 2 4"
    r"|python -m diffcls\.evaluate --dataset scenes/held-out --method diffusion clip .*",
    "needs the reader's own files": r".* (?:folder:photos|photo\.jpg|digit\.png|one\.png|photos) .*"
    r"|.* '?webdataset:.*|.* canny:photo\.jpg"
    r"|.* --data-root data.*|python -m diffcls\.checkpoints .*|.* PATH/.*|python eval_prob.*",
    "needs runs of the reader": r"python -m diffcls\.(?:compare|report|replay) .*"
    r"|python -m diffcls\.(?:report|list runs .*)",
    "serves until it is stopped": r"python -m diffcls\.demo.*|tensorboard .*",
    "needs a GPU, or minutes without one": r"python -m benchmarks\.run gpu .*",
    "needs several GPUs, or a cluster": r"(?:torchrun|srun|sbatch|job=\$\(sbatch|kubectl|ray) .*"
    r"|head=\$\(scontrol .*",
    "needs Ray": r".* --executor ray .*",
    "is run by tests/docs/test_cluster.py": r".* --output-dir node-[01]"
    r"|python -m diffcls\.merge .*",
    "needs trackers, some of them with an account": r".* --log-to .*",
    "changes the reader's shell": r"diffcls --print-completion .*",
    "is a synopsis": SYNOPSIS.pattern,  # its place holders do not parse
}
"""Why a command is not run -> pattern of such commands. They are parsed, with all their values."""


def reasons(command: Command) -> list[str]:
    """Reasons not to run a command."""
    if SYNOPSIS.search(command.text):
        return ["is a synopsis"]
    return [why for why, pattern in REASONS.items() if re.fullmatch(pattern, command.text)]


def treatments(command: Command) -> list[str]:
    """Ways in which a command is tested; the first one that applies counts."""
    if command.page in RUN_IN_ORDER:
        return ["run in order"]
    if command in IN_RUN_BLOCKS:
        return ["slow block"]
    if command.text in RUN:
        return [RUN[command.text]]
    if DRY.fullmatch(command.text):
        return ["dry"]
    return reasons(command)


COMMANDS = all_commands()
FIRST_OF_BLOCKS = [c for c in COMMANDS if RUN_BLOCKS.get(c.page) == c.text]
IN_RUN_BLOCKS = {
    c for c in COMMANDS for one in FIRST_OF_BLOCKS if (c.page, c.line) == (one.page, one.line)
}


def name_of(command: Command) -> str:
    return f"{command.page}:{command.line} {command.text}"


def unique(*wanted: str) -> list[Command]:
    """Commands of these treatments, each text once."""
    chosen = {c.text: c for c in reversed(COMMANDS) if (treatments(c) or [""])[0] in wanted}
    return list(chosen.values())


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A shell command in a folder, by this interpreter, without a network."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    begun = time.perf_counter()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'python() {{ "{sys.executable}" "$@"; }}\n{text}'],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": python_path, **offline},
        capture_output=True,
        text=True,
    )
    print(f"{time.perf_counter() - begun:6.1f} s  {text}")
    return done


def test_comments_and_continued_lines_are_understood() -> None:
    source = 'a --b "c # d" \\\n  --e f#g  # why\n\ncd x && ls\n# only a comment\n'
    texts = [one.text for one in commands(Block("p.md", 1, "bash", source))]
    assert texts == ['a --b "c # d" --e f#g', "cd x", "ls"]
    assert uncommented("a 'b # c' # d") == "a 'b # c' "


def test_commands_are_found_in_all_folders_of_pages() -> None:
    found = Counter(command.page for command in COMMANDS)
    assert {"README.md", "CONTRIBUTING.md", "docs/runs.md", "benchmarks/REPRODUCE.md"} <= set(found)
    assert sum(found.values()) > 60


def test_every_command_is_run_or_has_a_reason() -> None:
    left = [name_of(command) for command in COMMANDS if not treatments(command)]
    assert not left, "run these in RUN, or give a reason in REASONS"


def test_no_row_of_the_tables_is_left_over() -> None:
    texts = {command.text for command in COMMANDS}
    assert set(RUN) <= texts
    assert len(FIRST_OF_BLOCKS) == len(RUN_BLOCKS)
    assert set(RUN_IN_ORDER) <= {command.page for command in COMMANDS}
    assert set(REASONS) <= {why for command in COMMANDS for why in reasons(command)}


def test_a_wrong_value_is_found() -> None:
    check_values("evaluate", ["--dataset", "digits", "--limit", "5"])
    for wrong in (["--dataset", "digitz"], ["--limit", "0"], ["--serch", "racing"]):
        with pytest.raises(UsageError):
            check_values("evaluate", wrong)


@pytest.mark.parametrize("command", COMMANDS, ids=name_of)
def test_flags_and_values_of_a_command_are_accepted(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, arguments = module_of(command.text)
    package, _, name = module.partition(".")
    if package == "tools":
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").is_file()
    if SYNOPSIS.search(command.text) or package not in ("diffcls", "benchmarks"):
        return
    pytest.importorskip("torch")
    for tracker in {"wandb", "mlflow"} & set(arguments):
        pytest.importorskip(tracker)
    monkeypatch.chdir(tmp_path)
    if package == "diffcls":
        make_files(arguments, tmp_path)
        check_values(name, arguments)
    elif arguments:
        from benchmarks.core import registry

        entry = registry.find(arguments[0])
        if "--" in arguments:
            assert entry.accuracy
            flags = arguments[arguments.index("--") + 1 :]
            check_values("evaluate", ["--dataset", entry.name.removeprefix("published_"), *flags])


def make_files(arguments: list[str], folder: Path) -> None:
    """The images that a command names, as it refuses files that are missing."""
    from PIL import Image

    for name in arguments:
        if re.fullmatch(r"\w+\.(?:png|jpg)", name):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / name)


@pytest.mark.parametrize("command", unique("fast"), ids=name_of)
def test_a_fast_command_runs(command: Command, tmp_path: Path) -> None:
    done = run(command.text, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", unique("slow"), ids=name_of)
def test_a_slow_command_runs(command: Command, tmp_path: Path) -> None:
    done = run(command.text, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", FIRST_OF_BLOCKS, ids=name_of)
def test_a_block_runs_as_a_whole(first: Command, tmp_path: Path) -> None:
    for command in COMMANDS:
        if (command.page, command.line) == (first.page, first.line):
            done = run(command.text, tmp_path)
            assert done.returncode == 0, f"{command.text}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("command", unique("dry"), ids=name_of)
def test_an_evaluation_of_packaged_data_loads_and_states_its_cost(
    command: Command, tmp_path: Path
) -> None:
    done = run(f"{command.text} --dry-run", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.lstrip().startswith(("[", "{"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", RUN_IN_ORDER)
def test_the_blocks_of_a_page_run_in_order(page: str, tmp_path: Path) -> None:
    """A newcomer's walk: the folder is classified, the report written, wrong images listed.

    `pytest -s` shows the seconds of each block.
    """
    for block in blocks(ROOT / page):
        if block.language == "python":
            (tmp_path / "block.py").write_text(block.source, encoding="utf-8")
            done = run("python block.py", tmp_path)
            assert done.returncode == 0, f"line {block.line}: {done.stderr}"
            continue
        for command in commands(block):
            if re.fullmatch(REASONS["installs packages"], command.text):
                continue
            done = run(command.text, tmp_path)
            assert done.returncode == 0, f"line {block.line}: {command.text}\n{done.stderr}"
    results = tmp_path / "results"
    page_text = (results / "report.html").read_text(encoding="utf-8")
    assert page_text.lstrip().lower().startswith("<!doctype html")
    assert "my-images" in page_text
    header, *wrong = (results / "errors.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("image,label,answer,probability")
    assert wrong
    assert list((results / "evidence").glob("*.png"))
