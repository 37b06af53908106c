"""Local stand-in for the Hugging Face Hub, and files of its repositories."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEST_FILE = "data/test-00000-of-00001.parquet"
TRAIN_FILE = "data/train-00000-of-00001.parquet"


def encoded(gray: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), gray).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def parquet(
    grays: list[int],
    names: Mapping[str, list[str]] | None = None,
    image_column: str = "image",
    /,
    **columns: list[Any],
) -> bytes:
    """Parquet file in the Hub's format; `names` are the class names of its label columns."""
    names = names or {"label": ["apple_pie", "beet", "cake"]}
    columns = {"label": [g % 3 for g in grays], **columns}
    features = {n: {"names": names[n], "_type": "ClassLabel"} for n in columns if n in names}
    images = [{"bytes": encoded(g), "path": None} for g in grays]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.table({image_column: pa.array(images, kind), **columns})
    stored = {"info": {"features": {image_column: {"_type": "Image"}, **features}}}
    file = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(stored)}), file)
    return file.getvalue()


def archive(rows: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in rows.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@dataclass
class Hub:
    """Stand-in for the Hub: repository id -> path -> content, all of one commit.

    With a status of 500, every request fails; with 0, none is answered. `refusals` are the statuses
    and headers of the next responses about a repository of ``me``.
    """

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    has_ranges: bool = True  # whether parts of files are sent on request
    sent: int = 0  # bytes
    logins: list[str] = field(default_factory=list)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    hangs: threading.Event = field(default_factory=threading.Event)
    status: int = 200
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to a request."""
        self.requests.append(path)
        if self.status == 0:
            self.hangs.wait()
        if self.refusals and "/me/" in path:  # not what the library asks of its own accord
            return *self.refusals.pop(0), b""
        if self.status != 200:
            return self.status or 500, {}, b""
        api = path.startswith("/api/datasets/")
        place = path.partition("/datasets/")[2].partition("?")[0]
        for name, files in self.repositories.items():
            if place == name or place.startswith(f"{name}/"):
                action, _, rest = place[len(name) + 1 :].partition("/")
                revision, _, file = unquote(rest).partition("/")
                if revision not in ("", "main", "v1", COMMIT):
                    return 404, {"X-Error-Code": "RevisionNotFound"}, b""
                if api:
                    return self._api(name, files, action)
                if name in self.gated:
                    return 403, {"X-Error-Code": "GatedRepo"}, b""
                if file not in files:
                    return 404, {"X-Error-Code": "EntryNotFound"}, b""
                digest = hashlib.sha1(files[file]).hexdigest()
                return 200, {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, files[file]
        return 401, {"X-Error-Code": "RepoNotFound"}, b""

    def _api(
        self, name: str, files: Mapping[str, bytes], action: str
    ) -> tuple[int, dict[str, str], bytes]:
        if action == "tree":
            info: Any = [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": hashlib.sha1(content).hexdigest(),
                }
                for path, content in files.items()
            ]
        else:
            siblings = [{"rfilename": path} for path in files]
            info = {"id": name, "sha": COMMIT, "siblings": siblings}
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()

    def fetched(self) -> set[str]:
        """Paths of the requested files."""
        places = (path.partition(f"/resolve/{COMMIT}/")[2] for path in self.requests)
        return {place for place in places if place}


@contextmanager
def in_place_of_the_hub(change: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The stand-in, where the Hub's libraries look for the Hub."""
    from huggingface_hub import constants

    hub = Hub()
    with serving(hub) as address:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        change.setattr(constants, "ENDPOINT", address)
        change.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        change.setattr(constants, "HF_HUB_OFFLINE", False)
        yield hub


def fill(cache: Path, name: str, files: Mapping[str, bytes], listed: bool = True) -> None:
    """Write files into the cache as ``hf download --repo-type dataset`` does.

    Earlier releases of it keep no list of the files.
    """
    base = cache / f"datasets--{name.replace('/', '--')}"
    for path, content in files.items():
        place = base / "snapshots" / COMMIT / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    if listed:
        tree = base / "trees" / f"{COMMIT}.json"
        tree.parent.mkdir(exist_ok=True)
        infos = {path: {"size": len(content), "blob_id": ""} for path, content in files.items()}
        tree.write_text(json.dumps({"format_version": 1, "files": infos}))
    (base / "refs").mkdir(exist_ok=True)
    (base / "refs" / "main").write_text(COMMIT)


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Run the server; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            hub.logins.append(self.headers.get("Authorization", ""))
            status, headers, body = hub.answer(self.path)
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if part and status == 200 and hub.has_ranges:
                first, last = int(part[1]), min(int(part[2]), len(body) - 1)
                headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(body)}"}
                status, body = 206, body[first : last + 1]
            hub.sent += len(body) if with_body else 0
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            # a client that gave up, as one does whose patience is what a test is about
            if not isinstance(sys.exc_info()[1], ConnectionError):
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        hub.hangs.set()
        server.shutdown()
        server.server_close()
