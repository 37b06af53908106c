"""Replay of saved error tables, without the network: other searches, weightings and votes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls.classifiers.search_options import FLAGS, build_search
from diffcls.data import catalog
from diffcls.diffusion.learned_weighting import learn_weighting, read_weighting
from diffcls.diffusion.parameterization import (
    OLD_NAMES,
    check_loss,
    check_weighting,
    loss_weight,
    resolve_weighting,
)
from diffcls.diffusion.timestep_allocation import EVEN, allocate
from diffcls.evaluation.options import EvaluationOptions
from diffcls.metrics.statistics import mcnemar_exact, wilson_interval
from diffcls.runs.error_tables import Saved, read_saved
from diffcls.search import SEARCHES
from diffcls.search.aggregation import VOTES
from diffcls.search.base import Search
from diffcls.search.error_table import Table
from diffcls.support.errors import DataError, UsageError, unknown_name
from diffcls.support.paths import expand


@dataclass(frozen=True)
class Setting:
    """A combination of search, weighting and vote.

    Args:
        search: name of the search; its options are those of the command, else as saved.
        weighting: weighting over time.
        vote: aggregation of the draws.
    """

    search: str
    weighting: str
    vote: str


@dataclass(frozen=True)
class Predictions:
    """Predictions of a setting, and their cost.

    Args:
        predicted: (n,) class indices, in the order of the images.
        evaluations: (n,) forward passes per image.
    """

    predicted: NDArray[np.int64]
    evaluations: NDArray[np.int64]


def replay(
    folder: str | Path,
    searches: Sequence[str] = (),
    weightings: Sequence[str] = (),
    votes: Sequence[str] = (),
    **search_options: Any,
) -> list[dict[str, Any]]:
    """A row for each combination; all are compared with the first one.

    Args:
        folder: folder of error tables.
        searches: names; none: the search that the tables were made with.
        weightings: names, or files of learned ones; none: that of the tables.
        votes: see `diffcls.search.aggregation`; none: that of the tables.
        search_options: ``draws``, ``confidence`` and ``max_evaluations``, for searches that have
            them.

    Returns:
        Rows with the keys ``search weighting vote n accuracy ci_low ci_high
        evaluations_per_image agreement p``: agreement and McNemar's p are with the first row.

    Raises:
        UsageError: for an unknown name, an option that none of the searches has, or a search whose
            errors were not all saved.
    """
    saved = read_saved(expand(Path(folder)))
    names = [
        read_weighting(expand(w)) if str(w).endswith(".json") else resolve_weighting(w)
        for w in weightings
    ]
    names = names or [_own_weighting(saved)]
    votes = votes or [str(saved.spec.get("vote", "mean"))]
    for vote in votes:
        if vote not in VOTES:
            raise unknown_name("vote", vote, VOTES)
    for weighting in names:
        check_weighting(weighting)
        check_loss(str(saved.spec.get("loss", "l2")), weighting)
    searches = searches or [str(saved.spec["search"])]
    options = {k: v for k, v in search_options.items() if v is not None}
    _check_options(searches, options)
    rows: list[dict[str, Any]] = []
    first: tuple[NDArray[np.int64], NDArray[np.bool_]] | None = None
    for parts in itertools.product(searches, names, votes):
        setting = Setting(*parts)
        predictions = predict(saved, setting, options)
        predicted = predictions.predicted
        right = predicted == np.array(saved.labels)
        if first is None:
            first = predicted, right
        low, high = wilson_interval(int(right.sum()), len(right))
        rows.append(
            {
                **vars(setting),
                "n": len(right),
                "accuracy": float(right.mean()),
                "ci_low": low,
                "ci_high": high,
                "evaluations_per_image": float(predictions.evaluations.mean()),
                "agreement": float((predicted == first[0]).mean()),
                "p": mcnemar_exact(right, first[1]),
            }
        )
    return rows


def predict(saved: Saved, setting: Setting, options: Mapping[str, Any]) -> Predictions:
    """The predictions of a setting.

    Args:
        saved: the tables.
        setting: search, weighting and vote.
        options: options of the search, by flag: ``draws``, ``confidence``, ``max_evaluations``.

    Raises:
        UsageError: for a search whose errors were not all saved.
    """
    search = _search(saved, setting.search, options)
    predicted, costs = zip(*_run(saved, setting, search), strict=True)
    return Predictions(np.array(predicted), np.array(costs))


def learn(folder: str | Path) -> dict[str, str]:
    """The weighting that fits a folder's labelled tables best.

    See `diffcls.diffusion.learned_weighting`.

    Raises:
        DataError: for tables of test images, or of draws that are not spread evenly.
    """
    saved = read_saved(expand(Path(folder)))
    split = saved.spec["split"]
    if split == "test":
        raise DataError(
            "a weighting cannot be learned on test images",
            given=f"{saved.spec['dataset']}, {split}",
            todo="save the tables of --split validation",
        )
    if saved.spec.get("allocation", EVEN) != EVEN:
        raise DataError(
            "a weighting can only be learned on draws spread evenly over time",
            given=str(saved.spec["allocation"]).partition(":")[0],
            todo="save the tables with --allocation even",
        )
    check_loss(str(saved.spec.get("loss", "l2")), "a learned one")
    change = _change(saved, "uniform")
    tables = [table * change for table in saved.tables]
    snr = saved.schedule.snr
    # a level without any signal, or noise, is placed beside the nearest one that has some
    some = snr[(snr > 0) & np.isfinite(snr)]
    log_snr = np.log(np.clip(snr, some.min(), some.max()))[saved.indices]
    return learn_weighting(tables, saved.labels, log_snr, f"{saved.spec['dataset']}/{split}")


def _search(saved: Saved, name: str, options: Mapping[str, Any]) -> Search:
    """The search, its draws no more than were saved and in the same order.

    Raises:
        UsageError: for a search that needs the network, an option that it does not have, or other
            draws than were saved.
    """
    known = _options_of(name)
    given = {flag: value for flag, value in options.items() if flag in known}
    if "draws" in known:
        given.setdefault("draws", len(saved.indices))
    evaluation = EvaluationOptions(search=name, **given)
    _, search = build_search(evaluation, catalog.find(str(saved.spec["dataset"])))
    if search.screen is not None:  # its probes need the network
        raise UsageError(
            "a search with a screen needs the network, and cannot be replayed",
            given=name,
            todo="choose another one: --search racing",
        )
    if name == saved.spec["search"]:
        as_saved = {
            option: tuple(value) if isinstance(value, list) else value
            for option, value in saved.spec["search_options"].items()
            if FLAGS.get(option) not in given
        }
        search = dataclasses.replace(search, **as_saved)  # type: ignore[type-var]
    even = search.plan(len(saved.schedule))
    plan = allocate(even, str(saved.spec.get("allocation", EVEN)), saved.schedule)
    if len(plan) > len(saved.indices) or (plan != saved.indices[: len(plan)]).any():
        raise UsageError(
            f"the tables hold other draws than the search {name!r} requests",
            given=f"{len(plan)} draws",
            allowed=f"the first {len(saved.indices)} or fewer of {saved.spec['search']}",
            todo="save more: --search exhaustive --draws N --save-errors DIR",
        )
    return search


def _options_of(name: str) -> set[str]:
    """The flags that set a search's options."""
    kind: Any = SEARCHES.load(name)
    return {FLAGS[f.name] for f in dataclasses.fields(kind) if f.name in FLAGS}


