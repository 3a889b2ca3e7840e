"""Quotations of answers are one line, short, and cannot steer a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.wording import quote


@given(text=st.text())
def test_a_quotation_is_printable_and_short(text: str) -> None:
    quoted = quote(text)
    assert quoted.isprintable()
    assert len(quoted) <= 12 * 210  # each character escaped, as a pair


def test_letters_of_every_script_stay_and_controls_are_escaped() -> None:
    assert quote("é 東 ok") == '"é 東 ok"'
    assert quote("a\x1b[31m\x9b31m\u202eb\n") == r'"a\u001b[31m\u009b31m\u202eb\n"'
