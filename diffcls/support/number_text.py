"""Numbers as text for people: percentages, signed numbers and p-values."""

from __future__ import annotations

MINUS = "−"
SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
MIN_PLAIN_P = 0.001
"""p-values below it are written with a power of ten."""


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction in percent, never rounded to 0 or 100 where it is neither.

    Args:
        fraction: 0.5 gives ``50.0 %``, 0.9999 gives ``> 99.9 %``; it may lie outside [0, 1].
        digits: decimals.
    """
    text, unit = f"{100 * fraction:.{digits}f}", 10.0**-digits
    if fraction > 0 and float(text) == 0:
        return f"< {unit:.{digits}f} %"
    if fraction < 1 and float(text) == 100:
        return f"> {100 - unit:.{digits}f} %"
    return f"{with_minus(text)} %"


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign; what rounds to 0 has none."""
    text = f"{value:+.{digits}f}"
    return with_minus(text) if float(text) else text[1:]


def with_minus(text: str) -> str:
    """The text of a number, its hyphens replaced by minus signs; an exponent's too."""
    return text.replace("-", MINUS)


def p_value(p: float) -> str:
    """A p-value: three decimals, or two digits and a power of ten where it is small."""
    if p >= MIN_PLAIN_P or p == 0:
        return f"{p:.3f}"
    digits, _, exponent = f"{p:.1e}".partition("e")
    return f"{digits} × 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
