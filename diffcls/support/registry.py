"""Registries: names of objects that are imported only when they are loaded."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffcls.support.errors import unknown_name


class Registry(Mapping[str, str]):
    """A read-only table from a name to the place of an object, ``"module:attribute"``.

    Looking a name up imports nothing; `load` imports the module. So every name on a command line
    is checked before anything heavy is imported.

    Args:
        kind: kind of the named objects, as messages call it ("search", "method").
        places: name to ``"module:attribute"``.
    """

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self._places = dict(places)

    def __getitem__(self, name: str) -> str:
        try:
            return self._places[name]
        except KeyError:
            raise unknown_name(self.kind, name, self._places) from None

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
            UsageError: for an unknown name, with the allowed ones and a "did you mean".
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
