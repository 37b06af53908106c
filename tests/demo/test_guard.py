"""Guard of the server: paths, sizes and numbers of requests, and the headers of each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from diffcls.demo.guard import Guard, is_allowed

LIMIT = 1000 + 100_000


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the number of bytes that it received, or with 400 if it was cut off."""
    received, more, status = 0, True, 200
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            status, more = 400, False
        else:
            received += len(message.get("body", b""))
            more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": str(received).encode()})


def request(
    guard: Guard,
    path: str,
    method: str = "GET",
    body: Sequence[bytes] = (b"",),
    declared: str | None = None,
    client: str = "127.0.0.1",
    root: str = "",
) -> tuple[int, bytes, dict[bytes, bytes]]:
    headers = [] if declared is None else [(b"content-length", declared.encode())]
    scope = {"type": "http", "path": path, "method": method, "headers": headers}
    scope |= {"client": (client, 1), "root_path": root}
    parts, sent = list(body), []

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], sent[1]["body"], dict(sent[0]["headers"])


@pytest.fixture
def guard() -> Guard:
    return Guard(echo, max_bytes=1000, rate=2)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/config", "/theme.css", "/assets/index.js", "/static/js/a.js"),
        *("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/queue/data"),
        *("/gradio_api/cancel", "/gradio_api/heartbeat/abc", "/gradio_api/file=/var/x/a.png"),
    ],
)
def test_what_the_page_needs_is_let_through(guard: Guard, path: str) -> None:
    assert is_allowed(path)
    assert request(guard, path)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/openapi.json", "/login", "/logout", "/monitoring", "/svelte/a", "/runs"),
        *("/gradio_api/info", "/gradio_api/call/ask", "/gradio_api/call/v2/ask"),
        *("/gradio_api/run/predict", "/gradio_api/api/predict", "/gradio_api/component_server"),
        *("/gradio_api/proxy=http://example.org/", "/gradio_api/stream/a", "/gradio_api/runs"),
        *("/gradio_api/dev/reload", "/gradio_api/mcp", "/gradio_api/token", "/proxy=x", "/a"),
        *("/gradio_apiupload", "/upload", "//etc/passwd", ""),
    ],
)
def test_all_else_is_not_found(guard: Guard, path: str) -> None:
    assert request(guard, path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_not_found(guard: Guard, method: str) -> None:
    assert request(guard, "/", method)[0] == 404


def test_a_path_below_the_prefix_of_a_proxy_is_judged_without_it(guard: Guard) -> None:
    assert request(guard, "/demo/config", root="/demo")[0] == 200
    assert request(guard, "/demo/docs", root="/demo")[0] == 404


def test_a_body_of_the_limit_passes_and_a_longer_one_is_refused_or_cut_off(guard: Guard) -> None:
    path = "/gradio_api/queue/join"
    whole = b"x" * LIMIT
    assert request(guard, path, "POST", [whole], str(LIMIT))[:2] == (200, str(LIMIT).encode())
    assert request(guard, path, "POST", [whole + b"x"], str(LIMIT + 1))[0] == 413
    assert request(guard, path, "POST", [b""], "many")[0] == 413
    # a length that is not declared, or declared wrongly
    assert request(guard, path, "POST", [whole, b"x", whole])[0] == 400
    assert request(guard, path, "POST", [whole, b"x", whole], "5")[0] == 400


def test_uploads_are_limited_per_visitor(guard: Guard) -> None:
    path = "/gradio_api/upload"
    statuses = [request(guard, path, "POST")[0] for _ in range(7)]
    assert statuses == [200] * 6 + [429]
    assert request(guard, path, "POST", client="192.0.2.7")[0] == 200
    assert request(guard, "/gradio_api/queue/join", "POST")[0] == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/gradio_api/file=/var/a.png"])
def test_every_answer_forbids_other_hosts_and_copies(guard: Guard, path: str) -> None:
    headers = request(guard, path)[2]
    policy = headers[b"content-security-policy"].decode()
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'self'"
    allowed = {"'self'", "'none'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert {word for values in rules.values() for word in values.split()} <= allowed
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"referrer-policy"] == b"no-referrer"
    if path != "/docs":
        assert headers[b"cache-control"] == b"no-store"
        assert headers[b"x-own"] == b"1"


def test_scripts_and_styles_of_the_machine_may_be_kept_by_the_browser(guard: Guard) -> None:
    assert b"cache-control" not in request(guard, "/assets/index.js")[2]


def test_web_sockets_reach_nothing(guard: Guard) -> None:
    async def fail(*_: Any) -> Any:
        raise AssertionError

    asyncio.run(guard({"type": "websocket", "path": "/"}, fail, fail))
