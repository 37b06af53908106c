"""Completion scripts: the names that a shell offers are those that a command accepts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffcls import __main__ as console_script
from diffcls.__main__ import COMMANDS
from diffcls.classifiers import METHODS
from diffcls.data.catalog import SPECS
from diffcls.models.loading import bundled
from diffcls.search import SEARCHES

pytest.importorskip("shtab")


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert console_script.main(["--print-completion", shell]) == 0
    return capsys.readouterr().out


def offered(folder: Path, *words: str) -> set[str]:
    """What bash offers for the last word."""
    ask = 'source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _shtab_diffcls; '
    ask += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "-c", ask, "bash", "diffcls", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_offers_commands_flags_and_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script").write_text(script("bash", capsys))
    (tmp_path / "prompts.csv").touch()
    assert offered(tmp_path, "") >= {*COMMANDS}
    assert offered(tmp_path, "ev") == {"evaluate"}
    assert offered(tmp_path, "evaluate", "--data") == {"--dataset", "--data-root"}
    assert {*SPECS} <= offered(tmp_path, "evaluate", "--dataset", "")
    assert offered(tmp_path, "evaluate", "--dataset", "digits", "pe") == {"pets"}
    assert {*bundled()} <= offered(tmp_path, "evaluate", "--model", "")
    assert offered(tmp_path, "evaluate", "--search", "") == {*SEARCHES}
    assert {*METHODS} <= offered(tmp_path, "evaluate", "--method", "")
    assert offered(tmp_path, "generate", "--sampler", "dd") >= {"ddim"}
    assert offered(tmp_path, "evaluate", "--prompts", "pr") == {"prompts.csv"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_read_the_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = script(shell, capsys)
    assert "scenes/attributes" in text and "racing" in text and "evaluate" in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_a_mistyped_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert console_script.main(["--print-completion", "zhs"]) == 2
    assert "allowed: bash, zsh, tcsh; did you mean 'zsh'?" in capsys.readouterr().err
    assert console_script.main(["--print-completion"]) == 2
    assert "takes one shell" in capsys.readouterr().err


def test_without_shtab_the_message_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert console_script.main(["--print-completion", "bash"]) == 2
    assert 'pip install "diffcls[completion]"' in capsys.readouterr().err


def test_printing_a_script_changes_no_parser(capsys: pytest.CaptureFixture[str]) -> None:
    script("bash", capsys)
    from diffcls import evaluate

    # names of the script are no choices of the command, which takes paths as well
    flags = evaluate.parser().parse_args(["--dataset", "folder:photos", "--model", "my/model"])
    assert (flags.dataset, flags.model) == ("folder:photos", "my/model")
