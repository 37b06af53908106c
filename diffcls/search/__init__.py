"""Searches: best-arm identification over classes, one file for each ``--search`` value.

A search is a pure function of one image's error table, NaN where not evaluated: it names the
(class, draw) pairs to evaluate next. It is tested without a model, and its results do not depend on
whatever other images are being scored.
"""

from __future__ import annotations

from diffcls.support.registry import Registry

SEARCHES = Registry(
    "search",
    {
        "racing": "diffcls.search.racing:Racing",
        "paper": "diffcls.search.paper:Paper",
        "exhaustive": "diffcls.search.exhaustive:Exhaustive",
        "halving": "diffcls.search.halving:Halving",
        # composed of a screen and a race
        "learned": "diffcls.search.learned:Learned",
        "gradient": "diffcls.search.gradient:Gradient",
        "propose": "diffcls.search.propose:Propose",
    },
    removed={"tree": "choose --search learned, or racing, the most accurate"},
)
