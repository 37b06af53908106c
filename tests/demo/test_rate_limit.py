"""Rate limit: at most so many events of a visitor in any minute."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diffcls.demo import rate_limit
from diffcls.demo.rate_limit import WINDOW_SECONDS, RateLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.integers(1, 5), st.lists(st.floats(0, 40), max_size=60))
def test_no_window_of_a_minute_holds_more_events_than_allowed(most: int, gaps: list[float]) -> None:
    clock = Clock()
    limit, allowed = RateLimit(most, clock), []
    for gap in gaps:
        clock.now += gap
        if limit.wait("a") == 0:
            allowed.append(clock.now)
    for end in allowed:
        assert sum(end - WINDOW_SECONDS < one <= end for one in allowed) <= most


def test_the_wait_ends_when_the_next_event_is_allowed() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    assert (limit.wait("a"), limit.wait("a")) == (0, 0)
    clock.now = 25.0
    assert limit.wait("a") == 35.0
    clock.now = 59.0
    assert limit.wait("a") == 1.0  # refused events are not counted
    clock.now = 60.0
    assert limit.wait("a") == 0


def test_visitors_are_counted_apart_and_only_so_many_are_remembered(monkeypatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_VISITORS", 3)
    limit = RateLimit(1, Clock())
    for visitor in "abcd":
        assert limit.wait(visitor) == 0
    assert limit.wait("d") > 0
    assert len(limit._events) == 3
