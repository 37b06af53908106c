"""Summary of a person's own data before they are used: classes, prompts, files passed over."""

from __future__ import annotations

from collections.abc import Mapping

from diffcls.data import catalog
from diffcls.data.class_names import shorten
from diffcls.data.dataset import Dataset
from diffcls.data.prompts import PromptSet
from diffcls.support.notices import warn

MAX_SHOWN = 10
"""Classes, and kinds of files passed over, that are listed."""
MAX_CHARACTERS = 60
"""Length of a class name or prompt, after which it is cut."""


class Preamble:
    """Prints the summary of a person's own data to stderr, once for all methods of a call."""

    def __init__(self) -> None:
        self._printed = False

    def print(self, name: str, dataset: Dataset, prompts: PromptSet) -> None:
        """Print the `summary` of the arguments, unless one was printed before."""
        for line in [] if self._printed else summary(name, dataset, prompts):
            warn(line)
        self._printed = True


def announce(name: str, dataset: Dataset) -> None:
    """Print the `summary` without prompts to stderr, for commands that ask none."""
    for line in summary(name, dataset):
        warn(line)


def summary(name: str, dataset: Dataset, prompts: PromptSet | None = None) -> list[str]:
    """Lines that say how the data were understood; none for the data sets of the catalog.

    Args:
        name: the data set as given, such as ``folder:photos``.
        dataset: the images.
        prompts: the prompts, or the class ids, that the model receives; None leaves them out.

    Returns:
        The first ten classes and their number; a prompt of each of the first two classes; and what
        was passed over, with counts, if anything was.
    """
    if not catalog.find(name).own:
        return []
    names = [_cut(name) for name in dataset.class_names]
    lines = [f"{len(names)} classes: {shorten(names, MAX_SHOWN)}"]
    if prompts is not None:
        texts = [prompts.prompts[prompts.rows_of(k)[0]] for k in range(min(2, prompts.n_classes))]
        lines.append("prompts: " + ", ".join(repr(_cut(text)) for text in texts))
    if dataset.passed_over:
        lines.append(f"passed over: {describe(dataset.passed_over)}")
    return lines


def describe(passed_over: Mapping[str, int]) -> str:
    """The kinds of what was passed over with their counts, largest first, in one line."""
    ordered = sorted(passed_over.items(), key=lambda pair: (-pair[1], pair[0]))
    return shorten([f"{count:,} {kind}" for kind, count in ordered], MAX_SHOWN)


def _cut(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= MAX_CHARACTERS else f"{plain[: MAX_CHARACTERS - 1]}…"
