"""Aggregation options: which of ``--aggregate`` and ``--vote`` go together with what."""

from __future__ import annotations

from diffcls.data.prompts import AGGREGATES, PromptSet
from diffcls.search.aggregation import VOTES
from diffcls.search.base import Search
from diffcls.support.errors import UsageError, unknown_name


def check_aggregation(aggregate: str, vote: str, prompts: PromptSet, search: Search) -> None:
    """Check the aggregation of prompts and draws; arguments as of `DiffusionMethod`.

    Raises:
        UsageError: for an unknown aggregate or vote, and for a combination that is not supported.
    """
    if aggregate not in AGGREGATES:
        raise unknown_name("aggregate", aggregate, AGGREGATES)
    if aggregate == "prompts" and prompts.asked:
        raise UsageError(
            "--aggregate prompts needs classes that all images share",
            given="images with candidates of their own",
            todo="choose --aggregate classes",
        )
    if aggregate == "rotate" and prompts.templates == 1:
        raise UsageError(
            "--aggregate rotate needs several prompts for each class",
            given="1",
            todo="add templates with --template or --ensemble",
        )
    if vote not in VOTES:
        raise unknown_name("vote", vote, VOTES)
    if search.screen is not None and (aggregate == "prompts" or prompts.asked):
        raise UsageError(
            "a screen needs classes that all images share",
            given="prompts that race" if aggregate == "prompts" else "candidates of an image",
            todo="choose --search racing",
        )
