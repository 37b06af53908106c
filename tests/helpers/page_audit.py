"""Defects of a page that is open in the browser, as sentences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.browser import PageLog
    from playwright.sync_api import Page

LAYOUT = Path(__file__).with_suffix(".js")
IMPACTS = ("serious", "critical")
"""Impacts of axe's rules that count as a defect."""


@cache
def axe_script() -> str:
    """The source of axe-core, which comes with the package axe-playwright-python."""
    from axe_playwright_python.base import AXE_SCRIPT

    return AXE_SCRIPT


def layout_defects(page: Page, width: int, exclude: Sequence[str] = ()) -> list[str]:
    """Overflow, what is cut off outside the viewport, and missing alternative texts.

    Args:
        page: the open page.
        width: width of its viewport in CSS pixels.
        exclude: selectors of elements that belong to others.
    """
    script = LAYOUT.read_text(encoding="utf-8")
    return list(page.evaluate(script, {"width": width, "exclude": ", ".join(exclude)}))


def accessibility_defects(
    page: Page, exclude: Sequence[str] = (), ignore: Sequence[str] = ()
) -> list[str]:
    """Serious and critical violations of axe's rules, one sentence per rule.

    Args:
        page: the open page.
        exclude: selectors of elements that belong to others.
        ignore: rules that are left out, such as "color-contrast".
    """
    context = {"include": [["html"]], "exclude": [[selector] for selector in exclude]}
    options = {
        "resultTypes": ["violations"],
        "rules": {rule: {"enabled": False} for rule in ignore},
    }
    page.evaluate(axe_script())
    call = f"axe.run({json.dumps(context)}, {json.dumps(options)})"
    violations = page.evaluate(f"{call}.then(results => results.violations)")
    return [_sentence(one) for one in violations if one["impact"] in IMPACTS]


def _sentence(violation: dict[str, Any]) -> str:
    nodes = violation["nodes"]
    targets = [" ".join(map(str, node["target"])) for node in nodes[:3]]
    if len(nodes) > 3:
        targets.append(f"{len(nodes) - 3} more")
    checks = [check for kind in ("any", "all", "none") for check in nodes[0][kind]]
    detail = f"; {checks[0]['message']}" if checks else ""
    return (
        f"axe {violation['id']} ({violation['impact']}): {violation['help']}; "
        f"at {', '.join(targets)}{detail}; {violation['helpUrl']}"
    )


def defects(
    page: Page, log: PageLog, exclude: Sequence[str] = (), ignore: Sequence[str] = ()
) -> list[str]:
    """All defects of a page: what its log has, its layout, its accessibility.

    Args:
        page: the open page.
        log: what went wrong since it was opened.
        exclude: selectors of elements that belong to others, such as the parts of a library.
        ignore: rules of axe that are left out.
    """
    log.run_scripts(True)  # after loading: the page's own, passed over, stay so
    found = [
        *dict.fromkeys(log.entries),
        *layout_defects(page, log.width, exclude),
        *accessibility_defects(page, exclude, ignore),
    ]
    log.run_scripts(log.switch is None)
    return found
