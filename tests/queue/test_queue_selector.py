"""The selector's text holds nothing of what the operator said, and matching agrees with a model."""

import re
import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.queue import selector
from mtad.queue.store import Selector

WORDS = st.text(alphabet="aB*?[]%_@.^-!'\\é", max_size=8)


def model(pattern: str, text: str) -> bool:
    if pattern[0] == "@":
        pattern = f"*{pattern}"
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text, re.IGNORECASE | re.DOTALL) is not None


@given(pattern=WORDS.filter(bool), text=WORDS)
@example(pattern="[a]*", text="[a]b")
@example(pattern="%", text="x")
def test_patterns_agree_with_a_model(pattern: str, text: str) -> None:
    where = selector.where(Selector(recipient=pattern), 0.0, lambda low, end: [])
    connection = sqlite3.connect(":memory:")
    try:
        row = connection.execute(f"SELECT {where.sql} FROM (SELECT ? AS address) r", (*where.params, text)).fetchone()
    finally:
        connection.close()
    assert bool(row[0]) == model(pattern, text)


@given(value=st.text(min_size=1, max_size=20))
def test_no_value_becomes_text_of_the_statement(value: str) -> None:
    error = f"x{value}"  # no class of errors
    subjects = {"subjects": (value, value), "not_subjects": (value,)}
    what = Selector(sender=value, recipient=value, domain=value, user=value, ip=value, error=error, **subjects)
    subjects = {"subjects": ("a", "a"), "not_subjects": ("a",)}
    neutral = Selector(sender="a", recipient="a", domain="a", user="a", ip="a", error="a", **subjects)
    forms = {
        re.sub(r"lower\((\S+)\) GLOB \?|(\S+) = \? COLLATE NOCASE|m\.sender = ''", "matches", one)
        for one in (selector.where(what, 0.0, lambda *_: []).sql, selector.where(neutral, 0.0, lambda *_: []).sql)
    }
    assert len(forms) == 1


@given(subject=WORDS, any_of=st.lists(WORDS.filter(bool), max_size=3), none_of=st.lists(WORDS.filter(bool), max_size=3))
@example(subject="Cheap PILLS", any_of=["x", "pills"], none_of=[])
@example(subject="Your Order", any_of=[], none_of=["pills", "your order"])
def test_subjects_agree_with_a_model(subject: str, any_of: list[str], none_of: list[str]) -> None:
    what = Selector(subjects=tuple(any_of), not_subjects=tuple(none_of))
    where = selector.where(what, 0.0, lambda *_: [])
    connection = sqlite3.connect(":memory:")
    try:
        row = connection.execute(
            f"SELECT {where.sql} FROM (SELECT ? AS subject) m", (*where.params, subject)
        ).fetchone()
    finally:
        connection.close()
    words = subject.lower()
    fits = not any_of or any(part.lower() in words for part in any_of)
    assert bool(row[0]) == (fits and not any(part.lower() in words for part in none_of))


def test_too_many_subjects() -> None:
    with pytest.raises(ValueError, match="subjects at once"):
        selector.where(Selector(not_subjects=("x",) * (selector.SUBJECTS_MAX + 1)), 0.0, lambda *_: [])


def test_conditions_are_joined_by_and() -> None:
    what = Selector(sender="a", states=("ready", "held"), older_s=5.0, newer_s=9.0, size=(">=", 3), attempts=("<", 2))
    where = selector.where(what, 100.0, lambda *_: [])
    assert where.sql.count(" AND ") >= 5
    assert where.params == ("a", 100.0, 95.0, 91.0, 3, 2)


def test_too_many_ids() -> None:
    with pytest.raises(ValueError, match="ids at once"):
        selector.where(Selector(ids=("0",) * (selector.IDS_MAX + 1)), 0.0, lambda *_: [])
