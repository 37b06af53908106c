"""``python -m benchmarks.generation.fidelity``: does a better generator classify better?

Writes ``results/fidelity.csv``, ``led.csv``, ``FIDELITY.md`` and ``fidelity.png``: fidelity,
likelihood and accuracy of the small models over guidance and over training, and how often an
independent classifier names the class that samples of a model asked for none were led to. The
models over training are the snapshots that ``python -m diffcls.train --dataset fashion_mnist
--model pixels`` leaves. What leads (``--model classifier``), and the model without classes that is
led (``--model pixels --no-conditional``), come with the package, or are taken from where they were
trained.
What each run said is kept in ``tables/generative``, so that a benchmark that was stopped goes on;
``--only`` leaves the rows of the other data sets as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.core import flags as asked
from benchmarks.core.flags import said_by
from benchmarks.generation.fidelity_report import write
from diffcls.cli import command
from diffcls.data import catalog
from diffcls.runs import fidelity_table
from diffcls.support.errors import UsageError
from diffcls.support.files import write_text
from diffcls.support.hashing import content_hash

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
WEIGHTS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Of the classifier's gradient."""
COUNT = 2000
OVER_TRAINING = {"count": 512, "bounded": 100, "classified": 300}
"""Images of each figure at each point of the training, whose pixels cost far more than latents."""
BOUNDED = 200
LED = 40
"""Samples a class that are led, at each weight."""


@dataclass(frozen=True)
class Measured:
    """What is measured of a data set.

    Args:
        dataset: its name, which is also that of its text-to-image model.
        pixels: its model of pixels, whose training is followed; None: that is left out.
        led: its model of pixels that knows no classes.
        bundled: further models of it that come with the package.
    """

    dataset: str
    pixels: str | None = None
    led: str | None = None
    bundled: tuple[str, ...] = ()


