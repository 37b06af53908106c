"""Ablation of variance reduction: estimators of the class errors at equal cost.

Computed from the error tables of the `searches` benchmark; antithetic noise alone is run. Writes
``variance.csv`` and ``VARIANCE.md``. An estimator is worth adopting if it is more accurate than the
plain mean at equal cost on at least three benchmarks, and significantly so over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.core.flags import add_data_root, add_report_only, entry_point, parser
from benchmarks.core.tables import read_rows, write_rows
from benchmarks.speed.searches import BENCHMARKS, Measured, table_folder
from diffcls.metrics.statistics import mcnemar_exact
from diffcls.runs.error_tables import read_saved
from diffcls.search.exhaustive import Exhaustive
from diffcls.support.files import write_text

DRAWS = (6, 12, 24)
TABLE = "variance.csv"
COLUMNS = ("estimator", "benchmark", "draws", "gained", "lost", "images")
TRIMMED_SHARE = 0.1
"""Share of the draws left out at either end."""
LEADER_DRAWS = 3
"""Draws of the leader per draw of another class, for the control variate."""
MIN_BENCHMARKS = 3
"""Number of benchmarks on which an adopted estimator must be better."""
MAX_P = 0.05
"""Largest p over all benchmarks of an adopted estimator, at every cost."""
PAIRED_EVALUATIONS = 24_000
"""Evaluations per benchmark for each kind of pairs: 100 images of ten classes."""
MIN_PAIRED_IMAGES = 40
"""Least number of images per benchmark."""

PAIRED = "antithetic noise, vs independent noise on the same timesteps"
DEFAULT = "antithetic noise, vs the default draws"

Errors = NDArray[np.float64]
Estimator = Callable[[Errors, int], NDArray[np.int64]]
"""((n, K, N) errors, cost in draws per class) -> (n,) predictions."""


def plain(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class of least mean error, the default."""
    return np.asarray(errors[:, :, :draws].mean(axis=2).argmin(axis=1))


