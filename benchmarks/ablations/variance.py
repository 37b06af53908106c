"""``python -m benchmarks.ablations.variance``: ways to less noise between classes, at equal cost.

Read from the tables that ``python -m benchmarks.speed.searches`` saved, but for antithetic noise,
which is run. Writes ``results/VARIANCE.md``. A way is worth keeping where it is right more often
than the plain mean at equal cost on at least three benchmarks, and not by chance; what is not kept
stays here, measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.searches import BENCHMARKS, Measured, table_folder
from diffcls.cli import Parser, command
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.runs.error_tables import read_saved
from diffcls.search.exhaustive import Exhaustive

DRAWS = (6, 12, 24)
TRIMMED = 0.1
"""Part of the draws left out at either end."""
LEADER = 3
"""Draws of the leader, for each of a class, that a slope is fitted for."""
ENOUGH = 3
"""Benchmarks on which a way must be better to be kept."""
SURE = 0.05
"""The p of all benchmarks together below which a way is better at a cost."""
PAIRED_EVALUATIONS = 24_000
"""Of a benchmark, for each kind of pairs: 100 images of ten classes."""
FEWEST_PAIRED = 40
"""Images of a benchmark, however many classes there are."""

PAIRED = "antithetic noise, against noise of their own on the same timesteps"
SHIPPED = "antithetic noise, against the draws as they are shipped"

Errors = NDArray[np.float64]
Way = Callable[[Errors, int], NDArray[np.int64]]
"""((n, K, N) errors, draws a class that it may cost) -> (n,) predictions."""


def plain(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class of least mean error."""
    return np.asarray(errors[:, :, :draws].mean(axis=2).argmin(axis=1))


def by_rank(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class of least mean rank."""
    order = errors[:, :, :draws].argsort(axis=1).argsort(axis=1)
    return np.asarray(order.mean(axis=2).argmin(axis=1))


def trimmed(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class whose differences to the mean class are least, outlying draws left out."""
    from scipy.stats import trim_mean

    seen = errors[:, :, :draws]
    centred = seen - seen.mean(axis=1, keepdims=True)
    return np.asarray(trim_mean(centred, TRIMMED, axis=2).argmin(axis=1))


def by_slope(errors: Errors, draws: int) -> NDArray[np.int64]:
    """A fitted slope in place of 1: the leader's error is a control variate of all others.

        ê_k = ē_k − b_k·(ē_l − E_l),   b_k = cov(e_k, e_l)/var(e_l)

    E_l is the leader's mean over `LEADER` times as many draws, which the other classes pay for with
    fewer draws of their own.
    """
    classes = errors.shape[1]
    own = max(3, int(draws * classes / (classes + LEADER - 1)))
    more = min(errors.shape[2], LEADER * own)
    seen = errors[:, :, :own]
    best = seen.mean(axis=2).argmin(axis=1)
    rows = np.arange(len(errors))
    of_leader = seen[rows, best]  # (n, own)
    around = of_leader - of_leader.mean(axis=1, keepdims=True)
    slope = np.einsum("nkj,nj->nk", seen, around) / (around**2).sum(axis=1)[:, None]
    known = errors[rows, best, :more].mean(axis=1)
    found = seen.mean(axis=2) - slope * (of_leader.mean(axis=1) - known)[:, None]
    return np.asarray(found.argmin(axis=1))


WAYS: dict[str, Way] = {
    "rank": by_rank,
    f"trimmed by {TRIMMED:.0%} at either end": trimmed,
    "slope on the leader": by_slope,
}


@dataclass(frozen=True)
class Found:
    """One way against another one, at one cost, on one benchmark.

    Args:
        way: what is compared, with what.
        benchmark: name of the data set.
        draws: a class that either may cost.
        gained, lost: images that only the one, or only the other gets right.
        images: in all.
    """

    way: str
    benchmark: str
    draws: int
    gained: int
    lost: int
    images: int

    @property
    def gain(self) -> float:
        """In accuracy."""
        return (self.gained - self.lost) / self.images


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_main, argv)


