"""``python -m diffcls.fidelity``: FID, KID, IS, precision and recall of a model's images."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffcls.cli import check_least, command, parser_of
from diffcls.cli.flags import add_machine, add_output, add_source, opened
from diffcls.generation.samplers import SAMPLERS
from diffcls.support.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from diffcls.data.dataset import Dataset
    from diffcls.generation.classes import Classes
    from diffcls.models.denoiser import Denoiser
    from diffcls.models.feature_extractors import Extractor
    from diffcls.support.cache import Arrays

logger = logging.getLogger("diffcls.fidelity")  # also where this file is the program

EPILOG = """Real images are those of a split, drawn ones as many, of all classes alike. What sees
them is named beside every figure: FID[clip-digits-128] is not the published FID, which is that of
one Inception network, FID[inception-v3-compat-2048]. Figures of different extractors, or of
different numbers of images, do not compare.

examples:
  python -m diffcls.fidelity
  python -m diffcls.fidelity --model fashion_mnist --data-root data --count 2000
  python -m diffcls.fidelity --guidance 1 2 4 --metrics FID precision recall

exit status: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""

METRICS = ("FID", "IS", "KID", "precision", "recall")
FEWEST = 10
"""Images of either kind that anything can be said of."""
MOST = 2000
"""Images of either kind where nobody says how many."""


def parser() -> argparse.ArgumentParser:
    """The command's flags."""
    p = parser_of(
        "fidelity",
        "How far the images that a model draws are from real ones.",
        EPILOG,
    )
    add = p.add_argument_group("of what").add_argument
    add_source(add, "digits")
    add("--split", default="test", metavar="NAME", help="whose images are the real ones (test)")
    add("--count", type=int, metavar="N", help="images of either kind (the split's, 2000 at most)")
    add = p.add_argument_group("how").add_argument
    add("--metrics", nargs="+", default=list(METRICS), metavar="M", help=" ".join(METRICS))
    add("--extractor", metavar="NAME", help="inception (where its weights are), or a CLIP")
    add("--guidance", type=float, nargs="+", default=[2.0], metavar="W", help="one or more (2)")
    add("--sampler", default="dpm++", metavar="S", help="as of generate (dpm++)")
    add("--steps", type=int, default=25, metavar="N", help="of the sampler (25)")
    add("--seed", type=int, default=0, metavar="N", help="keys all noise (0)")
    add_machine(add, 64)
    add_output(p, "results", "of fidelity.csv")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv, resumes=False)


def _main(arguments: list[str]) -> int:
    flags = parser().parse_args(arguments)
    _check(flags)

    with opened(flags) as denoiser:
        said, stopped = _measured(flags, denoiser)
    if flags.json:
        print(json.dumps([_plain(row) for row in said], indent=2, allow_nan=False))
    elif not stopped:
        print(f"complete: {_table(flags)}")
    return 130 if stopped else 0


def _named(flags: argparse.Namespace, denoiser: Denoiser) -> str:
    """The model, and what of its drawing the table has no column for."""
    told = {flags.sampler: flags.sampler != "dpm++", f"seed {flags.seed}": flags.seed != 0}
    unusual = ", ".join(name for name, is_unusual in told.items() if is_unusual)
    return f"{denoiser.card.name} ({unusual})" if unusual else denoiser.card.name


def _table(flags: argparse.Namespace) -> Path:
    return Path(flags.output_dir) / "fidelity.csv"


def _measured(flags: argparse.Namespace, denoiser: Denoiser) -> tuple[list[dict[str, Any]], bool]:
    """All rows, each written as soon as it is there; and whether somebody stopped it.

    Then the last rows are of the images that were there, and are not written: the table's are of
    as many as were asked for.
    """
    from diffcls.data.load import load_dataset
    from diffcls.generation import samplers
    from diffcls.generation.classes import classes_of, dataset_of
    from diffcls.generation.sample import find_sampler
    from diffcls.models.loading import images_seen
    from diffcls.runs import fidelity_table

    find_sampler(flags.sampler, denoiser)
    samplers.path_of(denoiser.schedule, flags.steps)
    dataset = dataset_of(denoiser, flags.dataset)
    data = load_dataset(dataset, flags.split, flags.data_root)
    classes = classes_of(denoiser, dataset, flags.data_root, data)
    extractor = _extractor(flags, classes, str(denoiser.device))
    fidelity_table.check(_table(flags))
    real = _real(flags, extractor, dataset, data, denoiser.image_size)
    count = len(real["features"])
    if count < FEWEST:
        raise UsageError("too few images to compare", count, f"{FEWEST} or more in the split")
    _warn(flags, count, extractor)
    told = {
        "model": _named(flags, denoiser),
        "dataset": data.name,
        "split": flags.split,
        "extractor": extractor.name,
        "n": count,
        "steps": flags.steps,
        "training_images": images_seen(flags.model),
    }
    said = []
    # of a model that takes no condition there is nothing to guide by
    for guidance in [1.0] if denoiser.labels == () else flags.guidance:
        drawn = _drawn(flags, extractor, denoiser, classes, guidance, count)
        stopped = len(drawn["features"]) < count
        told["n"] = len(drawn["features"])
        found = measure(flags.metrics, real, drawn)
        rows = [{**told, **row, "guidance": guidance} for row in found]
        said += [{**row, "status": "partial"} for row in rows] if stopped else rows
        if not flags.json:
            _say(rows)
        if stopped:
            logger.warning("stopped at %d of %d images; these are not written", told["n"], count)
            return said, True
        # each as soon as it is there: whoever stops keeps what was finished
        fidelity_table.put(_table(flags), rows)
    return said, False


