"""``python -m diffcls.fidelity``: FID, KID, IS, precision and recall of generated images."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffcls.cli import command, parser_of
from diffcls.cli.flags import (
    add_machine,
    add_output,
    add_sampling,
    add_seed,
    add_source,
    add_workers,
    keywords,
)
from diffcls.generation.fidelity import FidelityResult, measurements
from diffcls.generation.fidelity_options import METRICS, FidelityOptions
from diffcls.generation.options import Interrupted
from diffcls.generation.samplers import DEFAULT
from diffcls.support.options import check_text, read
from diffcls.support.paths import expand

logger = logging.getLogger("diffcls.fidelity")  # also when this file is the program

EPILOG = """Real images are those of --real, or of a split; generated images those of --generated,
or as many from the model, equally many of each class. Every value names its feature extractor:
FID[clip-digits-128] is not the published FID, which is on one Inception network,
FID[inception-v3-compat-2048]. Values of different extractors, or of different numbers of images,
cannot be compared.

examples:
  python -m diffcls.fidelity
  python -m diffcls.fidelity --model fashion_mnist --data-root data --count 2000
  python -m diffcls.fidelity --guidance 1 2 4 --metrics FID precision recall
  python -m diffcls.fidelity --real photos --generated samples --extractor inception

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; `FidelityOptions` documents them."""
    p = parser_of(
        "fidelity",
        "How close generated images are to real ones.",
        EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    add = p.add_argument_group("images").add_argument
    add("--real", metavar="DIR", help="folder of real images, instead of a split")
    add("--generated", metavar="DIR", help="folder of generated images, instead of a model")
    add_source(add, "digits")
    add("--split", metavar="NAME", help="split of the data set (test)")
    count = "real and generated images (all of a folder; else those of the split, 2000 at most)"
    add("--count", type=int, metavar="N", help=count)
    add = p.add_argument_group("measurement").add_argument
    add("--metrics", nargs="+", metavar="M", help=f"{' '.join(METRICS)} (all)")
    extractor = "feature extractor: inception (if its weights are installed), or a CLIP"
    add("--extractor", metavar="NAME", help=extractor)
    weights = "weights of classifier-free guidance, one or more (2)"
    add("--guidance", type=float, nargs="+", metavar="W", help=weights)
    add_sampling(add, DEFAULT)
    add_seed(add)
    add_machine(add, 64)
    add_workers(add)
    add_output(p, "results", "folder of fidelity.csv")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    flags.cache_dir = flags.output_dir
    check_text("--output-dir", flags.output_dir)
    options = read(FidelityOptions, keywords(flags, FidelityOptions))
    if options.extractor not in (None, "inception"):
        from diffcls.models import clip

        clip.check_name(str(options.extractor))
    elif options.extractor is not None:
        from diffcls.models import feature_extractors

        feature_extractors.check_name(options.extractor)

    from diffcls.runs import fidelity_table

    table = expand(Path(flags.output_dir)) / "fidelity.csv"
    fidelity_table.check(table)
    results: list[FidelityResult] = []
    status = 0
    try:
        for result in measurements(options):
            fidelity_table.put(table, result.rows())  # each at once: an interruption keeps it
            results.append(result)
            _print(flags, result)
    except Interrupted as stop:
        status = 130
        results.append(stop.result)
        _print(flags, stop.result)
        n, requested = stop.result.n, stop.result.n_real
        logger.warning("interrupted at %d of %d images; these are not written", n, requested)
    if flags.json:
        rows = [_json(row, result) for result in results for row in result.rows()]
        print(json.dumps(rows, indent=2, allow_nan=False))
    elif status == 0:
        print(f"complete: {table}")
    return status


def _print(flags: argparse.Namespace, result: FidelityResult) -> None:
    if flags.json:
        return
    split = f" ({result.split})" if result.split else ""
    guidance = "" if result.guidance is None else f", guidance {result.guidance:g}"
    counts = f"{result.n:,} generated and {result.n_real:,} real images"
    print(f"{result.model} on {result.dataset}{split}{guidance}, {counts}")
    for metric in result.metrics:
        error = "" if math.isnan(metric.stderr) else f" ± {metric.stderr:.4f}"
        print(f"  {metric.name}[{result.extractor}] {metric.value:.4f}{error}")


def _json(row: dict[str, Any], result: FidelityResult) -> dict[str, Any]:
    """A row without NaN, which JSON has not."""
    plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
    return {**plain, "n_real": result.n_real, "status": result.status}


if __name__ == "__main__":
    sys.exit(main())