def _main(arguments: list[str]) -> int:
    p = Parser(prog="benchmarks.ablations.variance", description=__doc__.splitlines()[0])
    p.add_argument("--output-dir", default="results", metavar="DIR")
    p.add_argument("--data-root", metavar="DIR", help="where local data lie")
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    found = [one for benchmark in BENCHMARKS for one in compare(benchmark, output)]
    for benchmark in BENCHMARKS:
        found += antithetic(benchmark, output, flags.data_root)
    text = "\n".join(page(found))
    (output / "VARIANCE.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def compare(one: Measured, output: Path) -> Iterator[Found]:
    """What is read from a benchmark's tables."""
    saved = read_saved(table_folder(one, output))
    errors = np.stack(saved.tables).astype(np.float64)
    labels = np.array(saved.labels)
    for draws in DRAWS:
        usual = plain(errors, draws) == labels
        for name, way in WAYS.items():
            yield _found(name, one.dataset, draws, usual, way(errors, draws) == labels)


def _found(way: str, benchmark: str, draws: int, usual: Any, other: Any) -> Found:
    gained, lost = int((other & ~usual).sum()), int((usual & ~other).sum())
    return Found(way, benchmark, draws, gained, lost, len(usual))


def together(found: Iterable[Found]) -> float:
    """McNemar's exact p over all of them."""
    gained, lost = (sum(v) for v in zip(*((o.gained, o.lost) for o in found), strict=True))
    return (
        mcnemar_exact([1] * gained + [0] * lost, [0] * gained + [1] * lost)
        if gained + lost
        else 1.0
    )


@dataclass(frozen=True)
class Pairs(Exhaustive):
    """Two draws a timestep."""

    def plan(self, length: int) -> NDArray[np.int64]:
        """(draws,) each timestep twice."""
        return np.repeat(super().plan(length), 2)[: self.draws]


def antithetic(one: Measured, output: Path, data_root: str | None) -> Iterator[Found]:
    """Pairs (t, ε), (t, −ε) against pairs of the same timesteps with noise of their own.

    And against the draws of the saved tables, each at a timestep of its own.
    """
    from diffcls.data import catalog
    from diffcls.data.load import load_dataset
    from diffcls.data.prompts import PromptSet
    from diffcls.data.subsets import choose
    from diffcls.models import loading

    spec = catalog.find(one.dataset)
    images = PAIRED_EVALUATIONS // max(DRAWS)
    data, _ = choose(load_dataset(one.dataset, "test", data_root), one.tabled)
    data, _ = choose(data, max(FEWEST_PAIRED, images // len(data.class_names)))
    prompts = PromptSet.from_templates(data.class_names, spec.templates, data.prompt_names)
    denoiser = loading.load(spec.model)
    labels = np.array([item.label for item in data.items])
    right: dict[bool, Errors] = {}
    with TemporaryDirectory() as folder:
        for turned in (False, True):
            path = _noise_file(Path(folder), denoiser.sample_shape, turned)
            right[turned] = _errors(denoiser, prompts, data.items, path)
    saved = read_saved(table_folder(one, output))
    table_of = dict(zip(saved.image_ids, saved.tables, strict=True))
    apart = np.stack([np.asarray(table_of[item.image_id], np.float64) for item in data.items])
    for draws in DRAWS:
        other = plain(right[True], draws) == labels
        for name, errors in ((PAIRED, right[False]), (SHIPPED, apart)):
            yield _found(name, one.dataset, draws, plain(errors, draws) == labels, other)


def _noise_file(folder: Path, shape: tuple[int, ...], turned: bool) -> str:
    """Noise for all draws; of a pair the second is the first one turned round, if so wished."""
    import torch
    from safetensors.torch import save_file

    from diffcls.diffusion.draws import noise

    made = [noise(0, j, shape) for j in range(max(DRAWS))]
    if turned:
        made[1::2] = [-first for first in made[::2]]
    path = folder / f"{turned}.safetensors"
    save_file({"noise": torch.stack(made)}, path)
    return str(path)


def _errors(denoiser: Any, prompts: Any, items: Any, noise_path: str) -> Errors:
    """(n, K, N) errors of every class on every draw."""
    from diffcls.classifiers.diffusion import DiffusionMethod

    method = DiffusionMethod(
        denoiser,
        prompts,
        Pairs(max(DRAWS)),
        noise_path=noise_path,
        keep_errors=True,
        allocation=denoiser.card.allocation,
    )
    found = {answer.image_id: answer.errors for answer in method.classify(items)}
    return np.stack([np.asarray(found[item.image_id], np.float64) for item in items])


def page(found: list[Found]) -> Iterator[str]:
    """The report."""
    benchmarks = list(dict.fromkeys(one.benchmark for one in found))
    yield from ("# Ways to less noise between classes", "")
    yield (
        "Written by `python -m benchmarks.ablations.variance`. Accuracy at equal cost, less that "
        "of the "
        "plain mean on the draws as they are shipped (or of what is named), in points, and the "
        "number of images; p is McNemar's exact test over all benchmarks. A way is worth keeping "
        f"where it is better on at least {ENOUGH} benchmarks, by its mean over the costs, and p is "
        f"below {SURE} at every cost."
    )
    yield from ("", f"| way | draws a class | {' | '.join(benchmarks)} | p |")
    yield "|---|---|" + "---|" * (len(benchmarks) + 1)
    for way in dict.fromkeys(one.way for one in found):
        mine = [one for one in found if one.way == way]
        for draws in DRAWS:
            at = [one for one in mine if one.draws == draws]
            cells = [f"{100 * one.gain:+.1f} ({one.images})" for one in at]
            yield f"| {way} | {draws} | {' | '.join(cells)} | {together(at):.3f} |"
    yield ""
    for way in dict.fromkeys(one.way for one in found):
        mine = [one for one in found if one.way == way]
        better = sum(
            np.mean([one.gain for one in mine if one.benchmark == name]) > 0 for name in benchmarks
        )
        worst = max(together(o for o in mine if o.draws == draws) for draws in DRAWS)
        verdict = "worth keeping" if better >= ENOUGH and worst < SURE else "not kept"
        yield f"- {way}: better on {better} of {len(benchmarks)}, p up to {worst:.3f}: {verdict}."
    yield ""


if __name__ == "__main__":
    sys.exit(main())
