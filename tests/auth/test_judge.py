"""What is said of a mail, without DNS: the field, and who its author is."""

import pytest

from mtad.auth import arc, dmarc, spf
from mtad.auth.judge import Judgement, author_of, field
from mtad.dkim.verify import Result


def judgement(reason: str, domain: str = "example.test", sender: str = "a@example.test") -> Judgement:
    signature = Result(domain, "s", "temperror", reason)
    return Judgement(spf.Result("none"), sender, (signature,), dmarc.Result("none", ""), arc.Result("none"))


@pytest.mark.parametrize(
    ("reason", "comment"),
    [
        ("the body was changed", "the body was changed"),
        (") dkim=pass (", "  dkim=pass  "),
        ("no answer; dkim=pass", "no answer, dkim=pass"),
        ("a\\", "a "),
        ("a\r\nX: y", "a x0d x0aX: y"),
    ],
)
def test_a_comment_has_nothing_that_ends_it(reason: str, comment: str) -> None:
    """RFC 8601 2.2. Some who read the field look for semicolons, also within comments."""
    assert field(judgement(reason), "mx.example.test").split("\r\n\t") == [
        "Authentication-Results: mx.example.test;",
        "spf=none smtp.mailfrom=a@example.test;",
        f"dkim=temperror ({comment}) header.d=example.test header.s=s;",
        "dmarc=none",
    ]


def test_values_are_quoted() -> None:
    said = field(judgement("", sender='a"; dkim=pass \r\nx@example.test'), "mx.example.test").split("\r\n\t")[1]
    assert said == 'spf=none smtp.mailfrom="a\\"; dkim=pass \\\\x0d\\\\x0ax@example.test";'


@pytest.mark.parametrize(
    ("mail", "domain"),
    [
        (b"From: a@example.test\r\n\r\n", "example.test"),
        (b"From: A (x@other.test) <a@Example.TEST>\r\n\r\n", "example.test"),
        (b'From: "x@other.test" <a@example.test>\r\n\r\n', "example.test"),
        (b"From: a@example.test, b@example.test\r\n\r\n", "example.test"),
        (b"From: <@other.test:a@example.test>\r\n\r\n", "example.test"),
        ("From: a@b\u00fccher.test\r\n\r\n".encode(), "xn--bcher-kva.test"),
        (b"From: a@b\xfccher.test\r\n\r\n", ""),
        (b"From: a@example.test, b@other.test\r\n\r\n", ""),
        (b"From: a@example.test\r\nfrom : b@other.test\r\n\r\n", ""),
        (b"From: a@example.test\r\nX: y\r\n\r\nFrom: b@other.test\r\n", "example.test"),
        (b"From: x@other.test <a@example.test>\r\n\r\n", "example.test"),
        (b"From: a@example.test@other.test\r\n\r\n", ""),
        (b"From: <a@example.test@other.test>\r\n\r\n", ""),
        (b'From: <"a@other.test"@example.test>\r\n\r\n', "example.test"),
        (b"From: <a..b.@example.test>\r\n\r\n", "example.test"),
        (b"From: us:;\r\n\r\n", ""),
        (b"From: <>\r\n\r\n", ""),
        (b"Subject: x\r\n\r\n", ""),
    ],
)
def test_the_author(mail: bytes, domain: str) -> None:
    found, problem = author_of(mail)
    assert found == domain, problem
    assert bool(problem) == (not domain)
