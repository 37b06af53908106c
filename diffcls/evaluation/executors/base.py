"""Executor protocol: builds the method of a run, in this process or in workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from diffcls.classifiers.base import Built
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions


class Executor(Protocol):
    """Where the methods of an evaluation run.

    The method that it builds is a `diffcls.classifiers.base.Method` like any other: images in,
    class scores out, whatever does the work.
    """

    def build(
        self, method: str, options: EvaluationOptions, dataset: Dataset, prompts: PromptSet
    ) -> Built:
        """Load a method with its model.

        Args:
            method: its name.
            options: options of the evaluation.
            dataset: the images that it will receive.
            prompts: the candidate classes.
        """

    def describe_device(self, built: Built) -> str:
        """The device of a built method, as the leaderboard shows it."""

    def with_settings(
        self,
        built: Built,
        method: str,
        options: EvaluationOptions,
        prompts: PromptSet,
        header: Mapping[str, Any],
    ) -> Built:
        """The method with the batch shape, threads and compilation of a run's header.

        Args:
            built: the method, from `build` with the other arguments.
            method, options, prompts: see `build`.
            header: header of the run, see `diffcls.runs.header`.
        """
