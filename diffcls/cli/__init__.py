"""Shared parts of all commands: the argument parser, errors and exit statuses."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diffcls.support.errors import DiffclsError, UsageError


class Parser(argparse.ArgumentParser):
    """Argument parser: flags accept underscores for hyphens, errors are raised as exceptions."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, with ``--n_samples`` for ``--n-samples``."""
        return super().parse_args([_hyphens(a) for a in args], namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, which `guarded` reports like all other errors."""
        raise UsageError(message, todo=f"see {self.prog} --help")


def parser_of(name: str, description: str, epilog: str, **more: Any) -> Parser:
    """A parser of the command `name`, without flags; `more` is passed on to argparse."""
    return Parser(
        prog=f"diffcls {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **more,
    )


def _hyphens(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def command(
    body: Callable[[list[str]], int], argv: Sequence[str] | None, resumes: bool = True
) -> int:
    """Run a command with its arguments; errors are handled by `guarded`.

    Args:
        body: arguments -> exit status.
        argv: arguments of the command; None: those of the process.
        resumes: whether the same command resumes an interrupted run.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: body(arguments), resumes)


def guarded(body: Callable[[], int], resumes: bool = True) -> int:
    """Run a command; errors become one line on stderr and an exit status, without traceback."""
    _log_to_stderr()
    try:
        return body()
    except DiffclsError as error:
        print(f"diffcls: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        advice = "; rerun the same command to resume" if resumes else ""
        print(f"\ndiffcls: interrupted{advice}", file=sys.stderr)
        return 130
    except (MemoryError, RuntimeError) as error:
        # torch's own class, by its name: importing torch is slow
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        print(
            "diffcls: out of memory; rerun with a smaller --batch-size, and another --output-dir",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        return 1


class _StderrHandler(logging.Handler):
    """Writes to the present ``sys.stderr``, which tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"diffcls: {record.getMessage()}", file=sys.stderr)


def _log_to_stderr() -> None:
    """Send the package's warnings to stderr, one line each, like its errors."""
    logger = logging.getLogger("diffcls")
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
