"""Which (class, draw) pairs to evaluate: pure functions of one image's error table.

A search holds no state: all it knows is the table of errors, NaN where not evaluated. So it needs
no model to be tested, and gives the same answer whoever else is in flight.
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
        # races among the classes that a screen leaves
        "tree": "diffcls.search.tree:Tree",
        "gradient": "diffcls.search.gradient:Gradient",
        "propose": "diffcls.search.propose:Propose",
    },
)
