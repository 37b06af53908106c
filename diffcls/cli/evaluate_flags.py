"""Flags of ``python -m diffcls.evaluate``, in their groups."""

from __future__ import annotations

import argparse
from typing import Any

from diffcls.cli import OneOrMore, Parser
from diffcls.cli.flags import Add, add_workers, rows

METHODS = "one or more of diffusion (default), clip, sd-features, features, synthetic, reference"
SEARCHES = "racing (default), paper, exhaustive, halving, gradient, learned or propose"
SEVERAL: dict[str, Any] = {"action": OneOrMore}
"""Of a flag that takes several values: every combination is a run."""


def add_evaluate_flags(p: Parser) -> None:
    """Add all flags; they are documented in `diffcls.evaluation.options.EvaluationOptions`."""
    _add_data(p.add_argument_group("data and prompts").add_argument)
    add = p.add_argument_group("model, method and search").add_argument
    _add_model(add)
    _add_method(add)
    _add_execution(p.add_argument_group("execution").add_argument)
    _add_output(p.add_argument_group("output").add_argument)


def _add_data(add: Add) -> None:
    names = "one or more: a name, folder:PATH, parquet:PATH, hf:ID, webdataset:PATTERN (digits)"
    add("--dataset", metavar="NAME", help=names, **SEVERAL)
    add("--split", help="split of the data set (default: test)")
    add("--data-root", metavar="DIR", help="folder of local data: the set's own or its parent")
    add("--image-column", metavar="C", help="image column of tables (default: found by its name)")
    add("--label-column", metavar="C", help="label column of tables (default: found by its name)")
    add("--streaming", action="store_true", help="read the Hub's files in place, no download")
    add("--limit", type=int, metavar="N", help="a stratified sample of N images")
    add("--subset", metavar="NAME", help="a named subset: N-per-class")
    add("--indices", "--subset-path", metavar="FILE", help="positions in the split, or .npy")
    add("--prompts", "--prompt-path", metavar="FILE", help="CSV: prompt, classidx[, classname]")
    add("--classnames", metavar="FILE", help="names of the classes of own data: lines or a CSV")
    add("--template", nargs="+", metavar="T", help="prompt templates with {}")
    add("--ensemble", metavar="E", help="imagenet80, imagenet7, siglip or siglip81")
    several = "prompts of a class: classes (mean), prompts (best) or rotate (one per draw)"
    add("--aggregate", metavar="A", help=several)
    add("--vote", metavar="V", help="aggregation of draws: mean (default), log, rank or majority")
    add("--reject", action="store_true", help="withhold a third of the labels: none of these")
    add("--multi-label", action="store_true", help="decide each label by itself: scenes/relations")
    add("--background-prompt", metavar="TEXT", help="of both, instead of the empty prompt")


def _add_model(add: Add) -> None:
    names = "one or more: a name, pipeline folder, file, or ID[@revision]"
    add("--model", metavar="NAME|PATH|ID", help=names, **SEVERAL)
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
    kinds = "condition of each image: canny or soft edges, or maps:DIR of given maps"
    add("--control", metavar="KIND", help=kinds)
    names = "ControlNet of it: a name, folder or ID[@revision] (the model's bundled one)"
    add("--control-model", metavar="NAME|PATH|ID", help=names)
    add("--variant", metavar="NAME", help="weights to read where a part has several (non_ema)")
    add("--lora", metavar="FILE[:W]", help="LoRA weights to merge, with their weight (1)")
    concept = "learned concepts: DIR, FILE, or either with =LABEL, the class that it stands for"
    add("--concept", nargs="+", metavar="DIR[=LABEL]", help=concept)
    add("--class-ids", metavar="FILE", help="CSV: classidx, classid; for class-conditional models")
    add("--check-model", action=argparse.BooleanOptionalAction, help="self-test at load (on)")


def _add_method(add: Add) -> None:
    add("--method", nargs="+", metavar="M", help=METHODS)
    add("--search", metavar="S", help=SEARCHES)
    add("--draws", type=int, metavar="N", help="(timestep, noise) draws per class at most")
    add("--confidence", type=float, metavar="P", help="of racing: confidence, between 0 and 1")
    add("--max-evaluations", type=int, metavar="N", help="of racing: evaluations per image at most")
    add("--candidates", type=int, metavar="N", help="of gradient, learned, propose: shortlist")
    add("--fit-images", type=int, metavar="N", help="of learned: unlabelled images (900)")
    add("--fit-classes", type=int, metavar="N", help="of learned: random classes on each (200)")
    add("--fit-folder", metavar="DIR", help="of learned: these images, not the training split")
    add("--fit", metavar="FILE", help="of learned: a stored fit of other classes")
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
    add("--class-bias", type=int, metavar="N", help="correct the classes on N unlabelled images")
    add("--combine", metavar="M", help="clip: the posterior times that of CLIP; a hybrid")
    add("--img-size", type=int, metavar="PX", help="side of the images (default: the model's)")
    add(
        "--interpolation",
        metavar="I",
        help="bicubic, bilinear, lanczos or adm (default: the model's)",
    )
    seeds = "one or more seeds of the noise (default: 0)"
    add("--seed", type=int, metavar="N", help=seeds, **SEVERAL)
    add("--noise-path", metavar="FILE", help="noise of the first draws, .safetensors or .pt")


def _add_execution(add: Add) -> None:
    add("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps (default: auto)")
    add("--dtype", metavar="T", help="float32, bfloat16 or float16 (default: float32 on a CPU)")
    add("--batch-size", "-b", type=rows, metavar="N", help="rows of a forward pass, or auto")
    add("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    add("--shard", metavar="i/n", help="only every n-th image from the i-th, i from 0")
    add("--n-workers", type=int, metavar="n", help="the same, as published")
    add("--worker-idx", type=int, metavar="i", help="the same, as published")
    add_workers(add)
    add("--offload", metavar="O", help="none (default), encoders or sequential: to main memory")
    add("--vae-slicing", action="store_true", help="encode images one by one: less memory")
    add("--vae-tiling", action="store_true", help="encode large images by tiles: approximate")
    add("--quantize", metavar="P:B", help="weights: text, network or all, then :8bit or :4bit")
    add("--device-map", metavar="M", help="balanced: spread the model over several GPUs")
    add("--compile", action="store_true", help="compile the network (torch.compile)")
    add("--check-memory", action=argparse.BooleanOptionalAction, help="refuse what cannot fit (on)")
    limit = "time limit of reading an image; 0: none (default: 60)"
    add("--read-timeout", type=float, metavar="SECONDS", help=limit)
    add("--budget", metavar="TIME", help="fit images and draws to a time: 90m, 2h, 1h30m")


def _add_output(add: Add) -> None:
    add("--output-dir", metavar="DIR", help="the one folder written to (default: results)")
    add("--save-errors", metavar="DIR", help="write the error table of each image as one .npz")
    add(
        "--dry-run",
        action="store_true",
        help="print the resolved specification and cost, and stop",
    )
    add("--report", action="store_true", help="write DIR/report.html about the runs at the end")
    add("--json", action="store_true", help="machine output on stdout")
    formats = "of --json: leaderboard (default), clip_benchmark or model-index"
    add("--json-format", metavar="F", help=formats)
    trackers = "one or more of tensorboard, wandb and mlflow: figures during the run"
    add("--log-to", nargs="+", metavar="T", help=trackers)
    add("--published", action="store_true", help="print the published figures after the rows")
    add("--quiet", action="store_true", help="no progress")
    add("--extra", metavar="TEXT", help="as published; a note without effect here")
    add("--load-stats", action="store_true", help="as published; runs always resume here")
