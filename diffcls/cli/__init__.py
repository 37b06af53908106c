"""Shared parts of all commands: the argument parser, errors and exit statuses."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from diffcls.cli.config import FLAG, with_config
from diffcls.cli.streams import FAILED, discard_output, flush, notify, open_streams
from diffcls.support.errors import DiffclsError, UsageError
from diffcls.support.notices import log_to_stderr
from diffcls.support.options import check_text, parse_real, parse_whole


class Parser(argparse.ArgumentParser):
    """Argument parser: flags accept underscores for hyphens, errors are raised as exceptions.

    For all flags, whatever they are: an empty value is an error, never "not given"; control
    characters and bytes that are no UTF-8 are refused; ``type=int`` and ``type=float`` read ASCII
    digits only (``int`` itself takes ``1_000``, `` 5`` and ``٣``); a flag of several values is
    given once, as argparse would drop the values of all but the last. A flag ``--config`` is read
    by `diffcls.cli.config`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register("type", int, _whole)
        self.register("type", float, _real)
        for name in (None, "store"):
            self.register("action", name, _Store)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse, with ``--n_samples`` for ``--n-samples``.

        Raises:
            UsageError: for an unknown flag, or a value that is not allowed.
        """
        given = [_hyphens(a) for a in args]
        flags_known = self._option_string_actions
        if FLAG in flags_known:
            given = with_config(self, flags_known, given)
        _check_texts(given)
        _check_flags(given, flags_known, self.prog)
        flags = super().parse_args(given, namespace)
        vars(flags).pop(_GIVEN, None)
        return flags

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, which `guarded` reports like all other errors."""
        raise UsageError(message, todo=f"see {self.prog} --help")


_GIVEN = "flags that were given"
"""Attribute of the namespace while it is filled; no flag has such a name."""


class _Store(argparse.Action):
    """argparse's own store action, but that a flag of several values cannot be given twice."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given: set[str] = vars(namespace).setdefault(_GIVEN, set())
        if self.nargs is not None and option_string and self.dest in given:
            raise argparse.ArgumentError(self, "given twice: give all values after one flag")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class OneOrMore(_Store):
    """Store action of a flag whose several values are runs of their own; one value is no list.

    Of single values the last one counts, as with any other flag of one value.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        options["nargs"] = "+"
        super().__init__(*args, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if len(values) == 1 and not isinstance(getattr(namespace, self.dest, None), list):
            setattr(namespace, self.dest, values[0])
            vars(namespace).setdefault(_GIVEN, set()).add(self.dest)
            return
        super().__call__(parser, namespace, values, option_string)


def parser_of(name: str, description: str, epilog: str, **more: Any) -> Parser:
    """A parser of the command `name`, with ``--config`` alone; `more` is passed on to argparse."""
    p = Parser(
        prog=f"diffcls {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **more,
    )
    text = "YAML or TOML file of flags' names and values; flags win"
    p.add_argument(FLAG, metavar="FILE", default=argparse.SUPPRESS, help=text)
    return p


def _whole(text: str) -> int:
    try:
        return parse_whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _real(text: str) -> float:
    try:
        return parse_real(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check_texts(arguments: Sequence[str]) -> None:
    """Refuse empty values, control characters and bytes that are no UTF-8, by the flag's name."""
    flag = "argument"
    for argument in arguments:
        if argument.startswith("--") and "=" in argument:
            flag, _, value = argument.partition("=")
            # argparse drops it, and goes on without a value
            check_text(flag, "" if value == "--" else value, free=True)
        else:
            check_text(flag, argument, free=True)
        if argument.startswith("-"):
            flag = argument.partition("=")[0]


def _check_flags(arguments: Sequence[str], known: Iterable[str], prog: str) -> None:
    """Refuse an unknown flag with the one that was probably meant."""
    for argument in itertools.takewhile(lambda one: one != "--", arguments):
        flag = argument.partition("=")[0]
        if flag in known or len(flag) < 3 or not flag.startswith("-"):
            continue
        close = difflib.get_close_matches(f"--{flag.lstrip('-').lower()}", known, n=1, cutoff=0.7)
        is_short = not flag.startswith("--")  # such as -b64, or a number
        if is_short and (not close or flag[:2] in known):
            continue
        meant = f"did you mean {close[0]}? " if close else ""
        raise UsageError("unknown flag", given=flag, todo=f"{meant}see {prog} --help")


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
    open_streams()
    log_to_stderr()
    try:
        return flush(_status(body, resumes))
    except SystemExit:  # --help and --version
        flush(0)
        raise


def _status(body: Callable[[], int], resumes: bool) -> int:
    try:
        return body()
    except DiffclsError as error:
        notify(" ".join(str(error).split()))
        return error.exit_status
    except KeyboardInterrupt:
        with contextlib.suppress(OSError, ValueError):
            print(file=sys.stderr)  # after the terminal's ^C
        notify(f"interrupted{'; rerun the same command to resume' if resumes else ''}")
        return 130
    except (MemoryError, RuntimeError) as error:
        # torch's own class, by its name: importing torch is slow
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        notify("out of memory; rerun with a smaller --batch-size, and another --output-dir")
        return FAILED
    except BrokenPipeError:
        discard_output()
        return FAILED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        notify(f"output cannot be written ({error.strerror}); free some space, then rerun")
        discard_output()
        return FAILED
