"""Shared parts of all commands: the argument parser, errors and exit statuses."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diffcls.support.errors import DiffclsError, UsageError


class Parser(argparse.ArgumentParser):
    """argparse that takes ``--n_samples`` for ``--n-samples`` and says errors as we do."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, hyphens and underscores in a flag being the same."""
        return super().parse_args([_hyphens(a) for a in args], namespace)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exit, so that every error takes the same way out."""
        raise UsageError(message, todo=f"see {self.prog} --help")


def parser_of(name: str, description: str, epilog: str, **more: Any) -> Parser:
    """A parser of the command `name`, without any flag as yet; `more` as argparse takes it."""
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
    """Run a command, see `guarded`.

    Args:
        body: does what the arguments say, and returns the exit status.
        argv: the arguments; None: those of the process.
        resumes: whether the same command goes on where it was stopped.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: body(arguments), resumes)


def check_least(flags: argparse.Namespace, **least: int) -> None:
    """Raises UsageError for the first flag that is below its least value; one not given passes."""
    for name, bound in least.items():
        value = getattr(flags, name)
        if value is not None and value < bound:
            raise UsageError(f"{_hyphens(f'--{name}')} out of range", value, f"{bound} or more")


def guarded(body: Callable[[], int], resumes: bool = True) -> int:
    """Run a command's body; errors become one line on stderr and an exit status, no traceback."""
    _speak()
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
        # torch's own class, which cannot be named without importing it
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        print(
            "diffcls: out of memory; the same command with a smaller --batch-size in another "
            "--output-dir needs less",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        return 1


class _Voice(logging.Handler):
    """Writes to stderr, whatever that is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"diffcls: {record.getMessage()}", file=sys.stderr)


def _speak() -> None:
    """What the package warns of goes to stderr, a line each, as its errors do."""
    logger = logging.getLogger("diffcls")
    if not any(isinstance(handler, _Voice) for handler in logger.handlers):
        logger.addHandler(_Voice())
