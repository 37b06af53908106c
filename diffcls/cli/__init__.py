"""What all commands share: the console script, spellings of flags, errors and exit statuses."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diffcls.support.errors import DiffclsError, UsageError, unknown_name
from diffcls.support.registry import Registry

COMMANDS = Registry(
    "command",
    {
        "evaluate": "diffcls.evaluate:main",
        "train": "diffcls.train:main",
        "generate": "diffcls.generate:main",
        "likelihood": "diffcls.likelihood:main",
        "fidelity": "diffcls.fidelity:main",
        "replay": "diffcls.replay:main",
    },
)
SUMMARIES = {
    "evaluate": "measure a classifier on a data set",
    "train": "train a small diffusion model, a CLIP, or a classifier of noisy images",
    "generate": "draw images with a diffusion model",
    "likelihood": "the variational bound of images under a diffusion model",
    "fidelity": "FID, KID, IS, precision and recall of a model's images",
    "replay": "search saved error tables again, without the network",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The console script ``diffcls COMMAND …``; the same as ``python -m diffcls.COMMAND …``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:10} {SUMMARIES[name]}" for name in COMMANDS]
        lines = ["usage: diffcls COMMAND …", "", "commands:", *lines, ""]
        lines.append("`diffcls COMMAND --help` says what each takes.")
        print("\n".join(lines), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        import diffcls

        print(f"diffcls {diffcls.__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        print(f"diffcls: {unknown_name('command', arguments[0], COMMANDS)}", file=sys.stderr)
        return 2
    command: Callable[[Sequence[str]], int] = COMMANDS.load(arguments[0])
    return command(arguments[1:])


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
        onwards = "; the same command goes on from here" if resumes else ""
        print(f"\ndiffcls: stopped{onwards}", file=sys.stderr)
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
