"""Combinations of data sets, models, seeds and methods: the runs that one command asks for.

Each run has the options of a single evaluation, so its fingerprint and its numbers are those of
the command that names one data set, one model, one seed and one method.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffcls.classifiers.model_options import METHODS_WITHOUT_DENOISER
from diffcls.data import catalog
from diffcls.data.option_use import LOCAL_OPTIONS, options_read
from diffcls.evaluation.options import EvaluationOptions, read_options
from diffcls.evaluation.time_budget import read_time
from diffcls.models.model_argument import shown
from diffcls.support.errors import DiffclsError, UsageError
from diffcls.support.options import MAX_SEED, flag_of, within
from diffcls.support.paths import UserPath

SEVERAL = ("dataset", "model", "seed")
"""Options of which a command may give several values; each value is a run of its own."""


@dataclass(frozen=True, kw_only=True)
class EvaluationArguments(EvaluationOptions):
    """The arguments of `run_evaluation`: those of one evaluation, but lists where several may be.

    Args:
        dataset, model, seed: one value, or a list: every combination is a run. All others: see
            `diffcls.evaluation.options.EvaluationOptions`.
    """

    dataset: UserPath | Sequence[UserPath] = "digits"  # type: ignore[assignment]
    model: UserPath | Sequence[UserPath] | None = None
    seed: int | Sequence[int] = within(0, MAX_SEED, 0)  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Run:
    """One run among those of a command.

    Args:
        options: options of its data set, model and seed; all methods of the command.
        method: its method, one of them.
        data_options: the options that its images depend on are those of this position among the
            data sets of the command.
    """

    options: EvaluationOptions
    method: str
    data_options: int

    @property
    def kind(self) -> tuple[object, ...]:
        """Its data set, model and method: runs that differ in the seed alone cost the same."""
        return self.data_options, _model_key(self.options), self.method

    def __str__(self) -> str:
        options = self.options
        given = {"dataset": options.dataset, "model": options.model, "seed": options.seed}
        if not _reads_model(options, self.method):
            del given["model"]
        return f"{_flags(given)} --method {self.method}"


@dataclass(frozen=True)
class Combinations:
    """All runs of a command, by data set, then model, seed and method, in the order given.

    Args:
        runs: the runs.
        counts: number of values of each option in `SEVERAL`.
    """

    runs: tuple[Run, ...]
    counts: Mapping[str, int]

    @property
    def options(self) -> EvaluationOptions:
        """The options that all runs share, with the first data set, model and seed."""
        return self.runs[0].options

    @property
    def is_single(self) -> bool:
        """Whether there is one data set, one model and one seed: an evaluation as ever."""
        return all(count == 1 for count in self.counts.values())

    def by_model(self) -> list[Run]:
        """The runs in the order of execution: those of one model follow one another."""
        first: dict[object, int] = {}
        for position, run in enumerate(self.runs):
            first.setdefault(_model_key(run.options), position)
        return sorted(self.runs, key=lambda run: first[_model_key(run.options)])

    def __str__(self) -> str:
        counts = {"data sets": self.counts["dataset"], "models": self.counts["model"]}
        counts |= {"seeds": self.counts["seed"], "methods": len(self.options.method)}
        if self.options.model is None:
            del counts["models"]  # each data set has its default model
        return " × ".join(f"{n} {name if n > 1 else name[:-1]}" for name, n in counts.items())


def read_combinations(arguments: Mapping[str, Any]) -> Combinations:
    """The runs of keyword arguments, in which data set, model and seed may be lists.

    An option of local data, such as ``data_root``, must have an effect on one of the data sets;
    the others do not read it. A time budget is shared out among the runs equally.

    Raises:
        UsageError: for an option without effect on a combination, a value that is given twice, and
            whatever `diffcls.evaluation.options.read_options` refuses.
    """
    values = {name: _values(name, arguments) for name in SEVERAL}
    counts = {name: len(given) for name, given in values.items()}
    all_options = []
    for combination in itertools.product(*values.values()):
        own = {**arguments, **dict(zip(SEVERAL, combination, strict=True))}
        all_options.append({k: v for k, v in own.items() if k in arguments or v is not None})
    if len(all_options) > 1:
        _drop_unread(all_options)
    read = _for_each(all_options, read_options, _named)
    if len(read) > 1 and read[0].budget:
        share = f"{read_time(read[0].budget) / len(read):.3f}s"
        read = [dataclasses.replace(options, budget=share) for options in read]
    runs = [
        Run(options, method, number // (counts["model"] * counts["seed"]))
        for number, options in enumerate(read)
        for method in options.method
        if _reads_model(options, method) or not _is_later_model(number, counts)
    ]
    return Combinations(tuple(runs), counts)


def check_each(runs: Iterable[Run], check: Callable[[Run], Any]) -> None:
    """Call `check` for each run; what one refuses names that run, unless all do.

    Raises:
        DiffclsError: the first error.
    """
    _for_each(list(runs), check, str)


def _for_each(
    values: Sequence[Any], check: Callable[[Any], Any], name: Callable[[Any], str]
) -> Any:
    results, errors = [], []
    for value in values:
        try:
            results.append(check(value))
        except DiffclsError as error:
            errors.append((value, error))
    if not errors:
        return results
    value, first = errors[0]
    if len({str(error) for _, error in errors}) == 1 and len(errors) == len(values):
        raise first
    raise type(first)(f"{first}; refused for {name(value)}") from first


def _named(arguments: Mapping[str, Any]) -> str:
    return _flags({name: arguments.get(name) for name in SEVERAL})


def _flags(given: Mapping[str, Any]) -> str:
    """Options as flags; an object, such as a pipeline, by its class."""
    return " ".join(
        f"{flag_of(name)} {value if isinstance(value, str | int) else type(value).__name__}"
        for name, value in given.items()
        if value is not None
    )


def _values(name: str, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of an option; a text, a number or a pipeline counts as one."""
    given = arguments.get(name)
    to_python = getattr(given, "tolist", None)
    if name == "seed" and to_python is not None:  # NumPy's numbers are no JSON
        given = to_python()
    if isinstance(given, range):
        given = tuple(given)
    if isinstance(given, set | frozenset | Mapping):
        raise UsageError(f"{flag_of(name)} has no order", given=list(given), todo="give a list")
    if not isinstance(given, list | tuple):
        return (given,)
    if not given:
        raise UsageError(
            f"{flag_of(name)} is empty", given=given, todo="give a value, or remove it"
        )
    for i, value in enumerate(given):
        if any(_same(name, value, other) for other in given[:i]):
            one = shown(value) if name == "model" else value
            raise UsageError(f"{flag_of(name)} has a value twice", given=one, todo="remove one")
    return tuple(given)


