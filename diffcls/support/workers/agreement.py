"""Agreement: what the machines of a run must have in common, so that no two are mixed in it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from diffcls.support.errors import UsageError
from diffcls.support.hashing import hash_json

MOST_NAMED = 4
"""Differences that the message names; several of them usually have one cause."""


def check_agreement(run: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse to work for a run that was begun with something else than this machine has.

    Args:
        run: what the run has, in plain JSON types: name of a fact -> its value.
        here: the same of this machine.

    Raises:
        UsageError: for a fact that differs, or that only one of the two has.
    """
    differing = [
        name.replace("_", " ")
        for name in dict.fromkeys((*run, *here))
        if name not in run or name not in here or hash_json(run[name]) != hash_json(here[name])
    ]
    if differing:
        shown = ", ".join(differing[:MOST_NAMED])
        more = len(differing) - MOST_NAMED
        raise UsageError(
            f"a worker finds other things than its run has ({shown}"
            f"{f' and {more} more' if more > 0 else ''})",
            given=socket.gethostname(),
            todo="give all nodes the same data, prompts, models and version of diffcls",
        )
