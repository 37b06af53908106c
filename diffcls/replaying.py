"""Saved error tables searched again, without the network: other searches, weightings and votes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcls import metrics
from diffcls.data import specs
from diffcls.errors import DataError, UsageError, unknown_name
from diffcls.executor import ARCHIVE
from diffcls.fits import read_arrays
from diffcls.methods.building import build_search
from diffcls.options import EvaluationOptions
from diffcls.parameterization import check_weighting, loss_weight
from diffcls.schedule import NoiseSchedule
from diffcls.search.table import Search, Table
from diffcls.search.votes import VOTES
from diffcls.weighting import learn_weighting, read_weighting


@dataclass(frozen=True)
class Saved:
    """The error tables of a run, as ``--save-errors`` left them.

    Args:
        spec: of the run.
        indices: (N,) schedule index of each draw.
        schedule: of the model, timesteps left out.
        image_ids, labels: of the images, in the order of their names.
        tables: (K, N) of each image, NaN where not evaluated.
    """

    spec: Mapping[str, Any]
    indices: NDArray[np.int64]
    schedule: NoiseSchedule
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]
    tables: tuple[Table, ...] = field(repr=False)


@dataclass(frozen=True)
class Setting:
    """One way to read the tables.

    Args:
        search: name; its options are those of the command.
        weighting: over time.
        vote: over the draws.
    """

    search: str
    weighting: str
    vote: str


def read_saved(folder: Path) -> Saved:
    """All tables below a folder.

    Raises:
        UsageError: for a folder that holds none.
        RecordError: for a table that cannot be read.
    """
    try:
        run = json.loads((folder / ARCHIVE).read_text(encoding="utf-8"))
        alpha, sigma = (np.array(run[name], dtype=np.float64) for name in ("alpha", "sigma"))
        indices = np.array(run["indices"], dtype=np.int64)
        spec = run["spec"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"no folder of error tables ({error})",
            given=str(folder),
            allowed="a folder that `python -m diffcls.evaluate --save-errors DIR` wrote",
        ) from error
    ids, labels, tables = [], [], []
    for path in sorted(folder.rglob("*.npz")):
        stored = read_arrays(path, "an error table")
        tables.append(stored["errors"])
        labels.append(int(stored["label"]))
        ids.append(path.relative_to(folder).with_suffix("").as_posix())
    if not tables:
        raise UsageError("no error table there", given=str(folder))
    schedule = NoiseSchedule(alpha, sigma, np.arange(len(alpha), dtype=np.float64))
    return Saved(spec, indices, schedule, tuple(ids), tuple(labels), tuple(tables))


def replay(
    folder: str | Path,
    searches: Sequence[str] = (),
    weightings: Sequence[str] = (),
    votes: Sequence[str] = ("mean",),
    **search_options: Any,
) -> list[dict[str, Any]]:
    """A row for each combination, the first one being what all others are compared with.

    Args:
        folder: of error tables.
        searches: names; none: the one that the tables were made by.
        weightings: names, or files of learned ones; none: the one of the tables.
        votes: see `diffcls.search.votes`.
        search_options: ``draws``, ``confidence`` and ``max_evaluations``, where a search has them.

    Returns:
        Rows with the keys ``search weighting vote n accuracy ci_low ci_high
        evaluations_per_image agreement p``: agreement and McNemar's p are with the first row.

    Raises:
        UsageError: for an unknown name, or a search whose errors were not all saved.
    """
    saved = read_saved(Path(folder))
    names = [read_weighting(w) if str(w).endswith(".json") else w for w in weightings]
    names = names or [str(saved.spec["weighting"])]
    for vote in votes:
        if vote not in VOTES:
            raise unknown_name("vote", vote, VOTES)
    for weighting in names:
        check_weighting(weighting)
    rows: list[dict[str, Any]] = []
    first: tuple[NDArray[np.int64], NDArray[np.bool_]] | None = None
    for parts in itertools.product(searches or [str(saved.spec["search"])], names, votes):
        setting = Setting(*parts)
        search = _search(saved, setting.search, search_options if searches else {})
        answers, costs = zip(*_run(saved, setting, search), strict=True)
        predicted = np.array(answers)
        right = predicted == np.array(saved.labels)
        if first is None:
            first = predicted, right
        low, high = metrics.wilson_interval(int(right.sum()), len(right))
        rows.append(
            {
                **vars(setting),
                "n": len(right),
                "accuracy": float(right.mean()),
                "ci_low": low,
                "ci_high": high,
                "evaluations_per_image": float(np.mean(costs)),
                "agreement": float((predicted == first[0]).mean()),
                "p": metrics.mcnemar_exact(right, first[1]),
            }
        )
    return rows


def learn(folder: str | Path) -> dict[str, str]:
    """The weighting that fits a folder's labelled tables best; see `diffcls.weighting`."""
    saved = read_saved(Path(folder))
    split = saved.spec["split"]
    if split == "test":
        raise DataError(
            "a weighting is not learned on test images",
            given=f"{saved.spec['dataset']}, {split}",
            todo="save the tables of --split validation",
        )
    tables = [table / _weights(saved, str(saved.spec["weighting"])) for table in saved.tables]
    log_snr = np.log(saved.schedule.snr)[saved.indices]
    return learn_weighting(tables, saved.labels, log_snr, f"{saved.spec['dataset']}/{split}")


