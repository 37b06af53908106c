"""What SECURITY.md promises of tokens: none of them is kept in a file, or printed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from diffcls import list as inventory
from diffcls import merge, run_evaluation
from diffcls.scoring.class_scores import ClassScores

MARKER = "MarkerOfATestToken0123456789"
TOKEN = f"hf_{MARKER}"
SIGNED = f"https://user:{MARKER}@data.example/a.tar?X-Amz-Signature={MARKER}&part=1"

HIDDEN = "https://…@data.example/a.tar?X-Amz-Signature=…&part=1"


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A Hub that refuses everything, in words that repeat the request; and the tokens it got."""
    received: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            token = self.headers.get("Authorization", "")
            received.append(token)
            code = 401 if len(received) % 2 else 403
            self.send_response(code)
            body = f"no access with {token} to {self.path}".encode()
            self.send_header("X-Error-Message", body.decode())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()


def written(folder: Path) -> list[Path]:
    """Files below a folder that hold the marker in their content or their name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [p for p in files if MARKER in str(p) or MARKER.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dataset", "hf:owner/data", "--model", "digits"),
        pytest.param(("--model", "owner/model"), marks=pytest.mark.slow),
    ],
    ids=["data", "model"],
)
def test_token_that_the_hub_refuses_is_neither_printed_nor_written(
    arguments: tuple[str, ...], hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, received = hub
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "diffcls.evaluate", *arguments, "--limit", "2"],
        cwd=tmp_path,
        env={
            **kept,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert f"Bearer {TOKEN}" in received  # it was in use
    assert MARKER not in done.stdout + done.stderr
    assert written(tmp_path) == []


def test_token_is_in_no_file_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    out, merged = tmp_path / "out", tmp_path / "merged"
    (row,) = run_evaluation(
        limit=2,
        draws=2,
        threads=1,
        check_model=False,
        output_dir=str(out),
        command=f"python evaluation.py --source '{SIGNED}' --token {TOKEN}",
    )
    assert row["command"] == f"python evaluation.py --source '{HIDDEN}' --token …"
    assert merge.main([str(out), "--into", str(merged)]) == 0
    assert inventory.main(["runs", "--output-dir", str(merged), "--json"]) == 0
    assert MARKER not in str(row) + "".join(capsys.readouterr())
    assert len(list(tmp_path.rglob("records-*.jsonl"))) == 2 and written(tmp_path) == []


def test_error_of_an_image_is_recorded_without_the_signature_of_its_address() -> None:
    failed = ClassScores.failed("test/0", f"403 for '{SIGNED}'")
    assert failed.error == f"403 for '{HIDDEN}'"
