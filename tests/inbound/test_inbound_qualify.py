"""Login names in the addresses of local mail become whole addresses; nothing else is touched."""

import pytest

from mtad.inbound.stamps import qualify


@pytest.mark.parametrize(
    ("head", "qualified"),
    [
        (
            b"From: root (Cron Daemon)\r\nTo: root\r\n\r\n",
            b"From: Cron Daemon <root@a.test>\r\nTo: root@a.test\r\n\r\n",
        ),
        (b"To: x@b.test, bob,\r\n c\r\n\r\n", b"To: x@b.test,\r\n\tbob@a.test,\r\n\tc@a.test\r\n\r\n"),
        (b'From: "O\'B, x" <www-data>\r\n\r\n', b'From: "O\'B, x" <www-data@a.test>\r\n\r\n'),
        (b'From: "a\\"b" <bob>\r\n\r\n', b'From: "a\\"b" <bob@a.test>\r\n\r\n'),
        (b"From: =?utf-8?B?eA==?= <bob>\r\n\r\n", b"From: =?utf-8?B?eA==?= <bob@a.test>\r\n\r\n"),
        ("From: J\xfcrgen <bob>\r\n\r\n".encode(), 'From: "J\xfcrgen" <bob@a.test>\r\n\r\n'.encode()),
        (b"fRoM: bob\r\nX: y\r\n\r\n", b"fRoM: bob@a.test\r\nX: y\r\n\r\n"),
    ],
)
def test_login_names_get_the_domain(head: bytes, qualified: bytes) -> None:
    assert qualify(head, "a.test") == qualified


@pytest.mark.parametrize(
    "head",
    [
        b"From: bob@b.test\r\nTo: Bob <bob@b.test>\r\n\r\n",
        b"To: undisclosed-recipients:;\r\nFrom: two words\r\n\r\n",
        b"From: <>\r\nTo:\r\n\r\n",
        b"X-To: bob\r\nSubject: From: bob\r\n\r\n",
        b"From: b\xff\xfeb\r\n\r\n",
        b"\r\n",
    ],
)
def test_everything_else_stays_as_it_is(head: bytes) -> None:
    assert qualify(head, "a.test") == head
