"""What a page of HTML holds, read by the parser of the standard library."""

from __future__ import annotations

from html.parser import HTMLParser


class PageReader(HTMLParser):
    """Elements, texts and tables of a page.

    Attributes:
        elements: (tag, attributes) in their order.
        rows: cells of each table row, as their text.
        open: elements without an end; empty for a page that is well formed.
    """

    VOID = frozenset({"meta", "link", "img", "wbr", "br", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-5:], self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            return
        self.text += data
        if {"td", "th"} & {*self.open}:
            self.rows[-1][-1] += data

    def attributes(self, tag: str, name: str) -> list[str]:
        """Values of an attribute of all elements of a tag that have it."""
        return [found[name] for one, found in self.elements if one == tag and name in found]