def by_rank(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class of least mean rank."""
    order = errors[:, :, :draws].argsort(axis=1).argsort(axis=1)
    return np.asarray(order.mean(axis=2).argmin(axis=1))


def trimmed(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The class of least trimmed mean of the differences to the mean over classes."""
    from scipy.stats import trim_mean

    seen = errors[:, :, :draws]
    centred = seen - seen.mean(axis=1, keepdims=True)
    return np.asarray(trim_mean(centred, TRIMMED_SHARE, axis=2).argmin(axis=1))


def by_slope(errors: Errors, draws: int) -> NDArray[np.int64]:
    """The leader's error as a control variate of all other classes, with fitted slopes.

        ê_k = ē_k − b_k·(ē_l − E_l),   b_k = cov(e_k, e_l)/var(e_l)

    E_l is the leader's mean over `LEADER_DRAWS` times as many draws; at equal cost, the other
    classes get fewer draws.
    """
    classes = errors.shape[1]
    own = max(3, int(draws * classes / (classes + LEADER_DRAWS - 1)))
    more = min(errors.shape[2], LEADER_DRAWS * own)
    seen = errors[:, :, :own]
    best = seen.mean(axis=2).argmin(axis=1)
    rows = np.arange(len(errors))
    of_leader = seen[rows, best]  # (n, own)
    around = of_leader - of_leader.mean(axis=1, keepdims=True)
    slope = np.einsum("nkj,nj->nk", seen, around) / (around**2).sum(axis=1)[:, None]
    known = errors[rows, best, :more].mean(axis=1)
    adjusted = seen.mean(axis=2) - slope * (of_leader.mean(axis=1) - known)[:, None]
    return np.asarray(adjusted.argmin(axis=1))


ESTIMATORS: dict[str, Estimator] = {
    "rank": by_rank,
    f"trimmed by {TRIMMED_SHARE:.0%} at either end": trimmed,
    "control variate: the leader": by_slope,
}


@dataclass(frozen=True)
class Comparison:
    """An estimator against another one, at one cost, on one benchmark.

    Args:
        estimator: name of the comparison.
        benchmark: name of the data set.
        draws: cost of either, in draws per class.
        gained: images that only the estimator classifies correctly.
        lost: images that only the other one classifies correctly.
        images: number of images.
    """

    estimator: str
    benchmark: str
    draws: int
    gained: int
    lost: int
    images: int

    @property
    def gain(self) -> float:
        """Difference in accuracy."""
        return (self.gained - self.lost) / self.images


def _main(arguments: list[str]) -> int:
    p = parser("variance", __doc__)
    add_data_root(p)
    add_report_only(p)
    flags = p.parse_args(arguments)
    output = Path(flags.output_dir)
    if not flags.report_only:
        measured = [one for benchmark in BENCHMARKS for one in compare(benchmark, output)]
        for benchmark in BENCHMARKS:
            measured += antithetic(benchmark, output, flags.data_root)
        write_rows(output / TABLE, map(asdict, measured), COLUMNS)
    text = "\n".join(page([Comparison(**row) for row in read_rows(output / TABLE)]))
    write_text(output / "VARIANCE.md", text)
    print(text)
    return 0


main = entry_point(_main)


def compare(one: Measured, output: Path) -> Iterator[Comparison]:
    """Comparisons computed from a benchmark's error tables."""
    saved = read_saved(table_folder(one, output))
    errors = np.stack(saved.tables).astype(np.float64)
    labels = np.array(saved.labels)
    for draws in DRAWS:
        reference = plain(errors, draws) == labels
        for name, estimator in ESTIMATORS.items():
            yield _comparison(
                name, one.dataset, draws, reference, estimator(errors, draws) == labels
            )


def _comparison(
    estimator: str, benchmark: str, draws: int, reference: Any, correct: Any
) -> Comparison:
    """A comparison, from (n,) correct predictions of the reference and of the estimator."""
    gained, lost = int((correct & ~reference).sum()), int((reference & ~correct).sum())
    return Comparison(estimator, benchmark, draws, gained, lost, len(reference))


def pooled_p(comparisons: Iterable[Comparison]) -> float:
    """McNemar's exact p over all of these comparisons."""
    gained, lost = (sum(v) for v in zip(*((o.gained, o.lost) for o in comparisons), strict=True))
    return (
        mcnemar_exact([1] * gained + [0] * lost, [0] * gained + [1] * lost)
        if gained + lost
        else 1.0
    )


@dataclass(frozen=True)
class Pairs(Exhaustive):
    """Exhaustive search with two draws per timestep."""

    def plan(self, length: int) -> NDArray[np.int64]:
        """(draws,) timestep indices, each of them twice."""
        return np.repeat(super().plan(length), 2)[: self.draws]


def antithetic(one: Measured, output: Path, data_root: str | None) -> Iterator[Comparison]:
    """Pairs of draws (t, ε), (t, −ε) against pairs with independent noise at the same timesteps.

    And against the default draws of the saved tables, each at a timestep of its own.
    """
    from diffcls.data import catalog
    from diffcls.data.load import load_dataset
    from diffcls.data.prompts import PromptSet
    from diffcls.data.subsets import choose
    from diffcls.models import loading

    spec = catalog.find(one.dataset)
    images = PAIRED_EVALUATIONS // max(DRAWS)
    data, _ = choose(load_dataset(one.dataset, "test", data_root), one.tabled)
    data, _ = choose(data, max(MIN_PAIRED_IMAGES, images // len(data.class_names)))
    prompts = PromptSet.from_templates(data.class_names, spec.templates, data.prompt_names)
    denoiser = loading.load(spec.model)
    labels = np.array([item.label for item in data.items])
    errors_of: dict[bool, Errors] = {}
    with TemporaryDirectory() as folder:
        for negated in (False, True):
            path = _noise_file(Path(folder), denoiser.sample_shape, negated)
            errors_of[negated] = _errors(denoiser, prompts, data.items, path)
    saved = read_saved(table_folder(one, output))
    table_of = dict(zip(saved.image_ids, saved.tables, strict=True))
    default = np.stack([np.asarray(table_of[item.image_id], np.float64) for item in data.items])
    for draws in DRAWS:
        other = plain(errors_of[True], draws) == labels
        for name, errors in ((PAIRED, errors_of[False]), (DEFAULT, default)):
            yield _comparison(name, one.dataset, draws, plain(errors, draws) == labels, other)


def _noise_file(folder: Path, shape: tuple[int, ...], negated: bool) -> str:
    """Noise file of all draws; if `negated`, the second of a pair is minus the first."""
    import torch
    from safetensors.torch import save_file

    from diffcls.diffusion.draws import noise

    made = [noise(0, j, shape) for j in range(max(DRAWS))]
    if negated:
        made[1::2] = [-first for first in made[::2]]
    path = folder / f"{negated}.safetensors"
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
    errors_of = {answer.image_id: answer.errors for answer in method.classify(items)}
    return np.stack([np.asarray(errors_of[item.image_id], np.float64) for item in items])


def page(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """The report."""
    benchmarks = list(dict.fromkeys(one.benchmark for one in comparisons))
    yield from ("# Ablation: variance reduction at equal cost", "")
    yield (
        "Written by `python -m benchmarks.run variance`. Difference in accuracy, in points, to the "
        "plain mean on the default draws (or to the named reference) at equal cost, with the "
        "number of images; p is McNemar's exact test over all benchmarks. An estimator is worth "
        f"adopting if its mean difference over the costs is positive on at least {MIN_BENCHMARKS} "
        f"benchmarks and p is below {MAX_P} at every cost."
    )
    yield from ("", f"| estimator | draws per class | {' | '.join(benchmarks)} | p |")
    yield "|---|---|" + "---|" * (len(benchmarks) + 1)
    for estimator in dict.fromkeys(one.estimator for one in comparisons):
        same = [one for one in comparisons if one.estimator == estimator]
        for draws in DRAWS:
            at = [one for one in same if one.draws == draws]
            cells = [f"{100 * one.gain:+.1f} ({one.images})" for one in at]
            yield f"| {estimator} | {draws} | {' | '.join(cells)} | {pooled_p(at):.3f} |"
    yield ""
    for estimator in dict.fromkeys(one.estimator for one in comparisons):
        same = [one for one in comparisons if one.estimator == estimator]
        better = sum(
            np.mean([one.gain for one in same if one.benchmark == name]) > 0 for name in benchmarks
        )
        worst = max(pooled_p(o for o in same if o.draws == draws) for draws in DRAWS)
        verdict = "worth adopting" if better >= MIN_BENCHMARKS and worst < MAX_P else "not adopted"
        yield (
            f"- {estimator}: better on {better} of {len(benchmarks)}, p up to {worst:.3f}: "
            f"{verdict}."
        )
    yield ""
