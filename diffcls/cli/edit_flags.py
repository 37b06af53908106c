"""Flags of ``python -m diffcls.edit``, in their groups."""

from __future__ import annotations

import argparse

from diffcls.cli import Parser
from diffcls.cli.flags import Add, add_one_image


def add_edit_flags(p: Parser) -> None:
    """Add all flags; they are documented by the options in `diffcls.editing.options`."""
    add = p.add_argument
    add("--image", required=True, metavar="IMAGE", help="path or http(s):// address of an image")
    model = "a text-to-image model with a U-Net (scenes); for --instruction an InstructPix2Pix "
    add("--model", metavar="NAME|PATH|ID", help=model + "(scenes-instruct)")
    steps = "levels of the path to noise and back (50); of --instruction, from noise (20)"
    add("--steps", type=int, metavar="N", help=steps)
    guidance = "guidance by the prompts or by the instruction (2); 1 is none"
    add("--guidance", type=float, metavar="W", help=guidance)
    _add_prompts(p.add_argument_group("by two prompts").add_argument)
    add = p.add_argument_group("by an instruction").add_argument
    add("--instruction", metavar="TEXT", help="what to change, such as: make the square blue")
    closer = "guidance by the image; 1 is none, more stays closer to it (1.5)"
    add("--image-guidance", type=float, metavar="W", help=closer)
    add("--seed", type=int, metavar="N", help="seed of the noise that it begins with (0)")
    add_one_image(p.add_argument_group("machine and output").add_argument, with_batch_size=False)


def _add_prompts(add: Add) -> None:
    add("--from", dest="source", metavar="TEXT", help="what the image shows")
    add("--to", dest="target", metavar="TEXT", help="what it is to show")
    strength = "share of the path that is edited; less keeps places and sizes (0.75)"
    add("--strength", type=float, metavar="S", help=strength)
    shares = "share of the steps in which {} are kept, 0 to 1 ({})"
    words = shares.format("the attention maps of words that stay", 0.8)
    add("--keep-words", type=float, metavar="S", help=words)
    layout = shares.format("the relations of positions to one another", 0.5)
    add("--keep-layout", type=float, metavar="S", help=layout)
    weight = "factors of the attention to words of the second prompt"
    add("--weight", nargs="+", metavar="WORD=F", help=weight)
    surroundings = "keep the image where both prompts agree about it (on)"
    switch = argparse.BooleanOptionalAction
    add("--keep-surroundings", action=switch, help=surroundings)
