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
    what = Selector(sender=value, recipient=value, domain=value, user=value, ip=value, error=error)
    neutral = Selector(sender="a", recipient="a", domain="a", user="a", ip="a", error="a")
    forms = {
        re.sub(r"lower\((\S+)\) GLOB \?|(\S+) = \? COLLATE NOCASE|m\.sender = ''", "matches", one)
        for one in (selector.where(what, 0.0, lambda *_: []).sql, selector.where(neutral, 0.0, lambda *_: []).sql)
    }
    assert len(forms) == 1


def test_conditions_are_joined_by_and() -> None:
    what = Selector(sender="a", states=("ready", "held"), older_s=5.0, newer_s=9.0, size=(">=", 3), attempts=("<", 2))
    where = selector.where(what, 100.0, lambda *_: [])
    assert where.sql.count(" AND ") >= 5
    assert where.params == ("a", 100.0, 95.0, 91.0, 3, 2)


def test_too_many_ids() -> None:
    with pytest.raises(ValueError, match="ids at once"):
        selector.where(Selector(ids=("0",) * (selector.IDS_MAX + 1)), 0.0, lambda *_: [])
