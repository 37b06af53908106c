"""Text that every file can hold: lone surrogates, as of bytes that are not UTF-8, are escaped."""

from __future__ import annotations


def valid_text(text: str) -> str:
    r"""The text in which each character that UTF-8 does not have is an escape sequence.

    Python decodes bytes of a command line or a file name that are not UTF-8 to lone surrogates,
    which no file in UTF-8 can hold: the byte FF becomes ``\xff``, other surrogates ``\ud800``.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """The text without characters that control a terminal, each of which becomes ``?``."""
    return "".join(c if c.isprintable() else "?" for c in text)
