"""Registries: names of objects that are imported only when they are loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffcls.support.errors import UsageError, unknown_name


class Registry(Mapping[str, str]):
    """A read-only table from a name to the place of an object, ``"module:attribute"``.

    Looking a name up imports nothing; `load` imports the module. So every name on a command line
    is checked before anything heavy is imported.

    Args:
        kind: kind of the named objects, as messages call it ("search", "method").
        places: name to ``"module:attribute"``.
        removed: names that earlier versions had, each with what to do instead; they are unknown,
            but the message says so.
    """

    def __init__(
        self, kind: str, places: Mapping[str, str], removed: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._places = dict(places)
        self._removed = dict(removed or {})

    def __getitem__(self, name: str) -> str:
        try:
            return self._places[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> UsageError:
        if name not in self._removed:
            return unknown_name(self.kind, name, self._places)
        return UsageError(
            f"this {self.kind} was removed",
            given=name,
            allowed=list(self._places),
            todo=self._removed[name],
        )

    def __contains__(self, name: object) -> bool:
        # Mapping's own test expects KeyError; ours raises UsageError
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, name: str) -> Any:
        """The object behind `name`.

        Raises:
            UsageError: for an unknown name, with the allowed ones and a "did you mean"; and for a
                removed one, with what to do instead.
        """
        module, attribute = self[name].split(":")
        return getattr(importlib.import_module(module), attribute)


def position(kind: str, name: str, known: Sequence[str]) -> int:
    """The index of a name among the known ones, ignoring case.

    Args:
        kind: kind of the named things, as messages call it.
        name: the given name.
        known: all known names, in order.

    Raises:
        UsageError: for an unknown name.
    """
    lower = [one.lower() for one in known]
    if name.lower() not in lower:
        raise unknown_name(kind, name, known)
    return lower.index(name.lower())
