"""Damaged files of a run: the command names them in one line, and changes no file."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diffcls import evaluate
from diffcls.runs import leaderboard
from diffcls.runs.records import RecordStore
from diffcls.support.hashing import hash_json

Change = Callable[[dict[str, Any]], dict[str, Any]]


def files(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


@pytest.fixture(scope="module")
def model(tiny_pipeline: Callable[[str], Path]) -> list[str]:
    flags = ["--model", str(tiny_pipeline("v_prediction")), "--limit", "2", "--draws", "2"]
    return [*flags, "--no-check-model", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def finished(model: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Flags of a finished run, and its output folder."""
    out = tmp_path_factory.mktemp("finished")
    flags = [*model, "--output-dir", str(out)]
    assert evaluate.main(flags) == 0
    return flags, out


@pytest.fixture
def restored(finished: tuple[list[str], Path]) -> Iterator[tuple[list[str], Path]]:
    """The finished run; what a test damages is put back."""
    before = files(finished[1])
    yield finished
    for path, content in before.items():
        path.write_bytes(content)


def refusal(flags: list[str], capsys: pytest.CaptureFixture[str], status: int = 1) -> str:
    """The one line on stderr of a command that is refused."""
    capsys.readouterr()
    assert evaluate.main(flags) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("diffcls: ") and err.count("\n") == 1
    return err


# ---- run.json ----------------------------------------------------------------------------------

HEADERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "null": lambda header: "null",
    "deep": lambda header: "[" * 100_000,
    "a million threads": lambda header: json.dumps({**header, "threads": 10**6}),
    "no rows in a batch": lambda header: json.dumps({**header, "batch_size": 0}),
    "true threads": lambda header: json.dumps({**header, "threads": True}),
    "another seed": lambda header: json.dumps(
        {**header, "spec": {**header["spec"], "seed": header["spec"]["seed"] + 1}}
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_damaged_header_is_named(
    name: str, restored: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags, out = restored
    (path,) = out.glob("runs/*/run.json")
    path.write_text(HEADERS[name](json.loads(path.read_text(encoding="utf-8"))))
    before = files(out)
    err = refusal(flags, capsys)
    assert err.startswith("diffcls: the run's header") and str(path) in err
    assert files(out) == before


def test_batch_size_that_no_record_used_does_not_stay(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [*model, "--output-dir", str(tmp_path)]

    def no_memory(store: RecordStore, record: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(RecordStore, "append", no_memory)
        assert evaluate.main([*flags, "--batch-size", "512"]) == 1
    assert evaluate.main([*flags, "--batch-size", "8"]) == 0
    (path,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(path.read_text(encoding="utf-8"))["batch_size"] == 8


# ---- records -----------------------------------------------------------------------------------

FORGERIES: dict[str, Change] = {
    "label": lambda body: {"label": body["ranking"][-1]},
    "image of no data set": lambda body: {"image_id": "test/100000"},
    "other classes": lambda body: {"ranking": [0, 1], "scores": [0.0, -1.0], "label": 0},
    "another run": lambda body: {"fingerprint": "0" * 16},
    "seconds": lambda body: {"seconds": 1e300},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_record_is_not_believed(
    name: str, restored: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags, out = restored
    (path,) = out.glob("runs/*/records-0-of-1.jsonl")
    first, second = path.read_text(encoding="utf-8").splitlines(keepends=True)
    body = json.loads(second)
    del body["checksum"]
    body |= FORGERIES[name](body)
    line = json.dumps(
        {**body, "checksum": hash_json(body)}, ensure_ascii=False, separators=(",", ":")
    )
    path.write_text(first + line + "\n", encoding="utf-8")
    before = files(out)
    assert f"line 2 of {path} is damaged (" in refusal(flags, capsys)
    assert files(out) == before


class Full:
    """A file on a full disk: it takes ten bytes, then none."""

    closed = False

    def __init__(self, file: Any) -> None:
        self.file, self.left = file, 10

    def write(self, data: bytes) -> int:
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = data[: self.left]
        self.left -= len(part)
        return int(self.file.write(part))

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_is_reported_once_and_the_run_resumes(
    model: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [*model, "--output-dir", str(tmp_path)]
    begin = RecordStore.__init__

    def on_a_full_disk(store: RecordStore, *rest: Any) -> None:
        begin(store, *rest)
        store._file = Full(store._file)  # type: ignore[assignment]

    with monkeypatch.context() as patched:
        patched.setattr(RecordStore, "__init__", on_a_full_disk)
        err = refusal(flags, capsys)
    assert "cannot write a record (No space left on device)" in err
    assert evaluate.main(flags) == 0
    (path,) = tmp_path.glob("runs/*/records-0-of-1.jsonl")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2


# ---- leaderboard.csv ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra", ["crlf\r", "\udcff\udcfe", "two\nlines", "\x85\u2028\x1b[31m"], ids=ascii
)
def test_argument_with_control_characters_or_bytes_outside_utf_8_is_refused(
    extra: str, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    flags = [*model, "--output-dir", str(out), "--extra", extra]
    assert "--extra" in refusal(flags, capsys, status=2)
    assert not out.exists()


@pytest.mark.parametrize("extra", ['"quoted", and more', "a\u2028b", "=1+1;\\r"], ids=ascii)
def test_no_argument_ruins_the_leaderboard(
    extra: str, model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*model, "--output-dir", str(tmp_path)]
    assert evaluate.main([*flags, "--extra", extra]) == 0
    assert evaluate.main(flags) == 0  # the clean command of the same run
    assert evaluate.main([*flags, "--seed", "1"]) == 0
    path = tmp_path / "leaderboard.csv"
    rows = leaderboard.read(path)
    assert len(rows) == 2
    assert extra in rows[0]["command"] and "--extra" not in rows[1]["command"]
    with open(path, encoding="utf-8", newline="") as file:
        assert [row["seed"] for row in csv.DictReader(file, strict=True)] == ["0", "1"]


def test_run_that_kept_bytes_outside_utf_8_is_read(
    restored: tuple[list[str], Path],
) -> None:
    flags, out = restored
    (path,) = out.glob("runs/*/run.json")
    header = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**header, "command": "evaluate '\udcff'"}))  # as 0.2 wrote it
    assert evaluate.main(flags) == 0
    assert leaderboard.read(out / "leaderboard.csv")[0]["command"] == "evaluate '\\xff'"


# ---- shards ------------------------------------------------------------------------------------


def test_command_refuses_an_empty_rank_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "")
    assert evaluate.main(["--output-dir", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("diffcls: environment variable RANK") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_help_says_that_a_finished_shard_exits_with_0() -> None:
    assert "a shard that finished its part" in evaluate.parser().format_help()
