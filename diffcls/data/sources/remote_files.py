"""Files on web servers and on the Hugging Face Hub, read in place by byte ranges."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import urlsplit

from diffcls.support.errors import DataError, UsageError
from diffcls.support.hub import busy_error, busy_status

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 4 << 20
"""Bytes per request of a file that is read from start to end."""
SECRETS = re.compile(r"(https?://)(?:[^/@\s]*@)?([^\s?]*)(?:\?\S*)?")
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
HUB_ADDRESS = re.compile(
    r"hf://datasets/(?P<id>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?/(?P<path>.+)", re.DOTALL
)
PERMANENT = (401, 403, 404, 410, 416)
"""Statuses of responses that a further request would not change."""


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
        response = self._request(offset, size)
        sent = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code != 206 or sent is None:
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
        content = bytes(response.content)
        if int(sent[1]) != offset or len(content) != size:
            raise DataError("file ends within the part that is read", given=self._shown)
        return content

    def _request(self, offset: int, size: int) -> Any:
        from huggingface_hub import constants
        from huggingface_hub.utils import hf_raise_for_status, http_backoff

        logging.getLogger(http_backoff.__module__).addFilter(_without_secrets)  # once
        headers = {**self._headers(), "Range": f"bytes={offset}-{offset + size - 1}"}
        try:
            response = http_backoff(
                "GET", self._url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
            )
            hf_raise_for_status(response)
        except Exception as error:  # network libraries raise exceptions of many types
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in PERMANENT:
                raise DataError(
                    f"cannot read file (status {status})",
                    given=self._shown,
                    todo="check the address, and whether it needs a login",
                ) from error
            busy = busy_status(error)
            if busy is not None:  # no fault of this file: the run stops, and resumes later
                raise busy_error(busy, server=f"the server of {self._shown}") from error
            reason = f"status {status}" if status else type(error).__name__
            raise TimeoutError(f"no response from {self._shown} ({reason})") from error
        return response


def _without_secrets(record: logging.LogRecord) -> bool:
    """Remove logins and queries, which may be signatures, from addresses in a log message."""
    record.msg = SECRETS.sub(r"\1\2", record.getMessage())
    record.args = None
    return True


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


def text_of(address: str) -> str | None:
    """The text at an address; None if there is none.

    Raises:
        DataError: for a text that is not UTF-8.
        TimeoutError: if the server cannot be reached.
    """
    file = remote_file(address)
    try:
        content = file.read(0, file.size)
    except DataError:
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
