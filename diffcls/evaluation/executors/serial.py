"""Serial executor: the method runs in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from diffcls.classifiers import METHODS
from diffcls.classifiers.base import Built
from diffcls.data import catalog
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.evaluation.options import EvaluationOptions
from diffcls.support.environment import describe_device, set_threads, threads


class SerialExecutor:
    """See `diffcls.evaluation.executors.base.Executor`."""

    def build(
        self, method: str, options: EvaluationOptions, dataset: Dataset, prompts: PromptSet
    ) -> Built:
        return build(method, options, prompts)

    def describe_device(self, built: Built) -> str:
        return describe_device(built.device)

    def with_settings(
        self,
        built: Built,
        method: str,
        options: EvaluationOptions,
        prompts: PromptSet,
        header: Mapping[str, Any],
    ) -> Built:
        compiled = bool(header.get("compiled", False))
        if header["threads"] != threads() or compiled != options.compile:
            set_threads(header["threads"])
            # prompts were encoded with other threads, or the network runs in another form, which
            # affects last bits
            built = build(method, dataclasses.replace(options, compile=compiled), prompts)
        built.method.batch_size = int(header["batch_size"])
        return built


def build(method: str, options: EvaluationOptions, prompts: PromptSet) -> Built:
    """A method with its model, in this process."""
    built: Built = METHODS.load(method).build(options, catalog.find(options.dataset), prompts)
    return built


@contextmanager
def opened(options: EvaluationOptions) -> Iterator[SerialExecutor]:
    """The executor of an evaluation; it has nothing to open."""
    yield SerialExecutor()
