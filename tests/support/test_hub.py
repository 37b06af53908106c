"""Requests to the Hub: the wait for a response is bounded."""

from __future__ import annotations

import threading

import pytest

from diffcls.support import hub


def test_call_that_does_not_return_in_time_raises_a_timeout() -> None:
    with pytest.raises(TimeoutError):
        hub.within(0.05, threading.Event().wait)
    with pytest.raises(ZeroDivisionError):
        hub.within(60, lambda: 1 // 0)
    assert hub.within(60, lambda: 7) == 7
