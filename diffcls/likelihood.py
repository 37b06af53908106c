"""``python -m diffcls.likelihood``: the variational bound of images under a diffusion model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from diffcls.cli import command, parser_of
from diffcls.cli.flags import (
    add_alias,
    add_machine,
    add_output,
    add_seed,
    add_source,
    keywords,
)
from diffcls.generation.dataset_likelihood import (
    LikelihoodOptions,
    LikelihoodResult,
    estimate_likelihood,
)
from diffcls.generation.options import Interrupted
from diffcls.support.options import check_text, read
from diffcls.support.paths import expand

EPILOG = """For a model of pixels, the bound is on -log p of images of whole numbers from 0 to 255,
in bits per dimension. For a model of latents, it is on a density of latents, which depends on their
scale: the value is labelled so, and cannot be compared with another model's.

examples:
  python -m diffcls.likelihood
  python -m diffcls.likelihood --model fashion_mnist-pixels --data-root data --limit 1000
  python -m diffcls.likelihood --condition class --levels 100

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `LikelihoodOptions` documents them."""
    p = parser_of(
        "likelihood",
        "The variational bound on -log p of images, term by term.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument_group("model and data").add_argument
    add_source(add, "digits-pixels")
    add("--split", metavar="NAME", help="split of the data set (test)")
    add("--limit", type=int, metavar="N", help="images, a stratified sample (500)")
    add = p.add_argument_group("estimate").add_argument
    condition = "condition the model on none or on the class of each image (none)"
    add("--condition", metavar="C", help=condition)
    add_alias(add, "--told", "condition", type=lambda v: "none" if v == "nothing" else v)
    variance = "of the reverse step: small, large or learned (learned if the model learned it)"
    add("--variance", metavar="V", help=variance)
    add("--levels", type=int, metavar="N", help="timesteps evaluated per image (20)")
    add_seed(add)
    add_machine(add, 64)
    add_output(p, "results", "folder of fidelity.csv")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    check_text("--output-dir", flags.output_dir)
    read(LikelihoodOptions, keywords(flags, LikelihoodOptions))

    from diffcls.runs import fidelity_table

    table = expand(Path(flags.output_dir)) / "fidelity.csv"
    fidelity_table.check(table)
    try:
        result = estimate_likelihood(**keywords(flags, LikelihoodOptions))
    except Interrupted as stop:
        _print(flags, stop.result, table)
        return 130
    fidelity_table.put(table, [result.row()])
    _print(flags, result, table)
    return 0


def _print(flags: argparse.Namespace, result: LikelihoodResult, table: Path) -> None:
    terms = {"prior": result.prior, "steps": result.steps, "decoder": result.decoder}
    if flags.json:
        summary = {**result.row(), "terms": terms, "l_simple": result.l_simple}
        summary |= {"variance": result.variance, "status": result.status}
        summary["stderr"] = None if result.n < 2 else result.stderr
        print(json.dumps(summary, indent=2, allow_nan=False))
        return
    print(f"{result.model} on {result.dataset} ({result.split}), {result.n:,} images")
    print(f"  L_T       {result.prior:9.4f}   prior, which no training changes")
    evaluated = f"{result.levels} timesteps per image, {result.variance} variance"
    print(f"  sum L_t-1 {result.steps:9.4f}   {evaluated}")
    print(f"  L_0       {result.decoder:9.4f}   decoder")
    error = "" if result.n < 2 else f" ± {result.stderr:.4f}"
    print(f"  bound     {result.value:9.4f}{error} bits per dimension of {result.unit}")
    print(f"  L_simple  {result.l_simple:9.4f}   mean squared error of the noise")
    if result.is_latent:
        print("  a density of latents, not of images: not comparable with other models")
    if result.status == "complete":
        print(f"complete: {table}")
    else:
        print("interrupted: the images finished so far; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
