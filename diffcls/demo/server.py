"""Server of the demo: gradio on an address of one's own, closed to all that the page does not need.

All files lie in a temporary folder that is deleted at the end.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcls.demo.examples import examples
from diffcls.demo.guard import Guard
from diffcls.demo.models import Models
from diffcls.demo.options import DemoOptions
from diffcls.demo.page import Page, style
from diffcls.demo.service import Service
from diffcls.support.errors import UsageError

FIRST_PORT, LAST_PORT = 7860, 7959
EVENTS_PER_QUESTION = 20
"""Presses that gradio's queue holds per waiting page; `Visits` counts the pages themselves."""
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif"]
MONOSPACE = ["ui-monospace", "Consolas", "monospace"]


@dataclass(frozen=True)
class Running:
    """A demo that is being served.

    Args:
        url: its address.
        service: what answers its visitors.
    """

    url: str
    service: Service


def serve(options: DemoOptions) -> int:
    """Serve the demo until it is interrupted; returns the exit status.

    Raises:
        UsageError, ModelError: for an address that is taken, or a model that cannot be loaded.
    """
    stopped = threading.Event()
    # as Ctrl-C: the folder of the uploads is deleted before the process ends
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    print("diffcls demo: loading …", file=sys.stderr, flush=True)
    with running(options) as demo:
        reach = "this machine alone" if options.is_local else f"every network of {options.host}"
        print(f"diffcls demo: {demo.url} for {reach}; Ctrl-C ends it", flush=True)
        while not stopped.wait(1.0):  # without a limit, a signal would wait, too
            pass
    return 0


@contextmanager
def running(options: DemoOptions) -> Iterator[Running]:
    """A demo that is served within the context.

    Raises:
        UsageError, ModelError: see `serve`.
    """
    port = free_port(options.host, options.port)
    with tempfile.TemporaryDirectory(prefix="diffcls-demo-") as folder:
        _close_gradio(folder)
        models = Models(options)
        models.load()
        service = Service(models, Path(folder))
        images = examples(list(models.presets.values()), models.example)
        blocks = Page(service, images).build()
        events = EVENTS_PER_QUESTION * options.queue
        blocks.queue(max_size=events, default_concurrency_limit=1, api_open=False)
        _, url, _ = blocks.launch(**_arguments(options, port))
        try:
            yield Running(str(url), service)
        finally:
            blocks.close(verbose=False)


def free_port(host: str, port: int | None) -> int:
    """The port to serve on: the given one; of 0 any free one; of None the first one from 7860.

    Raises:
        UsageError: if it is taken, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    wanted = range(FIRST_PORT, LAST_PORT + 1) if port is None else (port,)
    problem: OSError | None = None
    for one in wanted:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, one))
                return int(probe.getsockname()[1])
            except OSError as error:
                problem = error
    reason = problem.strerror if problem else "no port"
    given = f"{host}, port {f'{FIRST_PORT} to {LAST_PORT}' if port is None else port}"
    raise UsageError(
        f"--host and --port cannot be served on ({reason})", given, todo="choose another --port"
    )


def _close_gradio(folder: str) -> None:
    """Keep gradio from the web, and its files in a folder; read when it is imported."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = folder
    os.environ.pop("GRADIO_SHARE", None)


def _arguments(options: DemoOptions, port: int) -> dict[str, Any]:
    """Arguments of gradio's ``launch``: no link to the public, no history, no calls by name."""
    import gradio as gr
    from starlette.middleware import Middleware

    guard = Middleware(Guard, max_bytes=options.max_upload_bytes, rate=options.rate)
    return {
        "server_name": options.host,
        "server_port": port,
        "share": False,
        "inbrowser": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "show_error": False,
        "max_file_size": options.max_upload_bytes,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "allowed_paths": [],
        "app_kwargs": {
            "middleware": [guard],
            "docs_url": None,
            "redoc_url": None,
            "openapi_url": None,
        },
        "theme": gr.themes.Base(
            primary_hue="blue", neutral_hue="stone", font=FONTS, font_mono=MONOSPACE
        ),
        "css": style(),
    }
