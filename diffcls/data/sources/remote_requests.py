"""Requests for files on servers, repeated after failures that pass."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from diffcls.support.errors import DataError
from diffcls.support.hub import MAX_WAIT_SECONDS, busy_error, busy_status, stated_wait
from diffcls.support.time_limit import paused, progress

SECRETS = re.compile(r"(https?://)(?:[^/@\s]*@)?([^\s?]*)(?:\?\S*)?")
PERMANENT = (401, 403, 404, 410, 416)
"""Statuses of responses that a further request would not change."""
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 8.0)
"""Wait after each failed request whose response states none; one more, and the file fails."""
TRANSIENT = {"TimeoutException", "NetworkError", "RemoteProtocolError"}
"""Errors of the network, by the names of their classes, after which a request is repeated."""


@dataclass(frozen=True)
class Response:
    """A response: its status, its headers (names in lower case), and its content if it was read."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def get(url: str, headers: Mapping[str, str], read: tuple[int, ...], shown: str) -> Response:
    """The response to a request for a file, repeated as long as it may succeed.

    The time limit of an image counts from the last byte; waits between requests do not count.

    Args:
        url: address of the file.
        headers: headers of the request.
        read: statuses of the responses whose content is read.
        shown: name of the file, for messages.

    Raises:
        DataError: for a file that is missing or denied.
        TimeoutError: if the server cannot be reached, or fails for long.
        HubBusyError: if it refuses requests for the time being.
    """
    waited = 0.0
    for own_wait in (*RETRY_SECONDS, None):
        progress()
        try:
            return _ask(url, headers, read)
        except Exception as error:  # network libraries raise exceptions of many types
            stated = stated_wait(error)
            wait = own_wait if stated is None else stated
            if own_wait is None or wait is None or waited + wait > MAX_WAIT_SECONDS:
                raise _failure(error, stated, shown) from error
            if not _is_transient(error):
                raise _failure(error, None, shown) from error
        with paused():
            time.sleep(wait)
        waited += wait
    raise AssertionError("the last request returns or raises")


def _ask(url: str, headers: Mapping[str, str], read: tuple[int, ...]) -> Response:
    """One request; of a response with another status than in `read`, no content is read."""
    from huggingface_hub import constants
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

    logging.getLogger(http_stream_backoff.__module__).addFilter(_without_secrets)  # once
    content = bytearray()
    with http_stream_backoff(
        "GET",
        url,
        max_retries=0,
        headers=dict(headers),
        timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
        follow_redirects=True,
    ) as response:
        hf_raise_for_status(response)
        if response.status_code in read:
            for chunk in response.iter_bytes():
                content += chunk
                progress()
        return Response(
            response.status_code,
            {k.lower(): v for k, v in response.headers.items()},
            bytes(content),
        )


def _failure(error: Exception, stated: float | None, shown: str) -> Exception:
    """The error for a request that failed, with the wait that its response states."""
    status = status_of(error)
    if status in PERMANENT:
        return DataError(
            f"cannot read file (status {status})",
            given=shown,
            todo="check the address, and whether it needs a login",
        )
    busy = busy_status(error)
    if busy is not None:  # no fault of this file: the run stops, and resumes later
        return busy_error(busy, stated, server=f"the server of {shown}")
    reason = f"status {status}" if status else type(error).__name__
    return TimeoutError(f"no response from {shown} ({reason})")


def status_of(error: BaseException | None) -> int | None:
    """Status of the response that an error reports; None without one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return None if status is None else int(status)


def _is_transient(error: Exception) -> bool:
    """Whether a further request may succeed."""
    status = status_of(error)
    if status is not None:
        return status == 429 or status >= 500
    return bool(TRANSIENT & {kind.__name__ for kind in type(error).__mro__})


def _without_secrets(record: logging.LogRecord) -> bool:
    """Remove logins and queries, which may be signatures, from addresses in a log message."""
    record.msg = SECRETS.sub(r"\1\2", record.getMessage())
    record.args = None
    return True
