"""``python -m diffcls.learn_concept``: learn a class from a few images."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.cli.flags import add_machine, add_output, add_seed, keywords
from diffcls.concepts.options import ConceptOptions
from diffcls.support.options import read
from diffcls.support.redaction import redacted
from diffcls.support.text import valid_text

EPILOG = """The concept is written to OUTPUT_DIR, in the formats of diffusers and peft:
  learned_embeds.safetensors         textual, discriminative: load_textual_inversion reads it
  pytorch_lora_weights.safetensors   dreambooth: load_lora_weights reads it
  concept.json, README.md            card, with the hashes of the images

An interrupted learning resumes from its last checkpoint with the same command, to the same weights.

examples:
  python -m diffcls.learn_concept --images mugs --name "<my-mug>" --init mug --model sd2-base
  python -m diffcls.evaluate --dataset folder:photos --model sd2-base --concept concept=mug

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `diffcls.concepts.options.ConceptOptions` documents them."""
    p = parser_of(
        "learn_concept",
        "Learn a class from a few images: a new word of a text-to-image model.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument_group("concept and model").add_argument
    add("--images", required=True, metavar="DIR", help="folder of images that show the concept")
    add("--name", required=True, metavar="NAME", help='new word, in angle brackets: "<my-mug>"')
    add(
        "--init",
        metavar="WORDS",
        help="words to start from; dreambooth: the class (mean embedding)",
    )
    add("--model", metavar="NAME|PATH|ID", help="text-to-image diffusion model (digits)")
    add("--img-size", type=int, metavar="PX", help="side of the images (default: the model's)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (float32 on a CPU)")
    add = p.add_argument_group("learning").add_argument
    add("--method", metavar="M", help="textual (default), discriminative or dreambooth")
    add("--vectors", type=int, metavar="N", help="number of embeddings (4)")
    add("--rank", type=int, metavar="N", help="dreambooth: rank of the LoRA (8)")
    layers = "dreambooth: attention, or blocks: its convolutions as well (attention)"
    add("--lora-layers", metavar="L", help=layers)
    prior = "dreambooth: generated images of the preserved classes (32)"
    add("--prior-images", type=int, metavar="N", help=prior)
    against = "discriminative, dreambooth: names of the classes that compete with the concept"
    add("--against", nargs="+", metavar="NAME", help=against)
    add("--against-images", metavar="DIR", help="discriminative: images of other classes")
    add("--augment", type=int, metavar="N", help="changed copies of each image to learn from (0)")
    add("--template", nargs="+", metavar="T", help="prompt templates with {} (neutral ones)")
    add("--steps", type=int, metavar="N", help="steps of the optimiser (the method's)")
    add("--learning-rate", type=float, metavar="R", help="peak learning rate (the method's)")
    add_seed(add, "all random choices")
    add_machine(add, "the method's", "images per step")
    add_output(p, "concept", "folder of the concept")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    options = read(ConceptOptions, keywords(flags, ConceptOptions))
    words = ["python", "-m", "diffcls.learn_concept", *arguments]
    options = replace(options, command=redacted(valid_text(shlex.join(words))))
    from diffcls.concepts.learn import check, learn_concept

    check(options)  # refuse before anything heavy is imported
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(options.threads)
    with denormals_flushed():
        card = learn_concept(options)
    if options.json:
        print(json.dumps(card, indent=2, allow_nan=False))
    else:
        print("\n".join(_report(options, card)))
    return 0


def _report(options: ConceptOptions, card: dict[str, Any]) -> list[str]:
    # of the last phase: an earlier one has another loss
    curve = card["curves"].get([*card["phases"]][-1])
    loss = f", loss {curve[-1]['loss']:.4f}" if curve else ""
    return [
        f"{options.output_dir}: {card['name']}, learned from {card['images']['count']} images in "
        f"{card['seconds']:g} s{loss}",
        f"evaluate it: python -m diffcls.evaluate --model {shlex.quote(options.model)} "
        f"--concept {shlex.quote(options.output_dir)}",
    ]


if __name__ == "__main__":
    sys.exit(main())
