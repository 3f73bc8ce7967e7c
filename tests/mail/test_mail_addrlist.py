import ast
import inspect
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail import addrlist
from mtad.mail.addrlist import addresses


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", []),
        (" ,, ; ", []),
        ("a@b.example", [("", "a@b.example")]),
        ("root", [("", "root")]),
        ("a@b, c@d", [("", "a@b"), ("", "c@d")]),
        ("A B <a@b>", [("A B", "a@b")]),
        ('"B, A" <a@b>, c@d', [("B, A", "a@b"), ("", "c@d")]),
        ('"say \\"hi\\"" <a@b>', [('say "hi"', "a@b")]),
        ("John Q. Public <j@x>", [("John Q. Public", "j@x")]),
        ("a@b (Al B)", [("Al B", "a@b")]),
        ("(c1(nested \\) x))a@b", [("c1(nested ) x)", "a@b")]),
        ("<a@b>", [("", "a@b")]),
        ("<>", [("", "")]),
        ("<a (c) @ b . example>", [("c", "a@b.example")]),
        ("a @ b . example", [("", "a@b.example")]),
        ("<@x,@y:a@b>", [("", "a@b")]),
        ('"a b"@c', [("", '"a b"@c')]),
        ('<"a>,b"@c>', [("", '"a>,b"@c')]),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("a@[IPv6:2001:db8::1], b", [("", "a@[IPv6:2001:db8::1]"), ("", "b")]),
        ("undisclosed-recipients:;", []),
        ("undisclosed-recipients:", []),
        ("Team: a@b, C <c@d>; e@f", [("", "a@b"), ("C", "c@d"), ("", "e@f")]),
        ("Team: a@b;, Other: c@d;", [("", "a@b"), ("", "c@d")]),
        ("a@b; c@d", [("", "a@b"), ("", "c@d")]),
        ("a@b,\r\n\tc@d", [("", "a@b"), ("", "c@d")]),
        ('"x\r\n y" <a@b>', [("x y", "a@b")]),
        ("Zoë <z@b>", [("Zoë", "z@b")]),
        # Malformed: nothing is lost and nothing becomes an address that was none.
        ("a@x\n\tBcc: evil@y", [("", "a@x Bcc : evil@y")]),
        ("alice bob", [("", "alice bob")]),
        ("<a@b", [("", "a@b")]),
        ("<a@b, c@d", [("", "a@b , c@d")]),
        ("<a@b> <c@d>", [("", "a@b"), ("", "c@d")]),
        ("a@b> c@d", [("", "a@b > c@d")]),
        ('"open <a@b>', [("", '"open <a@b>')]),
        ("(open <a@b>", []),
        ("a@b)", [("", "a@b)")]),
        ("G: H: a@b;", [("", "H : a@b")]),
        (": a@b", [("", ": a@b")]),
        ("back\\", [("", "back\\")]),
        ('"back\\', [("", '"back\\')]),
    ],
)
def test_addresses(value: str, found: list[tuple[str, str]]) -> None:
    assert addresses(value) == found


WORD = st.text(st.sampled_from("abcxyz0!#$%&'*+-/=?^_`{|}~"), min_size=1, max_size=6)
SPEC = st.builds("{}@{}.example".format, WORD, st.text(st.sampled_from("ab0"), min_size=1, max_size=5))
NAME = st.text(st.sampled_from('ab ,<>@:;()[]\\"ü.'), max_size=10).map(str.strip)


@given(st.lists(st.tuples(NAME, SPEC), max_size=6), st.booleans())
def test_what_is_written_is_read(mailboxes: list[tuple[str, str]], grouped: bool) -> None:
    written = ", ".join(
        '"' + name.replace("\\", "\\\\").replace('"', '\\"') + f'" <{spec}>' if name else spec
        for name, spec in mailboxes
    )
    assert addresses(f"Some people: {written};" if grouped else written) == mailboxes


@given(st.lists(st.tuples(WORD, SPEC), min_size=1, max_size=4))
def test_the_standard_library_agrees_on_plain_lists(mailboxes: list[tuple[str, str]]) -> None:
    written = ",\r\n ".join(f"{name} <{spec}>" for name, spec in mailboxes)
    assert addresses(written) == [(name, spec) for name, spec in getaddresses([written])]


@given(st.text(st.sampled_from('ab@.<>,:;()[]"\\ \r\n'), max_size=60) | st.text())
def test_garbage_never_raises(value: str) -> None:
    for name, spec in addresses(value):
        assert isinstance(name, str)
        assert isinstance(spec, str)


@pytest.mark.parametrize("part", ["(", '"', "<", ",", ":", "a:", "a@b,", "\\", "[", "a ", "@", "(x)", "<a>", "x@y:"])
def test_a_megabyte_of_anything_is_read(part: str) -> None:
    addresses(part * (200_000 // len(part)))


def test_imports_nothing() -> None:
    tree = ast.parse(inspect.getsource(addrlist))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
