"""What is said of a mail, without DNS: the field, and who its author is."""

import asyncio
from collections.abc import Sequence

import pytest
from auth_zone import Zone

from mtad.auth import arc, dmarc, spf
from mtad.auth.judge import Judgement, author_of, field, judge
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


class Silent(Zone):
    """Name servers that say nothing of keys, and that nothing else is there."""

    async def txt(self, name: str) -> Sequence[bytes]:
        if "._domainkey." in name:
            await asyncio.Event().wait()
        return await super().txt(name)


async def test_the_keys_of_a_mail_have_one_deadline() -> None:
    """Not each its own: the mail chooses how many there are."""
    bh = "frcCV1k9oG9oKj3dpUqdJg1PxRT2RSN/XKdLCPjaYaY="
    signatures = [f"DKIM-Signature: v=1; a=rsa-sha256; d=s{n}.test; s=s; h=from; bh={bh}; b=AAAA\r\n" for n in range(8)]
    mail = "".join(signatures) + "From: a@example.test\r\n\r\n"
    found = await judge(Silent(), mail.encode(), "", "", "", 0.0, "mx.example.test", keys_s=0.2)
    assert [one.result for one in found.dkim] == ["temperror"] * 8
    assert {one.reason for one in found.dkim} == {
        "the key cannot be looked up: no answer in time",
        "the key cannot be looked up: the keys of this mail take too long",
    }