def _search(saved: Saved, name: str, options: Mapping[str, Any]) -> Search:
    """The search, its draws no more than were saved and in the same order."""
    stored = dict(saved.spec["search_options"]) if name == saved.spec["search"] else {}
    given = {k: v for k, v in options.items() if v is not None}
    if name == "paper" and stored:
        given["stages"] = tuple(map("{}:{}".format, stored["samples"], stored["keep"]))
    elif name != "paper" and "draws" not in given:
        given["draws"] = len(saved.indices)
    wishes = EvaluationOptions(search=name, **given)
    _, search = build_search(wishes, specs.find(str(saved.spec["dataset"]).partition(":")[0]))
    plan = search.plan(len(saved.schedule))
    if len(plan) > len(saved.indices) or (plan != saved.indices[: len(plan)]).any():
        raise UsageError(
            f"the tables hold other draws than the search {name!r} asks for",
            given=f"{len(plan)} draws",
            allowed=f"the first {len(saved.indices)} or fewer of {saved.spec['search']}",
            todo="save more: --search exhaustive --draws N --save-errors DIR",
        )
    return search


def _weights(saved: Saved, weighting: str) -> NDArray[np.float64]:
    """(N,) of the draws."""
    return loss_weight(weighting, saved.schedule)[saved.indices]


def _run(saved: Saved, setting: Setting, search: Search) -> Iterator[tuple[int, int]]:
    """(predicted class, evaluations) of each image."""
    change = _weights(saved, setting.weighting) / _weights(saved, str(saved.spec["weighting"]))
    vote = VOTES[setting.vote]
    draws = len(search.plan(len(saved.schedule)))
    for image_id, table in zip(saved.image_ids, saved.tables, strict=True):
        whole = (table * change)[:, :draws].astype(np.float32)
        seen: Table = np.full_like(whole, np.nan)
        while (wanted := search.ask(vote(seen))) is not None:
            rows, columns = wanted[:, 0], wanted[:, 1]
            seen[rows, columns] = whole[rows, columns]
            if np.isnan(seen[rows, columns]).any():
                raise UsageError(
                    f"the search {setting.search!r} asks for errors that were not saved",
                    given=image_id,
                    todo="save all of them: --search exhaustive --draws N --save-errors DIR",
                )
        ranking = search.rank(vote(seen))
        yield int(ranking[0]), int(np.isfinite(seen).sum())
