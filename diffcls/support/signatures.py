"""Signatures of library functions whose arguments are the fields of an options class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from diffcls.support.options import read as options_from

P = ParamSpec("P")
Options = TypeVar("Options")
Result = TypeVar("Result")


@overload
def takes(
    options: Callable[P, Options], read: None = None
) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]: ...


@overload
def takes(
    options: Callable[P, object], read: Callable[[Mapping[str, Any]], Options]
) -> Callable[[Callable[[Options], Result]], Callable[P, Result]]: ...


def takes(
    options: Callable[P, Any], read: Callable[[Mapping[str, Any]], Any] | None = None
) -> Callable[[Callable[[Any], Result]], Callable[P, Result]]:
    """Decorator: a function of an options object becomes one of that object's keyword arguments.

    Editors and ``help`` show the arguments with their types and defaults.

    Args:
        options: class of the options, whose fields are shown as the arguments.
        read: makes what the function takes of the keyword arguments, to normalise and check them;
            None: `diffcls.support.options.read`.
    """

    def decorate(function: Callable[[Any], Result]) -> Callable[P, Result]:
        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> Result:
            if args:
                raise TypeError(f"{function.__name__} takes keyword arguments only")
            make: Any = options
            return function(read(keywords) if read else options_from(make, keywords))

        shown = inspect.signature(options)
        returned = inspect.signature(function).return_annotation
        call.__signature__ = shown.replace(return_annotation=returned)  # type: ignore[attr-defined]
        return call

    return decorate
