"""Command lines that runs keep in their headers, read as the command itself reads them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from diffcls.cli.evaluate_flags import add_evaluate_flags
from diffcls.support.errors import DiffclsError

START = ("python", "-m", "diffcls.evaluate")


def options_of_command(text: str) -> Mapping[str, Any] | None:
    """The options of an evaluation's command line; None for any other text.

    Args:
        text: the header's ``command``, such as ``python -m diffcls.evaluate --dataset pets``.
    """
    import argparse

    from diffcls.cli import parser_of

    try:
        words = shlex.split(text)
    except ValueError:
        return None
    if tuple(words[:3]) != START:
        return None
    parser = parser_of("evaluate", "", "", argument_default=argparse.SUPPRESS)
    add_evaluate_flags(parser)
    try:
        return vars(parser.parse_args(words[3:]))
    except (DiffclsError, SystemExit):
        return None
