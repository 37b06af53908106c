"""Requests to the Hugging Face Hub with a time limit, and the folders of its cache.

Without a network, the Hub's own libraries retry for half a minute.
"""

from __future__ import annotations

import contextlib
import email.utils
import http
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from diffcls.support.errors import DiffclsError
from diffcls.support.notices import warn
from diffcls.support.time_limit import within

T = TypeVar("T")

REQUEST_TIMEOUT_SECONDS = 3.0
"""Time limit of a request to the Hub."""
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Wait after each request to a Hub that is busy and states none; the last ends in an error."""
MAX_WAIT_SECONDS = 300.0
"""Waits of a request together; the window of the Hub's own limits is as long."""


class HubBusyError(DiffclsError):
    """A server refuses requests for the time being (429 or 503); the same command resumes."""


def ask_hub(
    request: Callable[[], T],
    refused: Callable[[Exception], Exception | None],
    has_copy: Callable[[], bool] = lambda: False,
) -> T | None:
    """The Hub's response to a request; None if it is unreachable, or offline mode is set.

    A Hub that answers 429 (too many requests) or 503 (unavailable) is asked again after the time
    that it states (RFC 9110, ``Retry-After``), as the Hub's own library does in downloads.

    Args:
        request: sends the request.
        refused: maps an error of the request to the exception to raise; None for a failure of the
            network.
        has_copy: whether there is a copy in the cache, which serves at once where the Hub is busy.

    Raises:
        HubBusyError: for a Hub that stays busy, or asks for a wait above `MAX_WAIT_SECONDS`.
        Exception: the exception that `refused` returns.
    """
    if is_offline():
        return None
    waited = 0.0
    for own_wait in BACKOFF_SECONDS:
        try:
            # resolving the name of the Hub's host has no time limit of its own
            return within(REQUEST_TIMEOUT_SECONDS + 0.5, request)
        except Exception as error:  # failures of a network have no common base class
            status = busy_status(error)
            if status is None:
                known = refused(error)
                if known is not None:
                    raise known from error
                return None
            stated = stated_wait(error)
        if has_copy():
            return None
        wait = own_wait if stated is None else stated
        last = own_wait == BACKOFF_SECONDS[-1] or waited + wait > MAX_WAIT_SECONDS
        if last:
            raise busy_error(status, stated)
        as_asked = "" if stated is None else ", as it asks"
        warn(f"the Hub answers {status}: waiting {wait:g} s{as_asked}")
        time.sleep(wait)
        waited += wait
    raise AssertionError("the last request returns or raises")


def busy_error(status: int, seconds: float | None = None, server: str = "the Hub") -> HubBusyError:
    """The error for a server that is busy, with the wait that it asks for, if it states one."""
    name = http.HTTPStatus(status).phrase.lower()
    later = "later" if seconds is None else f"in {seconds:g} seconds"
    login = "; logging in with `hf auth login` raises its limits" if server == "the Hub" else ""
    return HubBusyError(
        f"{server} refuses requests for the time being ({status}, {name})",
        todo=f"rerun the same command {later} to resume{login}",
    )


def busy_status(error: BaseException) -> int | None:
    """429 or 503 of the response that an error, or its cause, reports; None for all others."""
    for one in (error, error.__cause__, error.__context__):
        status = getattr(getattr(one, "response", None), "status_code", None)
        if status in (429, 503):
            return int(status)
    return None


def stated_wait(error: BaseException) -> float | None:
    """Seconds of the header ``Retry-After``, also as a date; None without a sound one.

    The Hub states its limits in ``RateLimit``, such as ``"resolvers";r=0;t=120``, instead.
    """
    headers = getattr(getattr(error, "response", None), "headers", {})
    value = str(headers.get("Retry-After", ""))
    limit = re.search(r";\s*r=0\s*;\s*t=(\d+)", str(headers.get("RateLimit", "")), re.IGNORECASE)
    if limit is not None and not value:
        value = limit[1]
    if value.strip().isdecimal():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, math.ceil(moment.timestamp() - time.time()))


def is_offline() -> bool:
    """Whether one of the Hub's own environment variables sets offline mode."""
    from huggingface_hub.constants import ENV_VARS_TRUE_VALUES, is_offline_mode

    datasets_offline = os.environ.get("HF_DATASETS_OFFLINE", "").upper() in ENV_VARS_TRUE_VALUES
    return datasets_offline or bool(is_offline_mode())


def repository_cache(kind: str, repo_id: str) -> Path:
    """The folder of a repository in the cache; `kind` is ``models`` or ``datasets``."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"{kind}--{repo_id.replace('/', '--')}"


def cached_commit(folder: Path, revision: str) -> str | None:
    """The commit of a branch, tag or commit; None if it is not in the cache."""
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if (folder / "snapshots" / commit).is_dir() else None


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Offline mode of the Hub's libraries: what is not in the cache counts as missing."""
    from huggingface_hub import constants

    name, constant = "HF_DATASETS_OFFLINE", constants.HF_HUB_OFFLINE
    before = os.environ.get(name)
    os.environ[name], constants.HF_HUB_OFFLINE = "1", True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = constant
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
