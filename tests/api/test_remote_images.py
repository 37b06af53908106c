"""Images of the web: bounds, redirects and private networks, without a network."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from diffcls.api import remote_images
from diffcls.api.image_openers import opener
from diffcls.api.remote_images import WebAccess, fetch, is_public
from diffcls.support.errors import DataError, UsageError

PUBLIC = "93.184.216.34"


class Handler(BaseHTTPRequestHandler):
    """A server of few answers, one per path."""

    def do_GET(self) -> None:
        path, _, argument = self.path.partition("?")
        if path == "/image":
            self.answer(200, b"content " + argument.encode())
        elif path == "/redirect":
            self.answer(302, b"", Location=argument)
        elif path == "/short":
            self.answer(200, b"half", length=10)
        elif path == "/claims":
            self.answer(200, b"", length=10**12)
        elif path == "/endless":
            self.send_response(200)
            self.end_headers()
            for _ in range(40):
                self.wfile.write(bytes(50_000))
        elif path == "/headers":  # one after another, each within the time-out of a socket
            self.send_response(200)
            self.flush_headers()
            for i in range(100):
                self.send_header(f"X-{i}", "x")
                with suppress(OSError):
                    self.flush_headers()
                if stop.wait(0.02):
                    return
        elif path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b".")
                self.wfile.flush()
                if stop.wait(0.02):
                    return
        else:
            self.answer(404, b"")

    def answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


stop = threading.Event()
HOSTS = {
    "images.example": [PUBLIC],
    "inside.example": ["10.0.0.7"],
    "both.example": [PUBLIC, "127.0.0.1"],
    "mapped.example": ["::ffff:169.254.169.254"],
}


@pytest.fixture(autouse=True)
def _web(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A web in which each public address is the server above."""
    stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    system = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if port == server.server_port:  # the connection to the server itself
            return system(host, port, *rest, **options)
        if host not in HOSTS:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise socket.gaierror(-2, "Name or service not known") from None
        return [(2, 1, 6, "", (text, port)) for text in HOSTS.get(host, [host])]

    def connect(address: Any, port: int, timeout: float) -> socket.socket:
        assert str(address) == PUBLIC, "only checked addresses are connected to"
        return socket.create_connection(("127.0.0.1", server.server_port), timeout)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(remote_images, "connect", connect)
    yield
    stop.set()
    server.shutdown()
    server.server_close()