def _same(name: str, a: object, b: object) -> bool:
    if name == "dataset":
        a, b = (catalog.ALIASES.get(str(one), one) for one in (a, b))
    return a is b or (isinstance(a, str | int) and type(a) is type(b) and a == b)


def _drop_unread(all_arguments: Sequence[dict[str, Any]]) -> None:
    """Remove options of local data that one of the data sets reads from those of the others."""
    given = [n for n in LOCAL_OPTIONS if all_arguments[0].get(n) is not None]
    if not given:
        return
    reads = [options_read(catalog.find(arguments["dataset"])) for arguments in all_arguments]
    for name in given:
        if any(name in read for read in reads):
            for arguments, read in zip(all_arguments, reads, strict=True):
                if name not in read:
                    del arguments[name]


def _reads_model(options: EvaluationOptions, method: str) -> bool:
    """Whether ``model`` is of this method; beside others, CLIP has a model of its own."""
    return method not in METHODS_WITHOUT_DENOISER or METHODS_WITHOUT_DENOISER.issuperset(
        options.method
    )


def _is_later_model(number: int, counts: Mapping[str, int]) -> bool:
    return number // counts["seed"] % counts["model"] > 0


def _model_key(options: EvaluationOptions) -> object:
    """What tells models apart: the name given, the default of the data set, or the object."""
    model: object = options.model or options.version or catalog.find(options.dataset).model
    return model if isinstance(model, str) else id(model)
