"""Guard of the demo's server: what may be requested, how large it may be, and how often.

gradio serves more than this page needs: calls by name, a proxy, files, a history. The guard lets
through what the page requests, and answers 404 to all else. Every answer tells the browser to load
nothing from another place, and to keep no copy of an upload.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from diffcls.demo.rate_limit import RateLimit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

PAGES = ("/", "/config", "/favicon.ico", "/manifest.json", "/robots.txt", "/theme.css")
FOLDERS = ("/assets/", "/static/")
API = "/gradio_api"
CALLS: tuple[str, ...] = (
    "/upload",
    "/upload_progress",
    "/queue/join",
    "/queue/data",
    "/cancel",
    "/reset",
)
CALLS += ("/startup-events", "/theme.css")
CALL_FOLDERS = ("/heartbeat/", "/file=")
EXTRA_BYTES = 100_000
"""Bytes of a request beside its file: the question itself, and the frame of an upload."""
UPLOADS_PER_QUESTION = 3
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "form-action 'none'",
        "base-uri 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def is_allowed(path: str) -> bool:
    """Whether the page requests this path."""
    if path in PAGES or path.startswith(FOLDERS):
        return True
    call = path.removeprefix(API).rstrip("/")
    return path.startswith(API) and (call in CALLS or call.startswith(CALL_FOLDERS))


class Guard:
    """ASGI middleware.

    Args:
        app: the server behind it.
        max_bytes: size limit of an upload.
        rate: questions per minute and visitor; three times as many uploads are allowed.
    """

    def __init__(self, app: App, max_bytes: int, rate: int) -> None:
        self._app, self._max_bytes = app, max_bytes + EXTRA_BYTES
        self._uploads = RateLimit(UPLOADS_PER_QUESTION * rate)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # the page opens no web socket
        path = str(scope["path"]).removeprefix(str(scope.get("root_path") or ""))
        refusal = self._refusal(scope, path)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:  # of a body whose length was not declared, or wrongly
                return {"type": "http.disconnect"}
            return message

        keep = path.startswith(FOLDERS)

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
                if not keep:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        await self._app(scope, limited, labelled)

    def _refusal(self, scope: Message, path: str) -> tuple[int, str] | None:
        """Status and text of the answer to a request that is refused; None if it is allowed."""
        if not is_allowed(path) or scope["method"] not in ("GET", "HEAD", "POST"):
            return 404, "not found"
        if scope["method"] != "POST":
            return None
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self._max_bytes:
            return 413, f"at most {self._max_bytes:,} bytes"
        if path.startswith(f"{API}/upload"):
            visitor = str((scope.get("client") or ("",))[0])
            if self._uploads.wait(visitor):
                return 429, "too many uploads; wait a minute"
        return None


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
