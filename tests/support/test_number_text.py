"""Numbers as text: nothing is rounded to certainty, and minus signs are no hyphens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcls.support.number_text import p_value, percent, signed


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(0, 3))
def test_a_fraction_between_0_and_1_is_never_shown_as_either(p: float, digits: int) -> None:
    text = percent(p, digits)
    assert text not in (f"{0:.{digits}f} %", f"{100:.{digits}f} %")
    sign, number = text[0], float(text.strip("<> %"))
    if sign == "<":
        assert 100 * p < number
    elif sign == ">":
        assert 100 * p > number
    else:
        assert abs(100 * p - number) <= 0.5000001 * 10**-digits


@pytest.mark.parametrize(
    ("p", "text"),
    [(0, "0.0 %"), (1, "100.0 %"), (0.5, "50.0 %"), (-0.25, "−25.0 %"), (1.5, "150.0 %")],
)
def test_other_fractions_are_rounded(p: float, text: str) -> None:
    assert percent(p) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.25, "+1.2"), (-3.0, "−3.0"), (0.0, "0.0"), (-0.01, "0.0"), (0.04, "0.0")]
)
def test_a_signed_number_has_a_minus_sign_and_zero_has_none(value: float, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "1.000"), (0.001, "0.001"), (1.4e-14, "1.4 × 10⁻¹⁴"), (0.0, "0.000")]
)
def test_small_p_values_have_a_power_of_ten(p: float, text: str) -> None:
    assert p_value(p) == text