def _check_options(searches: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UsageError for an option that none of the searches has."""
    known = set().union(*map(_options_of, searches))
    for option in options:
        if option not in known:
            raise UsageError(
                "option that none of the searches has", given=option, allowed=sorted(known)
            )


def _weights(saved: Saved, weighting: str) -> NDArray[np.float64]:
    """(N,) weights of the draws."""
    return loss_weight(weighting, saved.schedule)[saved.indices]


def _own_weighting(saved: Saved) -> str:
    """Weighting that the tables were saved with; specs store renamed ones under their old name."""
    stored = str(saved.spec["weighting"])
    return OLD_NAMES.get(stored, stored)


def _change(saved: Saved, weighting: str) -> NDArray[np.float64]:
    """(N,) factors that turn the saved errors of each draw into those of a weighting.

    Raises:
        UsageError: if a draw was saved with weight 0, so that its errors are lost.
    """
    own = _own_weighting(saved)
    if weighting == own:
        return np.ones(len(saved.indices))
    stored = _weights(saved, own)
    if not stored.all():
        raise UsageError(
            "some draws were saved with weight 0, so their errors are lost",
            given=own,
            todo="save the tables with --weighting uniform",
        )
    return _weights(saved, weighting) / stored


def _run(saved: Saved, setting: Setting, search: Search) -> Iterator[tuple[int, int]]:
    """(predicted class, evaluations) of each image."""
    change = _change(saved, setting.weighting)
    vote = VOTES[setting.vote]
    draws = len(search.plan(len(saved.schedule)))
    for image_id, table in zip(saved.image_ids, saved.tables, strict=True):
        errors = (table * change)[:, :draws].astype(np.float32)
        evaluated: Table = np.full_like(errors, np.nan)
        while (request := search.ask(vote(evaluated))) is not None:
            rows, columns = request[:, 0], request[:, 1]
            evaluated[rows, columns] = errors[rows, columns]
            if np.isnan(evaluated[rows, columns]).any():
                raise UsageError(
                    f"the search {setting.search!r} requests errors that were not saved",
                    given=image_id,
                    todo="save all of them: --search exhaustive --draws N --save-errors DIR",
                )
        ranking = search.rank(vote(evaluated))
        yield int(ranking[0]), int(np.isfinite(evaluated).sum())
