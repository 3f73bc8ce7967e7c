import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.text import clean, encodable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("550 5.1.1 no such user", "550 5.1.1 no such user"),
        ("größe ✓", "größe ✓"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\0", "nul\\x00"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2028\u2066", "\\u2028\\u2066"),
        ("\udc80", "\\udc80"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_encodable() -> None:
    assert encodable("größe \u2028\0")
    assert not encodable("a\udcffb")


def test_clean_cuts_to_the_limit() -> None:
    assert clean("x" * 501) == "x" * 497 + "..."
    assert clean("x" * 500) == "x" * 500
    assert clean("\0" * 10, 20) == "\\x00\\x00\\x00\\x00\\..."
    assert clean("abc", 2) == ".."
    assert clean("abc", 0) == ""


@given(st.text(st.characters()), st.integers(0, 40))
def test_clean_is_always_printable_and_short(text: str, limit: int) -> None:
    shown = clean(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
