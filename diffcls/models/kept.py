"""Reuse of loaded models: runs of one model that follow one another load it once.

Within `models_kept` each loader keeps the model that it loaded last, and releases it before it
loads another one, so that no more than one is in memory.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Model = TypeVar("Model")


@dataclass(frozen=True)
class _Kept:
    arguments: object
    model: Any
    dtypes: tuple[object, ...]


_MODELS: ContextVar[dict[str, _Kept] | None] = ContextVar("models", default=None)


@contextmanager
def models_kept() -> Iterator[None]:
    """Context in which the loaders that `kept` decorates keep their last model."""
    token = _MODELS.set({})
    try:
        yield
    finally:
        _MODELS.reset(token)


def kept(load: Callable[P, Model]) -> Callable[P, Model]:
    """Decorator of a loader: within `models_kept` the same arguments return the same model.

    A model is loaded again if the precision of its weights has changed, as that of text encoders
    does whose half-precision output was not finite: a reused model gives the numbers of a new one.
    """
    name = f"{load.__module__}.{load.__qualname__}"

    @functools.wraps(load)
    def call(*args: P.args, **keywords: P.kwargs) -> Model:
        models = _MODELS.get()
        if models is None:
            return load(*args, **keywords)
        arguments = (args, keywords)
        last = models.get(name)
        if last is not None:
            if last.arguments == arguments and last.dtypes == _dtypes(last.model):
                model: Model = last.model
                return model
            del models[name], last
            _release_memory()
        loaded = load(*args, **keywords)
        models[name] = _Kept(arguments, loaded, _dtypes(loaded))
        return loaded

    return call


def _dtypes(model: Any) -> tuple[object, ...]:
    """The precision of all weights of a denoiser's pipeline, in order; empty for other models."""
    parts = getattr(getattr(model, "pipeline", None), "components", {})
    modules = (part for part in parts.values() if hasattr(part, "parameters"))
    return tuple(weight.dtype for module in modules for weight in module.parameters())


def _release_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
