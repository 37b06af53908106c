"""Files on web servers and on the Hugging Face Hub, read in place by byte ranges."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from diffcls.data.sources.remote_requests import Response, get, status_of
from diffcls.support.errors import DataError, UsageError
from diffcls.support.notices import warn

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 4 << 20
"""Bytes per request of a file that is read from start to end."""
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
HUB_ADDRESS = re.compile(
    r"hf://datasets/(?P<id>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<path>.+)", re.DOTALL
)
NONE, DENIED = (404, 410), (401, 403)
"""Statuses of responses where there is no file, or none for this login."""


class RemoteFile:
    """A file that a server sends in parts; nothing of it is stored.

    A request that fails for a time is repeated, after the wait that the server asks for.

    Args:
        url: its address.
        shown: its name, for messages.
        headers: function that returns the headers of a request, such as a login.
    """

    def __init__(
        self,
        url: str,
        shown: str = "",
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._url, self._headers = url, headers
        self._shown, self._size = shown or url, -1

    @property
    def shown(self) -> str:
        """Its name."""
        return self._shown

    @property
    def size(self) -> int:
        """Its length in bytes.

        Raises:
            DataError, TimeoutError: see `read`.
        """
        if self._size < 0:
            self.read(0, 1)
        return self._size

    def open(self, block_bytes: int = BLOCK_BYTES) -> BinaryIO:
        """The file from its start; a request asks for so many bytes at least."""
        return cast(BinaryIO, io.BufferedReader(_Stream(self), block_bytes))

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on.

        Raises:
            DataError: for a file that is missing, denied or was changed, and for a server that
                sends whole files only.
            TimeoutError: if the server cannot be reached, or fails for long.
            HubBusyError: if it refuses requests for the time being.
        """
        if size == 0:
            return b""
        response = self._get({"Range": f"bytes={offset}-{offset + size - 1}"}, (206,))
        sent = RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status != 206 or sent is None:
            raise DataError(
                "the server sends whole files only",
                given=self._shown,
                allowed="a server that answers requests for byte ranges",
                todo="download the file",
            )
        total = int(sent[3])
        if self._size not in (-1, total):
            raise DataError(
                "file was changed during the run", given=self._shown, todo="rerun the command"
            )
        self._size = total
        if int(sent[1]) != offset or len(response.content) != size:
            raise DataError("file ends within the part that is read", given=self._shown)
        return response.content

    def read_whole(self) -> bytes | None:
        """All of a small file, from servers of any kind; None if there is none.

        A server that denies a file which it may not have, as object stores do, has none either,
        but stderr says so.

        Raises:
            DataError, TimeoutError, HubBusyError: see `read`.
        """
        try:
            return self._get({}, (200,)).content
        except DataError as error:
            status = status_of(error.__cause__)
            if status in DENIED:
                warn(f"no access to {self._shown} (status {status}): read without it")
            elif status not in NONE:
                raise
            return None

    def _get(self, headers: Mapping[str, str], read: tuple[int, ...]) -> Response:
        return get(self._url, {**self._headers(), **headers}, read, self._shown)


# ---- addresses -----------------------------------------------------------------------------------


def remote_file(address: str) -> RemoteFile:
    """The file at an address: ``https://…``, or ``hf://datasets/OWNER/NAME[@REVISION]/PATH``.

    Only requests to the Hub carry its login, and messages leave out what follows a "?".

    Raises:
        UsageError: for an address of another kind.
    """
    parts = urlsplit(address)
    if "*" in parts.path:
        raise _refused(address, "braces, such as {000..009}; a server lists no files")
    if parts.scheme in ("http", "https"):
        return RemoteFile(address, f"{parts.scheme}://{place_of(address)}")
    on_hub = HUB_ADDRESS.fullmatch(address)
    if on_hub is None:
        raise _refused(address, "http://, https:// or hf://datasets/OWNER/NAME/PATH")
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    revision = on_hub["revision"] or None
    url = hf_hub_url(on_hub["id"], on_hub["path"], repo_type="dataset", revision=revision)
    return RemoteFile(url, address, build_hf_headers)


def place_of(address: str) -> str:
    """Host and path of an address."""
    parts = urlsplit(address)
    return (
        f"{parts.netloc.rpartition('@')[2] if parts.scheme != 'hf' else parts.netloc}{parts.path}"
    )


def beside(address: str, place: str) -> str:
    """The address of another place on the same server, with the same login and query."""
    parts = urlsplit(address)
    login, at, _ = parts.netloc.rpartition("@") if parts.scheme != "hf" else ("", "", "")
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{login}{at}{place}{query}"


def text_of(address: str) -> str | None:
    """The text at an address; None if there is none.

    Raises:
        DataError: for a text that is not UTF-8, or cannot be read.
        TimeoutError, HubBusyError: see `RemoteFile.read`.
    """
    file = remote_file(address)
    content = file.read_whole()
    if content is None:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("file is no text in UTF-8", given=file.shown) from error


@contextmanager
def answering(name: str) -> Iterator[None]:
    """Raise DataError where a server stops answering while names and labels are read."""
    try:
        yield
    except TimeoutError as error:
        raise DataError(
            f"cannot read the data set ({error})",
            given=name,
            todo="rerun the same command with a network connection",
        ) from error


def _refused(address: str, allowed: str) -> UsageError:
    return UsageError("--dataset: cannot read this address", address.partition("?")[0], allowed)


# ---- reading as a stream -------------------------------------------------------------------------


class _Stream(io.RawIOBase):
    """A remote file with a position."""

    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: 0}[whence]
        if whence == io.SEEK_END:
            start = self._file.size
        if start + offset < 0:
            raise ValueError(f"position {start + offset} before the start of {self._file.shown}")
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._file.size - self._position))
        view[:count] = self._file.read(self._position, count)
        self._position += count
        return count
