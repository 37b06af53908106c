"""Questions of each open page: the newest counts, and every older one is superseded."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Press:
    """What was on the page when a button was pressed.

    Args:
        number: count of the page's presses.
        preset, upload, labels, template: inputs, as the browser sent them; the upload may also be
            an example of the demo's own.
    """

    number: float
    preset: Any
    upload: Any
    labels: Any
    template: Any


@dataclass
class Visit:
    """One open page.

    Args:
        number: count of its presses.
        waiting: the press that has not been answered yet.
        shown: what the page shows, or soon will: panels and inputs that its newest press set.
    """

    number: float = 0
    waiting: Press | None = None
    shown: dict[str, Any] = field(default_factory=dict)


class Visits:
    """The open pages, by the names of their sessions.

    Args:
        most: pages whose questions may wait at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._visits: dict[str, Visit] = {}
        self._lock = threading.Lock()

    def press(self, session: str, *inputs: Any, number: Any = None) -> bool | None:
        """A new question, in place of all older ones of its page.

        Args:
            session: the page.
            inputs: preset, upload, labels and template.
            number: count of the press in the browser, whose requests may overtake each other.

        Returns:
            False if too many other pages wait: the question is not taken. None if a later press
            came first: nothing of this one may be shown.
        """
        with self._lock:
            visit = self._end(session, number)
            if visit is None:
                return None
            if sum(one.waiting is not None for one in self._visits.values()) >= self._most:
                return False
            visit.waiting = Press(visit.number, *inputs)
            return True

    def end(self, session: str, number: Any = None) -> dict[str, Any] | None:
        """End all questions of a page; returns the panels that it showed.

        None if a press later than `number` came first.
        """
        with self._lock:
            shown = self._visits[session].shown if session in self._visits else {}
            return None if self._end(session, number) is None else shown

    def _end(self, session: str, number: Any) -> Visit | None:
        visit = self._visits.setdefault(session, Visit())
        if not isinstance(number, (int, float)):
            number = visit.number + 1
        if not number > visit.number:
            return None
        visit.number = number
        visit.waiting, visit.shown = None, {}
        return visit

    def take(self, session: str) -> Press | None:
        """The question of a page that waits; None if it was taken already, or ended."""
        with self._lock:
            visit = self._visits.get(session)
            if visit is None or visit.waiting is None:
                return None
            taken, visit.waiting = visit.waiting, None
            return taken

    def is_newest(self, session: str, press: Press) -> bool:
        """Whether the page has seen no other press since."""
        visit = self._visits.get(session)
        return visit is not None and visit.number == press.number

    def show(self, session: str, press: Press, panels: dict[str, str]) -> bool:
        """Remember panels of an answer; False if it is superseded, and must not be shown."""
        with self._lock:
            if not self.is_newest(session, press):
                return False
            self._visits[session].shown.update(panels)
            return True

    def note(self, session: str, panels: dict[str, Any]) -> dict[str, Any]:
        """Remember, and return, what a page shows after its newest press."""
        with self._lock:
            self._visits.setdefault(session, Visit()).shown.update(panels)
        return panels

    def state(self, session: str) -> dict[str, Any]:
        """What a page shows, or soon will, since its newest press."""
        with self._lock:
            visit = self._visits.get(session)
            return {} if visit is None else dict(visit.shown)

    def forget(self, session: str) -> None:
        """The page was closed: its questions end."""
        with self._lock:
            self._visits.pop(session, None)
