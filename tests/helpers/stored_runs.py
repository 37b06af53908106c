"""Runs written with chosen answers, as an evaluation would leave them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffcls.runs import leaderboard
from diffcls.runs.record import Record
from diffcls.runs.records import RecordStore
from diffcls.runs.spec import RunSpec
from diffcls.runs.summary import summarise

HEADER: dict[str, Any] = {
    "batch_size": 64,
    "threads": 1,
    "posterior_scale": 2.0,
    "device": "cpu",
    "versions": "",
    "commit": "",
    "command": "",
    "date": "2026-01-01T00:00:00Z",
}


def spec_of(**changes: Any) -> RunSpec:
    """A specification of three classes, with some fields changed."""
    fields: dict[str, Any] = {
        "dataset": "pets",
        "data_revision": "0123456789abcdef",
        "split": "test",
        "subset": "all",
        "class_names": ("cat", "dog", "newt"),
        "prompts": ("a cat", "a dog", "a newt"),
        "class_of": (0, 1, 2),
        "model": "sd2-base",
        "model_revision": "fedcba9876543210",
        "method": "diffusion",
        "search": "racing",
        "search_options": {"draws": 100},
        "img_size": 512,
        "loss": "l2",
        "weighting": "uniform",
        "seed": 0,
        "dtype": "float32",
    }
    return RunSpec(**{**fields, **changes})


def write_run(
    out: Path,
    answers: Mapping[str, tuple[int, int | None]],
    *,
    evaluations: int = 10,
    n_asked: int | None = None,
    has_row: bool = True,
    header: Mapping[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Write a run; returns its fingerprint.

    Args:
        out: output folder.
        answers: image id -> label and answer; None for a failed image.
        evaluations: per image.
        n_asked: images of the run; None: those with an answer.
        has_row: whether the run is on the leaderboard.
        header: changes of the header.
        changes: changes of the specification.
    """
    spec = spec_of(**changes)
    size = len(spec.class_names)
    with RecordStore(out, spec) as store:
        store.header({**HEADER, **(header or {})})
        for image_id, (label, answer) in answers.items():
            failed = answer is None
            order = [] if answer is None else [answer, *(k for k in range(size) if k != answer)]
            store.append(
                Record(
                    fingerprint=store.fingerprint,
                    image_id=image_id,
                    label=label,
                    ranking=tuple(order),
                    scores=() if failed else tuple(-float(order.index(k)) for k in range(size)),
                    evaluations=0 if failed else evaluations,
                    seconds=0.5,
                    error="cannot be read" if failed else None,
                )
            )
        names = {"revision": "model_revision"}
        columns = ("fingerprint", "dataset", "split", "method", "model", "revision", "search")
        metadata = {name: getattr(spec, names.get(name, name)) for name in (*columns, "seed")}
        if has_row:
            asked = len(answers) if n_asked is None else n_asked
            row = summarise(
                store.records(),
                {**metadata, "n_classes": size, "setting": "default", "date": HEADER["date"]},
                n_asked=asked,
                posterior_scale=2.0,
            )
            leaderboard.upsert(out / "leaderboard.csv", [row])
    return store.fingerprint
