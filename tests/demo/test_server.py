"""The command and its server: options, a missing gradio, and what an address lets in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.demo_server import Watched, demo
from helpers.processes import default_interrupt

from diffcls.demo import __main__ as command
from diffcls.demo import main
from diffcls.demo.options import DemoOptions
from diffcls.demo.server import free_port
from diffcls.support.errors import UsageError

needs_gradio = pytest.mark.skipif(
    command.find_spec("gradio") is None, reason="needs gradio: pip install 'diffcls[demo]'"
)


@pytest.mark.parametrize("host", ["example.org", "nosuch", "127.0.0.1:80", "http://127.0.0.1", "*"])
def test_a_host_is_an_address(host: str) -> None:
    with pytest.raises(UsageError, match="--host is no address"):
        DemoOptions(host=host)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_addresses_are_this_machine_alone(host: str, local: bool) -> None:
    assert DemoOptions(host=host).is_local == local
    assert DemoOptions().is_local


def test_a_missing_gradio_is_one_line_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and 'pip install "diffcls[demo]"' in err


def test_wrong_values_are_refused_before_gradio_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: 1 / 0)
    for flags in ("--port 70000", "--rate 0", "--max-labels 1", "--host example.org", "--model="):
        assert main(flags.split()) == 2
        assert capsys.readouterr().err.count("\n") == 1


@needs_gradio
@pytest.mark.parametrize(
    "flags", ["--model nosuch", "--clip-model nosuch", "--device nosuch", "--dtype nosuch"]
)
def test_a_wrong_name_is_refused_before_anything_is_served(
    flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", "digits", "--port", "0", *flags.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "nosuch" in captured.err.splitlines()[-1]


def test_a_port_that_is_taken_is_refused_and_zero_is_any_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match=r"cannot be served on .*choose another --port"):
            free_port("127.0.0.1", taken.getsockname()[1])
    assert 0 < free_port("127.0.0.1", 0) < 65536
    with pytest.raises(UsageError, match="cannot be served on"):
        free_port("192.0.2.1", 0)  # of no network of this machine


# ---- served -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> Iterator[Watched]:
    with demo(max_upload_mb=1) as watched:
        yield watched


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(url, data, headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@needs_gradio
def test_the_page_is_served_and_names_no_other_host(served: Watched) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(served.url, timeout=10) as answer:
        page = answer.read().decode()
        policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "fonts.googleapis.com" not in page and "cdnjs" not in page
    assert "Nothing is kept" in page


@needs_gradio
@pytest.mark.parametrize(
    "path",
    [
        *("docs", "openapi.json", "gradio_api/info", "gradio_api/openapi.json", "monitoring"),
        *("gradio_api/proxy=http://127.0.0.1/", "gradio_api/runs", "svelte/index.js"),
    ],
)
def test_side_doors_are_closed(served: Watched, path: str) -> None:
    assert status(served.url + path) == 404


@needs_gradio
def test_no_file_of_the_machine_and_no_call_by_name(served: Watched) -> None:
    for path in ("/etc/passwd", str(Path(__file__)), "../../../etc/passwd"):
        assert status(f"{served.url}gradio_api/file={path}") in (403, 404)
    for call in ("call/ask", "run/ask", "api/ask", "run/predict"):
        assert status(f"{served.url}gradio_api/{call}", b"{}", **JSON) == 404


JSON = {"content-type": "application/json"}


@needs_gradio
def test_an_upload_beyond_the_limit_is_refused(served: Watched) -> None:
    body = b"--b\r\ncontent-disposition: form-data; name=files; filename=a.png\r\n\r\n"
    kind = {"content-type": "multipart/form-data; boundary=b"}
    url = f"{served.url}gradio_api/upload"
    assert status(url, body + b"x" * 1_050_000 + b"\r\n--b--\r\n", **kind) == 413
    assert status(url, body + b"x" * 900_000 + b"\r\n--b--\r\n", **kind) == 200


@needs_gradio
@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_command_leaves_no_file_behind(end: signal.Signals, code: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-m", "diffcls.demo", "--model", "digits", "--port", "0"]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        preexec_fn=default_interrupt,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line and "this machine alone" in line
        (folder,) = tmp_path.glob("diffcls-demo-*")
        assert list(folder.iterdir())
        process.send_signal(end)
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.poll() == code
    assert not list(tmp_path.glob("diffcls-demo-*"))
