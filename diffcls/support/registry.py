"""Names that stand for objects, loaded only when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from diffcls.support.errors import unknown_name


class Registry(Mapping[str, str]):
    """A read-only table from a name to the place of an object, ``"module:attribute"``.

    Looking a name up costs nothing; `load` imports the module. So every name of a command line
    is checked before anything heavy is imported.

    Args:
        kind: what the names stand for, as said in messages ("search", "method").
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
    """Where a name stands among the known ones, upper and lower case alike.

    Args:
        kind: what the names stand for, as said in messages.
        name: what was given.
        known: all of them, in order.

    Raises:
        UsageError: for a name that is not among them.
    """
    lower = [one.lower() for one in known]
    if name.lower() not in lower:
        raise unknown_name(kind, name, known)
    return lower.index(name.lower())
