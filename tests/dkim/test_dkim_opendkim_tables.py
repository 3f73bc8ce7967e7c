"""OpenDKIM's tables as data."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.dkim.opendkim import Entry, TableError, key_table, signing_table, wanted

KEYS = """
# a comment
main   example.test:s1:/etc/dkimkeys/s1.private
each   %:mail:/etc/dkimkeys/mail.private   # for many
"""
SIGNS = """
*@example.test       main
sub.example.test     main
.example.test        main
bob@other.test       main
a.test               each
*@b.test             each
*@*.c.test           each
x.test               lost
"""


def test_what_is_taken_over() -> None:
    keys, rules, problems = wanted(key_table(KEYS), signing_table(SIGNS))
    assert keys == [
        Entry("main", "example.test", "s1", "/etc/dkimkeys/s1.private"),
        Entry("each", "a.test", "mail", "/etc/dkimkeys/mail.private"),
        Entry("each", "b.test", "mail", "/etc/dkimkeys/mail.private"),
    ]
    assert rules == [("sub.example.test", "example.test"), ("*.example.test", "example.test")]
    assert [problem.partition(":")[0] for problem in problems] == ["main", "each", "lost"]


@pytest.mark.parametrize(
    ("text", "words"),
    [("one two three", "line 1"), ("\n\nname example.test:s1", "line 3"), ("name d:s:relative", "no absolute path"),
     ("name ::/x", "line 1"), ("x\n" * 20_000, "more than")],
)  # fmt: skip
def test_bad_key_tables(text: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        key_table(text)


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_else_is_raised(keys: str, signs: str) -> None:
    with suppress(TableError):
        wanted(key_table(keys), signing_table(signs))
