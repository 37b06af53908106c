"""Property tests of two sizes: short ones in the fast suite, thorough ones with ``-m slow``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

Test = Callable[..., None]


def examples(
    n_fast: int = 100, n_slow: int = 2000, /, **strategies: SearchStrategy[Any]
) -> Callable[[Test], Test]:
    """Run a test with `n_fast` examples, and as a slow test with `n_slow`.

    The slow test draws other examples each time, to find what is not known yet. Those of the fast
    suite are the same each time, so that it fails for a change only, never by chance.

    It takes the place of ``@given``; the other arguments of the test are pytest's fixtures::

        @examples(text=st.text())
        def test_truth(tmp_path: Path, text: str) -> None: ...

    A ``tmp_path`` is shared by all examples of one test: a test overwrites its files.
    """

    def decorate(test: Test) -> Test:
        own = inspect.signature(test).parameters.values()
        fixtures = [parameter for parameter in own if parameter.name not in strategies]

        def run(n_examples: int, **values: Any) -> None:
            def example(**drawn: Any) -> None:
                test(**values, **drawn)

            chosen = settings(
                max_examples=n_examples,
                derandomize=n_examples != n_slow,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )
            example.__qualname__ = example.__name__ = test.__qualname__
            chosen(given(**strategies)(example))()

        size = inspect.Parameter("n_examples", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([size, *fixtures])  # type: ignore[attr-defined]
        run.__name__, run.__module__, run.__doc__ = test.__name__, test.__module__, test.__doc__
        sizes = [n_fast, pytest.param(n_slow, marks=pytest.mark.slow)]
        marked: Test = pytest.mark.parametrize("n_examples", sizes)(run)
        return marked

    return decorate