def _check(flags: argparse.Namespace) -> None:
    """Refuse what can be refused before a model is opened."""
    from diffcls.models import feature_extractors

    for name in flags.metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    if flags.sampler not in SAMPLERS:
        raise unknown_name("sampler", flags.sampler, SAMPLERS)
    check_least(flags, count=FEWEST, steps=1, batch_size=1)
    for value in flags.guidance:
        if not 0 <= value < math.inf:
            raise UsageError("--guidance out of range", value, "0 or more, finite")
    if flags.extractor is not None:
        feature_extractors.check_name(flags.extractor)


def _extractor(flags: argparse.Namespace, classes: Classes, device: str) -> Extractor:
    from diffcls.data import catalog
    from diffcls.models import feature_extractors

    name = flags.extractor or feature_extractors.default(catalog.find(classes.dataset).clip)
    return feature_extractors.load(name, classes.texts, range(len(classes.texts)), device)


def _warn(flags: argparse.Namespace, count: int, extractor: Extractor) -> None:
    from diffcls.metrics.generative import too_few

    few = too_few(count, extractor.width)
    if few and "FID" in flags.metrics:
        logger.warning(few)


def _real(
    flags: argparse.Namespace, extractor: Extractor, dataset: str, data: Dataset, size: int
) -> Arrays:
    """Features of the real images, kept under a hash of the data and of what saw them."""
    import numpy as np
    import torch

    from diffcls.data.subsets import choose
    from diffcls.data.transforms import load_image, to_pixels
    from diffcls.support.cache import fitted

    count = min(flags.count or MOST, len(data.items))
    chosen, subset = choose(data, count)

    def make() -> Arrays:
        pixels = [to_pixels(load_image(item.open()), size) for item in chosen.items]
        features, _ = extractor.extract(torch.from_numpy(np.stack(pixels)), flags.batch_size)
        return {"features": features, "labels": np.array([i.class_index for i in chosen.items])}

    defined_by = {
        "dataset": dataset,
        "split": flags.split,
        "data": data.revision,
        "subset": subset,
        "count": count,
        "size": size,
        "extractor": extractor.name,
        "weights": extractor.revision,
    }
    return fitted(flags.output_dir, "real", defined_by, make)


def _drawn(
    flags: argparse.Namespace,
    extractor: Extractor,
    denoiser: Denoiser,
    classes: Classes,
    guidance: float,
    count: int,
) -> Arrays:
    """Features, logits and classes of as many drawn images, evenly many of each class.

    Whoever stops it gets those that were drawn until then, if they are enough to say anything.
    """
    import numpy as np
    from tqdm import tqdm

    from diffcls.generation.sample import sample

    labels = np.arange(count) % len(classes.prompts)
    prompts = [classes.prompts[k] for k in labels]
    batches = sample(
        denoiser,
        prompts,
        range(count),
        seed=flags.seed,
        scale=guidance,
        steps=flags.steps,
        batch_size=flags.batch_size,
        sampler=flags.sampler,
    )
    features, logits = [], []
    silent = True if flags.quiet else None
    title = f"drawing, guidance {guidance:g}"
    with tqdm(total=count, desc=title, unit="img", disable=silent) as bar:
        try:
            for batch in batches:
                seen = extractor.extract(batch.images, flags.batch_size)
                features.append(seen[0])
                logits.append(seen[1])
                bar.update(len(batch.images))
        except KeyboardInterrupt:
            if sum(map(len, features)) < FEWEST:
                raise
    labels = labels[: sum(map(len, features))]
    found = {"features": np.concatenate(features), "logits": np.concatenate(logits)}
    # of a model that takes no condition nobody knows the classes
    return found if denoiser.labels == () else {**found, "labels": labels}


def measure(metrics: Sequence[str], real: Arrays, drawn: Arrays) -> list[dict[str, Any]]:
    """A row for each metric: its value and its standard error, where it has one.

    Args:
        metrics: of `METRICS`.
        real: ``features`` (n, d) and ``labels`` (n,).
        drawn: the same and ``logits`` (n, K); without ``labels`` where its classes came by chance.
    """
    from diffcls.metrics import generative

    x, y = real["features"], drawn["features"]
    rows: list[dict[str, Any]] = []
    if "FID" in metrics:
        value = generative.fid(generative.Statistics.of(x), generative.Statistics.of(y))
        rows.append({"metric": "FID", "value": value})
    if "IS" in metrics:
        score = generative.inception_score(drawn["logits"], min(10, len(y) // 10))
        rows.append({"metric": "IS", "value": score.value, "stderr": score.stderr})
    if "KID" in metrics:
        size = max(2, min(1000, len(y) // 2))
        classes = (real["labels"], drawn["labels"]) if "labels" in drawn else None
        found = generative.kid(x, y, subsets=50, size=size, classes=classes)
        rows.append({"metric": "KID", "value": found.value, "stderr": found.stderr})
    if {"precision", "recall"} & set(metrics):
        both = dict(zip(("precision", "recall"), generative.precision_recall(x, y), strict=True))
        rows += [{"metric": k, "value": v} for k, v in both.items() if k in metrics]
    return rows


def _say(rows: Sequence[dict[str, Any]]) -> None:
    first = rows[0]
    print(
        f"{first['model']} on {first['dataset']} ({first['split']}), guidance "
        f"{first['guidance']:g}, {first['n']:,} images of either kind"
    )
    for row in rows:
        error = row.get("stderr")
        spread = "" if error is None or error != error else f" ± {error:.4f}"
        print(f"  {row['metric']}[{row['extractor']}] {row['value']:.4f}{spread}")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON: null in its place."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}


if __name__ == "__main__":
    sys.exit(main())
