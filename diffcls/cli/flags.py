"""Flags that several commands share, and the options object that they fill."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffcls.cli import Parser
from diffcls.support.options import parse_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Add = Callable[..., Any]
"""`add_argument` of an argument group."""


def add_source(add: Add, model: str) -> None:
    """Add ``--model --dataset --data-root --streaming``.

    Args:
        add: `add_argument` of the group.
        model: the default model, which is bundled.
    """
    add("--model", metavar="NAME|PATH|ID", help=f"diffusion model ({model})")
    add("--dataset", metavar="NAME", help="data set (the model's training data set)")
    add("--data-root", metavar="DIR", help="folder of local data")
    add("--streaming", action="store_true", help="read the Hub's files in place, no download")


def add_sampling(add: Add, sampler: str) -> None:
    """Add ``--sampler --steps``.

    Args:
        add: `add_argument` of the group.
        sampler: the default sampler.
    """
    text = f"sampler, see generate --list-samplers ({sampler})"
    add("--sampler", metavar="S", help=text)
    add("--steps", type=int, metavar="N", help="steps of the sampler (25)")


def add_seed(add: Add, of: str = "all noise") -> None:
    """Add ``--seed``.

    Args:
        add: `add_argument` of the group.
        of: the random choices that the seed determines.
    """
    add("--seed", type=int, metavar="N", help=f"seed of {of} (0)")


def add_machine(add: Add, batch_size: int | str, unit: str = "rows per forward pass") -> None:
    """Add ``--device --batch-size --threads``.

    Args:
        add: `add_argument` of the group.
        batch_size: the default batch size, or where it comes from.
        unit: what the batch size counts.
    """
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--batch-size", type=int, metavar="N", help=f"{unit} ({batch_size})")
    add("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")


def add_workers(add: Add) -> None:
    """Add ``--executor --workers --address``."""
    add("--executor", metavar="E", help="serial (default), or ray: in workers on a Ray cluster")
    add("--workers", type=int, metavar="N", help="of ray: number of workers (one per GPU)")
    add("--address", metavar="A", help="of ray: HOST:PORT or auto (a cluster of its own)")


def add_one_image(add: Add, with_batch_size: bool = True) -> None:
    """Add what commands on one image share: size, place and precision of the model, and output.

    Args:
        add: ``add_argument`` of a parser.
        with_batch_size: whether the command has ``--batch-size``.
    """
    add("--img-size", type=int, metavar="PX", help="side of the images (default: the model's)")
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (float32 on a CPU)")
    if with_batch_size:
        add("--batch-size", type=int, metavar="N", help="rows per forward pass (64)")
    add("--output-dir", default="results", metavar="DIR", help="folder of the files (results)")
    add("--json", action="store_true", default=False, help="JSON on stdout")


def add_output(p: Parser, folder: str, description: str) -> Add:
    """Add the group of ``--output-dir --json --quiet``.

    Args:
        p: parser of the command.
        folder: the default output folder.
        description: what the folder is for.

    Returns:
        `add_argument` of the group, for further flags.
    """
    add = p.add_argument_group("output").add_argument
    add("--output-dir", default=folder, metavar="DIR", help=f"{description} ({folder})")
    add("--json", action="store_true", default=False, help="JSON on stdout")
    add("--quiet", action="store_true", help="no progress bar")
    return add


def add_alias(add: Add, old: str, dest: str, **options: Any) -> None:
    """Add a former spelling of a flag: accepted, but not shown in the help.

    Args:
        add: `add_argument` of the group.
        old: the former flag.
        dest: attribute of the current flag.
        options: further options of `add_argument`.
    """
    add(old, dest=dest, help=argparse.SUPPRESS, default=argparse.SUPPRESS, **options)


def rows(text: str) -> int | str:
    """The value of ``--batch-size``: a number of rows, or ``auto``."""
    if text == "auto":
        return text
    try:
        return parse_whole(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor auto") from None


def keywords(flags: argparse.Namespace, options: type[DataclassInstance]) -> dict[str, Any]:
    """The flags that were given and are fields of an options class, as keyword arguments.

    Args:
        flags: result of a parser with ``argument_default=argparse.SUPPRESS``, so that flags that
            were not given keep the defaults of the class.
        options: a dataclass whose fields have the names of the flags.
    """
    names = {field.name for field in dataclasses.fields(options)}
    return {name: value for name, value in vars(flags).items() if name in names}
