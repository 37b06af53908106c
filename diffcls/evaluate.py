"""``python -m diffcls.evaluate``: evaluate classifiers on a data set."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from diffcls.cli import OneOrMore, command, parser_of
from diffcls.cli.flags import rows
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.options import flag_of

DEFAULTS = EvaluationOptions()
PUBLISHED_WITHOUT_EFFECT = ("extra", "load_stats")
"""Flags of the published script: a run is known by its fingerprint, and always resumes."""
METHODS = "one or more of diffusion (default), clip, sd-features, features, synthetic, reference"
SEARCHES = "racing (default), paper, exhaustive, halving, tree, gradient or propose"

EPILOG = """examples:
  python -m diffcls.evaluate                            the bundled digits
  python -m diffcls.evaluate --limit 100 --search exhaustive --draws 50
  python -m diffcls.evaluate --dataset folder:photos --model path/to/pipeline
  python -m diffcls.evaluate --dataset pets --model sd2-base --search paper
  python -m diffcls.evaluate --dataset pets --data-root data --limit 100 --budget 2h
  python -m diffcls.evaluate --dataset digits pets --model sd2-base sd15 --seed 0 1 2

exit status: 0 done, also a shard that finished its part; 1 failed or partial, 2 bad usage or input,
130 interrupted; after 1 and 130 rerun the same command to resume."""


def parser() -> argparse.ArgumentParser:
    """The command's flags; they are documented in
    `diffcls.evaluation.options.EvaluationOptions`.
    """
    description = "Evaluate a classifier on a data set: accuracy with its interval, and its cost."
    p = parser_of("evaluate", description, EPILOG, argument_default=argparse.SUPPRESS)
    add = p.add_argument_group("data and prompts").add_argument
    several: dict[str, Any] = {"action": OneOrMore}  # every combination is a run
    names = "one or more: a name, folder:PATH, parquet:PATH or hf:ID (digits)"
    add("--dataset", metavar="NAME", help=names, **several)
    add("--split", help="split of the data set (default: test)")
    add("--data-root", metavar="DIR", help="folder of local data: the set's own or its parent")
    add("--image-column", metavar="C", help="image column of tables (default: found by its name)")
    add("--label-column", metavar="C", help="label column of tables (default: found by its name)")
    add("--limit", type=int, metavar="N", help="a stratified sample of N images")
    add("--subset", metavar="NAME", help="a named subset: N-per-class")
    add("--indices", "--subset-path", metavar="FILE", help="positions in the split, or .npy")
    add("--prompts", "--prompt-path", metavar="FILE", help="CSV: prompt, classidx[, classname]")
    add("--classnames", metavar="FILE", help="names of the classes of own data: lines or a CSV")
    add("--template", nargs="+", metavar="T", help="prompt templates with {}")
    add("--ensemble", metavar="E", help="imagenet80, imagenet7, siglip or siglip81")
    add("--aggregate", metavar="A", help="prompts of a class: classes (mean) or prompts (best)")
    add("--vote", metavar="V", help="aggregation of draws: mean (default), rank or majority")
    add("--reject", action="store_true", help="withhold a third of the labels: none of these")
    add("--multi-label", action="store_true", help="decide each label by itself: scenes/relations")
    add("--background-prompt", metavar="TEXT", help="of both, instead of the empty prompt")
    add = p.add_argument_group("model, method and search").add_argument
    names = "one or more: a name, pipeline folder, file, or ID[@revision]"
    add("--model", metavar="NAME|PATH|ID", help=names, **several)
    add("--clip-model", metavar="NAME", help="CLIP of clip and propose: a name, ARCH/TAG or folder")
    add("--backbone", metavar="NAME", help="of features: a name of timm, ARCH/FILE or folder")
    add(
        "--reference",
        metavar="KIND",
        help="kind of reference: classifier (default), nearest-mean or chance",
    )
    add(
        "--guidance",
        type=float,
        metavar="W",
        help="of synthetic: classifier-free guidance (default: 2)",
    )
    add("--images-per-class", type=int, metavar="N", help="of synthetic: generated images")
    add("--version", metavar="V", help="version of Stable Diffusion, as published: 1-4 … 2-1")
    add("--model-config", metavar="ID|DIR", help="configuration of a single-file model")
    add("--lora", metavar="FILE[:W]", help="LoRA weights to merge, with their weight (1)")
    add("--class-ids", metavar="FILE", help="CSV: classidx, classid; for class-conditional models")
    add("--check-model", action=argparse.BooleanOptionalAction, help="self-test at load (on)")
    add("--method", nargs="+", metavar="M", help=METHODS)
    add("--search", metavar="S", help=SEARCHES)
    add("--draws", type=int, metavar="N", help="(timestep, noise) draws per class at most")
    add("--confidence", type=float, metavar="P", help="of racing: confidence, between 0 and 1")
    add("--max-evaluations", type=int, metavar="N", help="of racing: evaluations per image at most")
    add(
        "--candidates",
        type=int,
        metavar="N",
        help="of tree, gradient, propose: size of the shortlist",
    )
    add("--stages", nargs="+", metavar="N:K", help="of paper: samples:kept, stage by stage")
    add("--n-samples", nargs="+", type=int, metavar="N", help="the same, as published")
    add("--to-keep", nargs="+", type=int, metavar="K", help="the same, as published")
    add("--n-trials", type=int, metavar="N", help="of paper: noises per timestep (1)")
    add(
        "--loss",
        metavar="L",
        help="l2, l1, huber, vlb or l2+vlb (default: l2; paper: as published)",
    )
    add("--weighting", metavar="W", help="weighting over time: a name or learned file (uniform)")
    add("--allocation", metavar="A", help="of draws over time: even, a name or a learned file")
    add("--img-size", type=int, metavar="PX", help="side of the images (default: the model's)")
    add(
        "--interpolation",
        metavar="I",
        help="bicubic, bilinear, lanczos or adm (default: the model's)",
    )
    seeds = "one or more seeds of the noise (default: 0)"
    add("--seed", type=int, metavar="N", help=seeds, **several)
    add("--noise-path", metavar="FILE", help="noise of the first draws, .safetensors or .pt")
    add = p.add_argument_group("execution").add_argument
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    add("--batch-size", "-b", type=rows, metavar="N", help="rows of a forward pass, or auto")
    add("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--shard", metavar="i/n", help="only every n-th image from the i-th, i from 0")
    add("--n-workers", type=int, metavar="n", help="the same, as published")
    add("--worker-idx", type=int, metavar="i", help="the same, as published")
    add("--budget", metavar="TIME", help="fit images and draws to a time: 90m, 2h, 1h30m")
    add = p.add_argument_group("output").add_argument
    add("--output-dir", metavar="DIR", help="the one folder written to (default: results)")
    add("--save-errors", metavar="DIR", help="write the error table of each image as one .npz")
    add(
        "--dry-run",
        action="store_true",
        help="print the resolved specification and cost, and stop",
    )
    add("--json", action="store_true", help="machine output on stdout")
    add("--published", action="store_true", help="print the published figures after the rows")
    add("--quiet", action="store_true", help="no progress")
    add("--extra", metavar="TEXT", help="as published; a note without effect here")
    add("--load-stats", action="store_true", help="as published; runs always resume here")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    options = vars(parser().parse_args(arguments))
    command = shlex.join(["python", "-m", "diffcls.evaluate", *arguments])

    from diffcls.evaluation.multi_label import describe
    from diffcls.evaluation.results import failed_images, warn
    from diffcls.evaluation.run import FailedRuns, run_evaluation

    without_effect = [flag_of(name) for name in PUBLISHED_WITHOUT_EFFECT if name in options]
    if without_effect:
        warn(f"{' '.join(without_effect)}: accepted as published, without effect here")
    failures: dict[str, str] = {}
    try:
        table = run_evaluation(**options, command=command)
    except FailedRuns as error:
        table, failures = error.rows, error.failures
    if options.get("json") or options.get("dry_run"):
        print(json.dumps(table, indent=2, allow_nan=False))
    elif options.get("multi_label"):
        print("\n".join(describe(table)))
    else:
        _report(table, options.get("output_dir", DEFAULTS.output_dir))
    for row in table:
        if row.get("source") == "measured" and failed_images(row):
            warn(f"{failed_images(row)} images could not be scored; their records say why")
    for run, message in failures.items():
        warn(f"failed: {run}: {message}")
    return 1 if failures else 0


def _report(rows: list[dict[str, object]], output_dir: str) -> None:
    from diffcls.reports.terminal import format_summary, format_table

    print(format_table(rows))
    if summary := format_summary(rows):
        print(f"\n{summary}\n")
    for row in (row for row in rows if row["source"] == "measured"):
        print(f"{row['status']}: {output_dir}/leaderboard.csv, fingerprint {row['fingerprint']}")


if __name__ == "__main__":
    sys.exit(main())
