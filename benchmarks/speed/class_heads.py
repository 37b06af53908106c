"""Class-head benchmark: the errors of all classes from one forward pass.

A class-conditional network needs one forward pass per class. Here a copy of a bundled model's U-Net
is unconditional and has one small output head per class: head k is trained to predict the noise of
the images of class k, so one pass gives all K errors. Writes ``heads.csv`` and ``HEADS.md``:
accuracy and cost against the standard model, on the same images and draws.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.core.compare import records_of
from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import (
    SIX_DIGITS,
    environment_of,
    read_rows,
    record_environment,
    write_rows,
)
from benchmarks.speed.class_heads_network import relative_cost, table, train
from diffcls.data.option_use import root_for
from diffcls.support.files import write_text

TABLE = "heads.csv"
IMAGES = 256_000
"""Training images, in addition to those of the standard model."""
TESTED = 500
DRAWS = (1, 2, 4, 8, 16, 32)
DATASETS = ("digits", "fashion_mnist", "cifar10")
COLUMNS = (
    *("dataset", "network", "setting", "n", "accuracy", "ci_low", "ci_high"),
    *("forwards_per_image", "evaluations_worth", "mcnemar_p"),
)


def _main(arguments: list[str]) -> int:
    p = parser("class_heads", __doc__)
    add_data_root(p)
    add_report_only(p)
    p.add_argument("--dataset", nargs="+", default=["fashion_mnist"], choices=DATASETS)
    p.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"({IMAGES:,})")
    p.add_argument("--test-images", type=int, default=TESTED, metavar="N", help=f"({TESTED})")
    p.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        from diffcls.support.environment import denormals_flushed, set_threads

        set_threads(flags.threads)
        with denormals_flushed():
            rows = [row for name in flags.dataset for row in compare(name, flags)]
        write_rows(output / TABLE, rows, COLUMNS, SIX_DIGITS)
        record_environment(output, "class_heads", images=flags.images)
    write_page(read_rows(output / TABLE), output)
    return 0


main = entry_point(_main)


def compare(dataset: str, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of a data set: the standard model, then the heads at each number of draws."""
    from diffcls.data.load import load_dataset
    from diffcls.data.subsets import choose
    from diffcls.evaluation.run import run_evaluation
    from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
    from diffcls.models import loading
    from diffcls.training.stored_images import tensor_of

    output = Path(flags.output_dir)
    denoiser: Any = loading.load(dataset)
    network = train(dataset, denoiser, flags, output / "fits" / f"heads-{dataset}")
    chosen, _ = choose(load_dataset(dataset, "test", flags.data_root), flags.test_images)
    images, labels = tensor_of(chosen, denoiser.image_size)
    with torch.inference_mode():
        x0 = torch.cat([denoiser.encode_images(part) for part in images.split(100)])
    errors = table(network, denoiser, x0, max(DRAWS))

    standard = run_evaluation(
        dataset=dataset,
        data_root=root_for(dataset, flags.data_root),
        limit=flags.test_images,
        output_dir=str(output / "tables"),
        threads=flags.threads,
        command="python -m benchmarks.run class_heads",
    )[0]
    records = records_of(output / "tables", standard["fingerprint"])
    standard_correct = [records[item.image_id].ranking[0] == item.label for item in chosen.items]
    cost = relative_cost(network, denoiser)
    rows = [
        {
            "dataset": dataset,
            "network": "one pass per class",
            "setting": "racing",
            "n": len(labels),
            **{name: standard[name] for name in ("accuracy", "ci_low", "ci_high")},
            "forwards_per_image": standard["evaluations_per_image"],
            "evaluations_worth": standard["evaluations_per_image"],
        }
    ]
    for draws in DRAWS:
        correct = errors[:, :, :draws].mean(axis=2).argmin(axis=1) == np.array(labels)
        low, high = wilson_interval(int(correct.sum()), len(labels))
        rows.append(
            {
                "dataset": dataset,
                "network": "one pass for all",
                "setting": f"{draws} draws",
                "n": len(labels),
                "accuracy": float(correct.mean()),
                "ci_low": low,
                "ci_high": high,
                "forwards_per_image": draws,
                "evaluations_worth": draws * cost,
                "mcnemar_p": mcnemar_exact(correct.tolist(), standard_correct),
            }
        )
    return rows


def write_page(rows: list[dict[str, Any]], output: Path) -> None:
    """Write the page.

    Args:
        rows: rows of heads.csv.
        output: folder of the results, with the environment of the benchmark.
    """
    setup = environment_of(output, "class_heads")
    lines = [
        "# Class heads: all classes from one forward pass",
        "",
        "Written by `python -m benchmarks.run class_heads` from `heads.csv`. The standard model is "
        "conditioned on the class and run once per class and draw. The other network is "
        "unconditional and has one output head per class; it was fine-tuned from the standard "
        f"model's weights on {setup['images']:,} images. Same images and draws; p is McNemar's "
        "exact test against the standard model. The cost of a pass for all classes is relative "
        "to one evaluation of the standard model, both measured at batch size 64.",
        "",
        f"{setup['environment']}.",
        "",
        "| data set | network | setting | images | accuracy | 95 % interval | passes per image | "
        "cost, in evaluations | p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        p = f"{r['mcnemar_p']:.3g}" if r["mcnemar_p"] is not None else ""
        lines.append(
            f"| {r['dataset']} | {r['network']} | {r['setting']} | {r['n']} | "
            f"{r['accuracy']:.1%} | {r['ci_low']:.1%} to {r['ci_high']:.1%} | "
            f"{r['forwards_per_image']:.1f} | {r['evaluations_worth']:.1f} | {p} |"
        )
    write_text(output / "HEADS.md", "\n".join([*lines, ""]))
