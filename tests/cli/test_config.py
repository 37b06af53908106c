"""``--config FILE``: the options of a file are those of flags, and flags win."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from diffcls import evaluate
from diffcls.__main__ import COMMANDS
from diffcls.support.errors import UsageError


def parse(folder: Path, text: str, *flags: str, suffix: str = ".yaml") -> dict[str, Any]:
    path = folder / f"run{suffix}"
    path.write_text(text, encoding="utf-8")
    return vars(evaluate.parser().parse_args([*flags, "--config", str(path)]))


def test_a_file_gives_what_the_flags_of_its_lines_give(tmp_path: Path) -> None:
    text = """\
dataset: [digits, scenes/pairs]
seed: [0, 1]
method: clip
limit: 0012
batch_size: auto
image-column: "on"
stages: [50:5, 500:1]
confidence: .5
check_model: no
quiet: on
json: off
"""
    flags = "--dataset digits scenes/pairs --seed 0 1 --method clip --limit 12 --batch-size auto "
    flags += "--image-column on --stages 50:5 500:1 --confidence .5 --no-check-model --quiet"
    expected = vars(evaluate.parser().parse_args(flags.split()))
    assert parse(tmp_path, text) == expected
    toml = """\
dataset = ["digits", "scenes/pairs"]
seed = [0, 1]
method = "clip"
limit = 12
batch_size = "auto"
image-column = "on"
stages = ["50:5", "500:1"]
confidence = 0.5
check_model = false
quiet = true
"""
    assert parse(tmp_path, toml, suffix=".toml") == expected


@pytest.mark.parametrize(
    ("flags", "value"),
    [
        (["--limit", "7"], {"limit": 7}),
        (["--limit=7"], {"limit": 7}),
        (["-b", "8"], {"limit": 5, "batch_size": 8}),
        (["-b8"], {"limit": 5, "batch_size": 8}),
        (["--check-model"], {"limit": 5, "check_model": True}),
        (["--prompt_path", "p.csv"], {"limit": 5, "prompts": "p.csv"}),
    ],
)
def test_flags_win(tmp_path: Path, flags: list[str], value: dict[str, Any]) -> None:
    text = "limit: 5\nbatch-size: 3\ncheck_model: false\nprompts: other.csv\n"
    options = {"limit": 5, "batch_size": 3, "check_model": False, "prompts": "other.csv"}
    assert parse(tmp_path, text, *flags) == {**options, **value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limt: 5", "unknown key: 'limt'; did you mean 'limit'"),
        ("--limit: 5", "unknown key: '--limit'; did you mean 'limit'"),
        ("config: other.yaml", "unknown key: 'config'"),
        ("help: true", "unknown key: 'help'"),
        ("no-check-model: true", "unknown key: 'no-check-model'; did you mean 'check-model'"),
        ("batch_size: 5\nbatch-size: 6", "names an option twice: 'batch_size, batch-size'"),
        ("prompts: a\nprompt_path: b", "names an option twice"),
        ("limit: 1_000", "--limit: not a whole number: '1_000'"),
        ("limit: 5.0", "--limit: not a whole number: '5.0'"),
        ("limit: ٣", "--limit: not a whole number"),
        ("limit: yes", "limit is a boolean"),
        ("vote: on", "vote is a boolean, as on and yes are in YAML.*in quotes"),
        ('quiet: "yes"', "quiet is a switch: 'yes'; allowed: true or false"),
        ("limit: [1, 2]", "limit takes one value"),
        ("method: []", "method is empty"),
        ("method: [clip, '']", "--method is empty"),
        ('dataset: ""', "--dataset is empty"),
        ("template: ['--x']", "begins with a hyphen"),
        ('prompts: "a\\nb"', "--prompts holds the control character"),
    ],
)
def test_values_are_checked_as_those_of_flags(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(tmp_path, text)


@pytest.mark.parametrize("flags", [["--config"], ["--config="], ["--config", "--quiet"]])
def test_a_file_must_be_named(flags: list[str]) -> None:
    with pytest.raises(UsageError, match="--config"):
        evaluate.parser().parse_args(flags)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "--config is empty"),
        (" ", "--config is empty"),
        ("a\nb.yaml", "--config holds the control character"),
        ("\udcff.yaml", "--config is not valid UTF-8"),
        ("x" * 5000 + ".yaml", "--config holds a name of 5005 bytes"),
    ],
)
def test_a_path_that_can_be_none_is_refused_in_a_line(path: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        evaluate.parser().parse_args([f"--config={path}"])
    assert len(str(refused.value)) < 300


def test_two_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--config is given twice"):
        parse(tmp_path, "limit: 5", "--config", "other.yaml")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_reads_a_file(name: str, tmp_path: Path) -> None:
    parser = importlib.import_module(COMMANDS[name].partition(":")[0]).parser()
    file = tmp_path / "config.toml"
    file.write_text("nosuch_key = 1\n")
    with pytest.raises(UsageError, match=f"unknown key: 'nosuch_key'.*diffcls {name} --help"):
        parser.parse_args(["--config", str(file)])


def test_the_resolved_options_are_kept_with_the_run_and_change_no_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("method: reference\nreference: nearest-mean\nlimit: 4\nseed: 1\nquiet: true\n")
    out = str(tmp_path / "of-file")
    flags = ["--config", str(file), "--reference", "chance", "--output-dir", out, "--json"]
    assert evaluate.main(flags) == 0
    (row,) = json.loads(capsys.readouterr().out)
    (path,) = Path(out).glob("runs/*/run.json")
    kept = json.loads(path.read_text())["options"]
    expected = {"method": ["reference"], "reference": "chance", "limit": 4, "seed": 1}
    assert kept == {**expected, "output_dir": out}
    # as a configuration file, they describe the run once more
    again = tmp_path / "again.yaml"
    again.write_text(json.dumps({**kept, "output_dir": str(tmp_path / "of-kept")}))
    assert evaluate.main(["--config", str(again), "--quiet", "--json"]) == 0
    (same,) = json.loads(capsys.readouterr().out)
    assert same["fingerprint"] == row["fingerprint"] == path.parent.name
