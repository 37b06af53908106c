"""Classes that share a prompt: a model cannot tell them apart."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence

from diffcls.data.class_names import same_name
from diffcls.data.prompts import PromptSet
from diffcls.support.errors import UsageError

logger = logging.getLogger(__name__)

MAX_PAIRS_SHOWN = 4

Pair = tuple[int, int]


def check_distinct(prompts: PromptSet, keys: Sequence[Hashable], warn: bool = True) -> None:
    """Check that no two classes have a prompt in common, as the model receives it.

    A person's own prompts or labels are refused. Where the names of a built-in data set are the
    same (two names of ImageNet occur twice), or are folded to the same tokens, a warning names
    the classes.

    Args:
        prompts: P prompts of K classes.
        keys: (P,) what the model receives of each prompt, such as its token ids; equal for prompts
            that it cannot tell apart.
        warn: False for a check of the texts alone, before a model is loaded.

    Raises:
        UsageError: if two classes of a person's own (`PromptSet.own`) share a prompt.
    """
    shared = _shared(prompts, keys)
    refused = [pair for pair in shared if prompts.own and not _same_names(prompts, pair)]
    if refused:
        raise UsageError(
            f"{_count(refused)} share a prompt and cannot be distinguished",
            given=[_describe(prompts, pair, shared[pair]) for pair in refused[:MAX_PAIRS_SHOWN]],
            allowed="for every class a prompt that differs from the others in more than what the "
            "model's tokenizer ignores, such as case and spaces",
            todo="change the labels, the prompts or the template",
        )
    if shared and warn:
        logger.warning(
            "%s of the data set share a prompt and cannot be distinguished: %s%s",
            _count(list(shared)),
            "; ".join(
                _describe(prompts, pair, shared[pair]) for pair in [*shared][:MAX_PAIRS_SHOWN]
            ),
            "; …" if len(shared) > MAX_PAIRS_SHOWN else "",
        )


def _shared(prompts: PromptSet, keys: Sequence[Hashable]) -> dict[Pair, tuple[str, str]]:
    """Two classes -> the first of their prompts with one key, for all classes that share one."""
    first: dict[Hashable, int] = {}
    shared: dict[Pair, tuple[str, str]] = {}
    for row, key in enumerate(keys):
        other = first.setdefault(key, row)
        classes = prompts.class_of[other], prompts.class_of[row]
        if classes[0] != classes[1]:
            shared.setdefault(classes, (prompts.prompts[other], prompts.prompts[row]))
    return shared


def _same_names(prompts: PromptSet, pair: Pair) -> bool:
    first, second = (same_name(prompts.class_names[k]) for k in pair)
    return first == second


def _count(pairs: Sequence[Pair]) -> str:
    return f"{len({k for pair in pairs for k in pair})} classes"


def _describe(prompts: PromptSet, pair: Pair, texts: tuple[str, str]) -> str:
    names = " and ".join(f"{prompts.class_names[k]} (class {k})" for k in pair)
    return f"{names}: {' and '.join(dict.fromkeys(texts))}"