def test_content_of_an_address_is_fetched_through_redirects() -> None:
    assert fetch("http://images.example/image?a=b") == b"content a=b"
    assert fetch("http://images.example/redirect?/image?x") == b"content x"
    there = "http://images.example:81/image?y"
    assert fetch(f"http://images.example/redirect?{there}") == b"content y"


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/image",
        "http://127.1/image",
        "http://[::1]/image",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://inside.example/image",
        "http://both.example/image",
        "http://mapped.example/image",
        "http://[::ffff:10.0.0.1]/",
        "http://user@10.1.2.3/",
        "https://192.168.0.1/",
    ],
)
@pytest.mark.parametrize("redirected", [False, True])
def test_private_networks_are_never_connected_to(address: str, redirected: bool) -> None:
    url = f"http://images.example/redirect?{address}" if redirected else address
    with pytest.raises(DataError, match=r"private network|cannot be fetched") as raised:
        fetch(url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "HTTP 404"),
        ("short", "cannot be fetched"),
        ("claims", "at most 50 MB"),
        (
            "redirect?/redirect?/redirect?/redirect?/redirect?/redirect?/image",
            "more than 5 redirects",
        ),
        ("redirect?ftp://images.example/image", "another scheme"),
        ("redirect?file:///etc/passwd", "another scheme"),
    ],
)
def test_failures_are_one_line_with_the_address(path: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        fetch(f"http://images.example/{path}")
    assert "\n" not in str(raised.value)


PRIVATE = WebAccess(allow_private_addresses=True)


def test_a_private_address_is_refused_with_the_way_to_allow_it() -> None:
    with pytest.raises(DataError, match=r"private network.*allow_private_addresses=True"):
        fetch("http://127.0.0.1/image")


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to, private ones included; all of them are the server."""
    addresses = []
    connect = remote_images.connect

    def record(address: remote_images.Address, port: int, timeout: float) -> socket.socket:
        addresses.append(str(address))
        return connect(ipaddress.ip_address(PUBLIC), port, timeout)

    monkeypatch.setattr(remote_images, "connect", record)
    return addresses


@pytest.mark.parametrize("through", ["", "http://inside.example/redirect?"])
def test_allowed_private_addresses_are_connected_to(through: str, reached: list[str]) -> None:
    assert fetch(f"{through}http://127.0.0.1/image?x", PRIVATE) == b"content x"
    assert reached == (["10.0.0.7", "127.0.0.1"] if through else ["127.0.0.1"])


@pytest.mark.parametrize("address", ["http://127.0.0.1/image", "http://inside.example/image"])
def test_a_public_host_cannot_redirect_into_a_private_network_that_is_allowed(
    address: str, reached: list[str]
) -> None:
    hop = f"http://images.example/redirect?{address}"
    for url in (hop, f"http://images.example/redirect?/redirect?{address}"):
        with pytest.raises(DataError, match="redirected into a private network"):
            fetch(url, PRIVATE)
    # nor may a private host pass on to a public one that leads back
    with pytest.raises(DataError, match="redirected into a private network"):
        fetch(f"http://inside.example/redirect?{hop}", PRIVATE)
    assert set(reached) == {PUBLIC, "10.0.0.7"} and reached.count("10.0.0.7") == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", True])
def test_time_outs_out_of_range_are_refused_with_their_value(timeout: object) -> None:
    with pytest.raises(UsageError, match="timeout out of range") as raised:
        WebAccess(timeout=timeout)  # type: ignore[arg-type]
    assert repr(timeout) in str(raised.value)
    with pytest.raises(UsageError, match="on or off: 'no'"):
        WebAccess(allow_private_addresses="no")  # type: ignore[arg-type]


def test_size_and_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_images, "MAX_BYTES", 1_000_000)
    with pytest.raises(DataError, match="at most 1 MB"):
        fetch("http://images.example/endless")
    with pytest.raises(DataError, match=r"within 0\.2 s"):
        fetch("http://images.example/slow", WebAccess(timeout=0.2))
    with pytest.raises(DataError, match=r"within 0\.2 s"):
        fetch("http://images.example/headers", WebAccess(timeout=0.2))


def test_the_time_of_looking_a_name_up_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_images, "resolve", lambda *_: stop.wait(5))
    with pytest.raises(DataError, match=r"within 0\.2 s"):
        fetch("http://images.example/image", WebAccess(timeout=0.2))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts the files of Linux")
def test_no_connection_and_no_thread_is_left_behind() -> None:
    fetch("http://images.example/image?x")
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(20):
        fetch("http://images.example/image?x")
    with pytest.raises(DataError):
        fetch("http://images.example/short")
    wait = threading.Event()
    for _ in range(200):  # the server closes its own ends a moment later
        left = len(os.listdir("/proc/self/fd")) - files, threading.active_count() - threads
        if max(left) <= 1:
            break
        wait.wait(0.02)
    assert max(left) <= 1


@pytest.mark.parametrize("url", ["http://no.example/a", "http://images.example:x/", "http://[a"])
def test_addresses_that_name_no_host_are_refused(url: str) -> None:
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(url)


def test_an_address_is_an_image_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    open_image = opener("HTTP://images.example/image", "image 0")
    with pytest.raises(DataError, match="cannot read image"):
        open_image()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("::ffff:93.184.216.34", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::", False),
    ],
)
def test_public_addresses_are_those_reachable_from_everywhere(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public