BENCHMARKS = (
    Measured("digits", bundled=("digits-pixels",)),
    Measured("fashion_mnist", "fashion_mnist-pixels", "fashion_mnist-pixels-unconditional"),
    Measured("cifar10"),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = asked.parser("generative", __doc__.splitlines()[0])
    p.add_argument("--models", default="models", metavar="DIR", help="where trainings lie (models)")
    flags = p.parse_args(arguments)
    chosen = asked.chosen(flags, BENCHMARKS)
    output = Path(flags.output_dir)
    for one in chosen:
        _check_trained(one, Path(flags.models))
    runs = [run for one in chosen for run in _runs(one, flags)]
    with ThreadPoolExecutor(flags.jobs) as pool:
        said = list(pool.map(lambda run: _run(run, flags), runs))
    _put(output / "fidelity.csv", runs, said)
    accuracy = _accuracies(runs, said)
    _put_accuracy(output / "fidelity.csv", accuracy)
    led = [row for one in chosen if one.led for row in _led(one, flags)]
    write(fidelity_table.read(output / "fidelity.csv"), led, output, OVER_TRAINING["classified"])
    return 0


def _check_trained(one: Measured, models: Path) -> None:
    """Before anything is measured: the trainings that it is about have to be there.

    Raises:
        UsageError: where one is not.
    """
    if one.pixels is None:
        return
    _snapshots(models / one.pixels)


def _trained(name: str, models: Path) -> str:
    """The model as it was trained there, or else as it comes with the package."""
    from diffcls.models.loading import CARD

    return str(models / name) if (models / name / CARD).is_file() else name


@dataclass(frozen=True)
class Run:
    """A command and its arguments.

    Args:
        command: of the package.
        model: whose row it is about.
        arguments: beside those that all runs share.
    """

    command: str
    model: str
    arguments: tuple[str, ...]


def _runs(one: Measured, flags: Any) -> list[Run]:
    guidance = ("--guidance", *map(str, GUIDANCE))
    guidance = (*guidance, "--extractor", catalog.find(one.dataset).clip)
    found = [
        Run("fidelity", one.dataset, (*guidance, "--count", str(COUNT))),
        Run("evaluate", one.dataset, ("--dataset", one.dataset, "--limit", "500")),
    ]
    for model in (one.dataset, *one.bundled):
        found.append(Run("likelihood", model, ("--limit", str(BOUNDED))))
    for model in one.bundled:
        found.append(Run("fidelity", model, (*guidance, "--count", str(COUNT))))
        found.append(Run("evaluate", model, ("--dataset", one.dataset, "--limit", "500")))
    if one.pixels is None:
        return found
    folders = _snapshots(Path(flags.models) / one.pixels)
    final = str(Path(flags.models) / one.pixels)
    found.append(Run("fidelity", final, (*guidance, "--count", str(OVER_TRAINING["count"]))))
    for model in [*folders, final]:
        asked = ("--count", str(OVER_TRAINING["count"]), *guidance[-2:])
        found.append(Run("fidelity", model, (*asked, "--metrics", "FID", "KID")))
        asked = ("--limit", str(OVER_TRAINING["bounded"]))
        found.append(Run("likelihood", model, asked))
        limit = ("--limit", str(OVER_TRAINING["classified"]))
        found.append(Run("evaluate", model, ("--dataset", one.dataset, *limit)))
    return found


def _snapshots(folder: Path) -> list[str]:
    """The snapshots of a training, averaged and not, after one part of it, two, four and so on."""
    found: dict[str, list[str]] = {}
    for path in sorted((folder / "training" / "snapshots").glob("*")):
        found.setdefault(path.name.split("-")[0], []).append(str(path))
    if not found:
        raise UsageError(
            "no snapshots of a training there",
            given=str(folder),
            todo=f"train it: python -m diffcls.train --model pixels --output-dir {folder.parent}",
        )
    of_part = list(found.values())
    doublings = [2**i - 1 for i in range(len(of_part).bit_length())]
    return [path for i in doublings for path in of_part[i]]


def _run(run: Run, flags: Any) -> Any:
    """What a run says, as JSON; each in a process of one thread."""
    output = Path(flags.output_dir)
    # the rows of snapshots are no part of the leaderboard
    place = output / "tables" if run.command == "evaluate" else output
    command = [sys.executable, "-m", f"diffcls.{run.command}", "--model", run.model]
    root = ["--data-root", flags.data_root] if flags.data_root else []
    shared = [*root, "--output-dir", str(place), "--threads", "1", "--json"]
    return _kept(
        output,
        content_hash(run.command, _as_it_is(run.model), *run.arguments),
        f"{run.command} {run.model}",
        lambda: said_by([*command, *run.arguments, *shared]),
    )


def _led(one: Measured, flags: Any) -> Any:
    models = [_trained(name, Path(flags.models)) for name in (str(one.led), f"noisy-{one.dataset}")]
    return _kept(
        Path(flags.output_dir),
        content_hash("led", one.dataset, *map(_as_it_is, models), f"{LED} {WEIGHTS}"),
        f"leading {models[0]} by {models[1]}",
        lambda: json.dumps(led_to_classes(one, flags), allow_nan=False),
    )


def _kept(output: Path, key: str, what: str, say: Callable[[], str]) -> Any:
    """What was said under that key, which is asked for where nothing is kept of it."""
    path = output / "tables" / "generative" / f"{key}.json"
    if not path.exists():
        print(f"begun: {what}", file=sys.stderr)
        text = say()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return json.loads(path.read_text(encoding="utf-8"))


def _as_it_is(model: str) -> str:
    """The card of a model that was trained here, so that another one is measured anew."""
    from diffcls.models.loading import CARD

    card = Path(model) / CARD
    return card.read_text(encoding="utf-8") if card.is_file() else model


def _put(path: Path, runs: Sequence[Run], said: Sequence[Any]) -> None:
    """What was kept of an earlier benchmark is no row of this table yet."""
    rows: list[Any] = []
    for run, found in zip(runs, said, strict=True):
        if run.command != "evaluate":
            rows += found if isinstance(found, list) else [found]
    fidelity_table.put(path, rows)


def _accuracies(runs: Sequence[Run], said: Sequence[Any]) -> dict[tuple[str, str], float]:
    """Accuracy by the model and the data set as fidelity.csv names them."""
    names = {}
    for run, rows in zip(runs, said, strict=True):
        if run.command != "evaluate":
            row = rows[0] if run.command == "fidelity" else rows
            names[run.model] = (row["model"], row["dataset"])
    return {
        names[run.model]: float(rows[0]["accuracy"])
        for run, rows in zip(runs, said, strict=True)
        if run.command == "evaluate"
    }


def _put_accuracy(path: Path, accuracy: dict[tuple[str, str], float]) -> None:
    rows: list[dict[str, Any]] = []
    for row in fidelity_table.read(path):
        known = accuracy.get((row["model"], row["dataset"]))
        rows.append({**row, "accuracy": f"{known:.6g}" if known is not None else row["accuracy"]})
    fidelity_table.put(path, rows)


def led_to_classes(one: Measured, flags: Any) -> list[dict[str, Any]]:
    """How often samples of the model that knows no classes are of the class that they were led to.

    The judge is the data set's CLIP, which took no part.
    """
    import numpy as np
    import torch

    from diffcls.generation.classes import Guide, classes_of, lead_by
    from diffcls.generation.sample import sample
    from diffcls.metrics.statistics import wilson_interval
    from diffcls.models import feature_extractors, loading
    from diffcls.support.environment import denormals_flushed, set_threads

    set_threads(flags.jobs)
    denoiser = loading.load(_trained(str(one.led), Path(flags.models)))
    classes = classes_of(denoiser, one.dataset, flags.data_root)
    count = LED * len(classes.names)
    wanted = [i % len(classes.names) for i in range(count)]
    texts = [classes.texts[k] for k in wanted]
    name = catalog.find(one.dataset).clip
    judge = feature_extractors.load(name, classes.texts, range(len(classes.texts)), "cpu")
    classifier = _trained(f"noisy-{one.dataset}", Path(flags.models))
    rows = []
    for weight in WEIGHTS:
        lead = None
        if weight:
            guide = Guide("classifier", weight, classifier)
            lead = lead_by(guide, denoiser, classes, wanted, texts)
        with denormals_flushed():
            batches = sample(denoiser, [""] * count, range(count), scale=1.0, steps=50, lead=lead)
            images = torch.cat([batch.images for batch in batches])
        _, logits = judge.extract(images)
        right = int((logits.argmax(axis=1) == np.array(wanted)).sum())
        low, high = wilson_interval(right, count)
        rows.append(
            {
                "model": denoiser.card.name,
                "judge": name,
                "weight": weight,
                "n": count,
                "share": right / count,
                "ci_low": low,
                "ci_high": high,
                "by_chance": 1 / len(classes.names),
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
