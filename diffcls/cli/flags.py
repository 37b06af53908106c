"""Flags that the commands about one model share, and the model that they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from diffcls.cli import Parser

if TYPE_CHECKING:
    from diffcls.models.denoiser import Denoiser

Add = Callable[..., Any]
"""An argument group's `add_argument`."""


def add_source(add: Add, model: str) -> None:
    """``--model --dataset --data-root``.

    Args:
        add: of the group.
        model: the default one, which must be bundled.
    """
    add("--model", default=model, metavar="NAME|PATH|ID", help=f"({model})")
    add("--dataset", metavar="NAME", help="(the one that the model was trained on)")
    add("--data-root", metavar="DIR", help="where local data lie")


def add_machine(add: Add, batch_size: int) -> None:
    """``--device --batch-size --threads``.

    Args:
        add: of the group.
        batch_size: the default one.
    """
    add("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
    says = f"rows of a forward ({batch_size})"
    add("--batch-size", type=int, default=batch_size, metavar="N", help=says)
    add("--threads", type=int, metavar="N", help="CPU threads (torch's choice)")


def add_output(p: Parser, folder: str, says: str) -> Add:
    """The group of ``--output-dir --json --quiet``.

    Args:
        p: the command's parser.
        folder: the default one.
        says: what it is.

    Returns:
        The group's `add_argument`, for what a command leaves beside.
    """
    add = p.add_argument_group("what it leaves").add_argument
    add("--output-dir", default=folder, metavar="DIR", help=f"{says} ({folder})")
    add("--json", action="store_true", help="machine output on stdout")
    add("--quiet", action="store_true", help="no progress")
    return add


@contextmanager
def opened(flags: argparse.Namespace, dtype: str = "auto") -> Iterator[Denoiser]:
    """The model of the flags on its device, with the threads that they ask for.

    Args:
        flags: of `add_source` and `add_machine`.
        dtype: of its weights, or ``auto``: what suits the device.

    Raises:
        UsageError, ModelError: for a model, device or number of threads that cannot be had.
    """
    from diffcls.models import devices, loading
    from diffcls.support.environment import denormals_flushed, set_threads

    loading.check_name(flags.model)
    set_threads(flags.threads)
    with denormals_flushed():
        device = devices.resolve_device(flags.device)
        yield loading.load(flags.model, device, devices.resolve_dtype(dtype))
