"""Paired tests of all runs on the same images, against each of them in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from diffcls.runs.comparable import Results, share
from diffcls.runs.comparison import difference_of, with_holm
from diffcls.runs.comparison_result import Difference
from diffcls.runs.stored import StoredRun
from diffcls.support.errors import UsageError


@dataclass(frozen=True)
class Pairing:
    """All other runs of a group against one of them.

    Args:
        reference: the run that they are compared with.
        differences: one per other run that shares images with it, p-values corrected by Holm's
            method for their number.
        n_shared: fingerprint -> number of images that both scored.
        refused: fingerprint -> why a run cannot be compared.
    """

    reference: StoredRun
    differences: Sequence[Difference]
    n_shared: dict[str, int]
    refused: dict[str, str]


@dataclass(frozen=True)
class Group:
    """Runs of one data set, split and version of the data, each as the reference in turn."""

    dataset: str
    split: str
    pairings: Sequence[Pairing]


def paired_groups(results: Iterable[Results]) -> list[Group]:
    """The groups with two runs or more, in the order of their first run.

    Two runs are compared on the images that both scored, by McNemar's exact test and Newcombe's
    paired interval (see `diffcls.runs.comparison`).
    """
    groups: dict[tuple[str, ...], list[Results]] = {}
    for one in results:
        if one.scored:
            spec = one.run.spec
            key = tuple(str(spec.get(name)) for name in ("dataset", "split", "data_revision"))
            groups.setdefault(key, []).append(one)
    return [
        Group(key[0], key[1], [_pairing(one, members) for one in members])
        for key, members in groups.items()
        if len(members) > 1
    ]


def _pairing(reference: Results, members: Sequence[Results]) -> Pairing:
    differences: list[Difference] = []
    n_shared: dict[str, int] = {}
    refused: dict[str, str] = {}
    for other in members:
        if other is reference:
            continue
        try:
            shared = share([reference, other])
        except UsageError as error:
            refused[other.run.fingerprint] = str(error)
            continue
        differences.append(difference_of(shared, 1))
        n_shared[other.run.fingerprint] = len(shared.image_ids)
    return Pairing(reference.run, with_holm(differences), n_shared, refused)
