"""Options of the replay command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffcls.classifiers.options import MAX_DRAWS
from diffcls.support.errors import UsageError
from diffcls.support.options import MAX_COUNT, check_values, flag_of, free_text, within
from diffcls.support.paths import UserPath, expand_fields

SETTINGS = ("search", "weighting", "vote", "draws", "confidence", "max_evaluations")
"""Options that a replay changes; without any it would repeat the run that saved the tables."""


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """The flags of ``python -m diffcls.replay``.

    Args:
        folder: folder of error tables.
        search, weighting, vote: names, each combination is replayed; a weighting may be a file.
            None: as saved.
        draws, confidence, max_evaluations: options of the searches; None: as saved.
        learn: file for a weighting learned from the tables, instead of a replay.
        json: machine output.

    Raises:
        UsageError: for a value that is not allowed.
    """

    folder: UserPath
    search: Sequence[str] | None = None
    weighting: Sequence[UserPath] | None = free_text()
    vote: Sequence[str] | None = None
    draws: int | None = within(1, MAX_DRAWS)
    confidence: float | None = within(0, 1, whole=False, is_open=True)
    max_evaluations: int | None = within(1, MAX_COUNT)
    learn: UserPath | None = None
    json: bool = False

    def __post_init__(self) -> None:
        expand_fields(self)
        check_values(self)
        for flag, names in (("--search", self.search), ("--vote", self.vote)):
            twice = [name for i, name in enumerate(names or ()) if name in (names or ())[:i]]
            if twice:
                raise UsageError(f"{flag} names one twice", given=twice[0], todo="remove one")

    def check_changes(self) -> None:
        """Raise UsageError where nothing is to be replayed otherwise than it was saved."""
        if self.learn is None and all(getattr(self, name) is None for name in SETTINGS):
            raise UsageError(
                "nothing to replay: everything is as saved",
                allowed=f"{', '.join(map(flag_of, SETTINGS))}, or --learn FILE",
                todo="name what to compare, such as --search exhaustive racing",
            )

    def unused(self) -> dict[str, str]:
        """Each option that has no effect, given the others -> why."""
        if self.learn is None:
            return {}
        return dict.fromkeys((*SETTINGS, "json"), "has no effect with --learn")
