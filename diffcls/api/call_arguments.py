"""Arguments of the Python call: candidate labels, templates, and the names of other pipelines.

The call is that of transformers' zero-shot image classification pipeline. Arguments that people
bring from it or from neighbouring pipelines are read here, or refused by name with what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffcls.api.image_openers import is_array, library, shown
from diffcls.data.prompts import check_labels
from diffcls.support.errors import UsageError, unknown_name
from diffcls.support.options import MAX_ROWS, Range, shortened

ROWS = Range(1, MAX_ROWS)


@dataclass(frozen=True)
class Refusal:
    """An argument of another pipeline that has no meaning here.

    Args:
        todo: what to do instead.
        harmless: values that state what holds anyway, beside None; they are accepted.
    """

    todo: str
    harmless: tuple[object, ...] = ()


SORTED = "remove it: all labels come best first; take the first k of the answer, answer[:k]"
CALL_REFUSALS: Mapping[str, Refusal] = {
    "top_k": Refusal(SORTED),
    "return_all_scores": Refusal(SORTED, (True,)),
    "function_to_apply": Refusal(
        "remove it: scores are a softmax, divided by the model's temperature", ("softmax",)
    ),
    "tokenizer_kwargs": Refusal("remove it: prompts are padded as in the model's training", ({},)),
    "padding": Refusal("remove it: prompts are padded as in the model's training"),
    "truncation": Refusal("remove it: prompts that the tokenizer truncates are reported"),
    "num_workers": Refusal("remove it: a thread reads images one batch ahead", (0,)),
    "inputs": Refusal("give images=…"),
    "labels": Refusal("give candidate_labels=…"),
    "classes": Refusal("give candidate_labels=…"),
    "text": Refusal("give candidate_labels=…"),
    "text_queries": Refusal("give candidate_labels=…"),
    "prompt": Refusal("give hypothesis_template=…"),
    "template": Refusal("give hypothesis_template=…"),
    "generate_kwargs": Refusal("remove it: nothing is generated"),
    "return_tensors": Refusal("remove it: the answer is labels and scores"),
    "device": Refusal("give it to from_pretrained, or call classifier.to(device)"),
    "dtype": Refusal("give it to from_pretrained, or call classifier.to(dtype=…)"),
    "search": Refusal("give it to from_pretrained"),
    "draws": Refusal("give it to from_pretrained"),
    "seed": Refusal("give it to from_pretrained"),
}
CALL_ARGUMENTS = (
    "images",
    "image",
    "candidate_labels",
    "hypothesis_template",
    "timeout",
    "batch_size",
    "allow_private_addresses",
    "reject",
    "multi_label",
    "threshold",
    "background_prompt",
)


def refuse(
    given: Mapping[str, Any], refusals: Mapping[str, Refusal], names: Iterable[str], of: str
) -> None:
    """Refuse arguments by name, unless their value states what holds anyway.

    Args:
        given: the arguments that no parameter reads.
        refusals: the arguments of other pipelines that are known.
        names: the arguments that are allowed.
        of: the function, for messages.

    Raises:
        UsageError: for the first argument, with what to do.
    """
    for name, value in given.items():
        if name not in refusals:
            raise unknown_name(f"argument of {of}", name, names)
        refusal = refusals[name]
        if value is None or any(type(value) is type(v) and value == v for v in refusal.harmless):
            continue
        shown_value = value if isinstance(value, str | int | float) else shown(value)
        raise UsageError(f"{name} is no argument of {of}", given=shown_value, todo=refusal.todo)


def images_of(images: Any, other: dict[str, Any]) -> Any:
    """The images of a call, which transformers also calls ``image``; other names are refused.

    Raises:
        UsageError: without images, with both names, or as `refuse`.
    """
    image = other.pop("image", None)
    refuse(other, CALL_REFUSALS, CALL_ARGUMENTS, "the call")
    if images is not None and image is not None:
        todo = "give one of them; several images are a list"
        given = f"{shown(image)} and {shown(images)}"
        raise UsageError("image and images are one argument", given=given, todo=todo)
    if images is None and image is None:
        raise UsageError("no images given", todo="give images=…, such as a path or a PIL image")
    return image if images is None else images


def labels_of(labels: Any) -> tuple[str, ...]:
    """The candidate labels of a call.

    Raises:
        UsageError: for a single text, and for anything but a collection of two or more different
            texts.
    """
    if labels is None:
        raise UsageError("no candidate_labels given", todo='give a list, such as ["cat", "dog"]')
    return check_labels(texts("candidate_labels", labels, _split))


def templates_of(templates: Any) -> tuple[str, ...]:
    """The templates of a call: one text, or a collection of texts.

    Raises:
        UsageError: for anything else.
    """
    if isinstance(templates, str):
        return (str(templates),)
    given = texts("hypothesis_template", templates, ordered=True)
    for template in given:
        if not isinstance(template, str):
            raise _no_texts("hypothesis_template", template)
    return given


def rows_of(batch_size: Any) -> int | None:
    """The rows of a forward pass.

    Raises:
        UsageError: for anything but a number from 1 to 65536, or None.
    """
    if batch_size is not None and batch_size not in ROWS:
        raise UsageError("batch_size out of range", given=batch_size, allowed=f"rows, {ROWS}")
    return None if batch_size is None else int(batch_size)


def texts(
    name: str,
    given: Any,
    single: Callable[[str], str] | None = None,
    ordered: bool = False,
) -> tuple[Any, ...]:
    """The members of a collection of texts: list, tuple, array, series, keys or generator.

    Args:
        name: name of the argument.
        given: its value.
        single: text -> what to do, for an argument that may not be a single text.
        ordered: whether sets, which have no order, are refused; else they are sorted.

    Raises:
        UsageError: for a single text, and for anything but a collection with one axis.
    """
    if isinstance(given, str) and single is not None:
        raise UsageError(
            f"{name}: a single text", given=shortened(given), allowed="a list", todo=single(given)
        )
    if isinstance(given, Mapping):
        todo = f"give {name}=list(names), or list(names.values())"
        raise UsageError(f"{name} is a mapping", given=list(given)[:8], todo=todo)
    axes = len(getattr(given, "shape", (0,)))
    if library(given) in ("pandas", "polars") and axes == 2:
        columns = list(given.columns)[:8]
        raise UsageError(f"{name} is a table", given=columns, todo="give one of its columns")
    if isinstance(given, str | bytes) or not isinstance(given, Iterable) or axes != 1:
        raise _no_texts(name, given)
    if isinstance(given, set | frozenset):
        if ordered:
            raise _no_texts(name, given)
        return tuple(sorted(given, key=str))
    # plain texts instead of NumPy's, which print as np.str_('cat')
    array: Any = given
    members = array.tolist() if is_array(given) else given
    return tuple(str(member) if isinstance(member, str) else member for member in members)


def _split(labels: str) -> str:
    parts = [part.strip() for part in labels.split(",")]
    return f"give {parts!r}" if len(parts) > 1 else "give two labels or more"


def _no_texts(name: str, given: Any) -> UsageError:
    plain = isinstance(given, str | int | float | list | tuple | set | frozenset) or given is None
    allowed = {
        "candidate_labels": "a list of texts",
        "hypothesis_template": 'a text with one {}, such as "a photo of a {}.", or a list of these',
    }[name]
    return UsageError(
        f"{name} cannot be read", given=given if plain else shown(given), allowed=allowed
    )
