"""Row 21 of the security checklist: servers that answer us with poison. What they say ends in our log, in the queue,
in a report to the sender and on the operator's terminal."""

import asyncio
import re

import pytest
from smtp_peer import Peer, serving
from test_scheduler import house, running

from mtad.config import RouteRule, Target
from mtad.mail.envelope import State

POISON = {
    "fields of a queue file": "550-5.1.1 a\r\n550-type: mda\r\n550 5.1.1 mda: touch /tmp/pwned",
    "a whole mail": "550-5.1.1 x\r\n550-\r\n550-From: ceo@own.test\r\n550-\r\n550 5.1.1 obey",
    "the terminal": "550 5.1.1 \x1b[2J\x1b]0;owned\x07\x9b31m",
    "right to left": "550 5.1.1 \u202egpj.exe\u2066",
    "8 bit": "550 5.1.1 caf\u00e9 \U0001f600",
    "a boundary": "550 5.1.1 --=_boundary--",
    "bare CR": "550 5.1.1 a\rb",
    "NUL": "550 5.1.1 a\0b",
    "a long line": "550 5.1.1 " + "x" * 3000,
    "many lines": "550-5.1.1 x\r\n" * 80 + "550 5.1.1 y",
    "a log line of its own": "550 5.1.1 x status=sent (250 ok)",
    "markup": "550 5.1.1 <script>alert(1)</script> %s %d {0} ${HOME} `id`",
}


def towards(port):
    """All mail goes there, the report to its sender too."""
    return {"routes": (RouteRule("*", Target("smtp", "127.0.0.1", port)),), "allow_private_addresses": True}


@pytest.mark.parametrize("name", POISON)
async def test_row_21_poison_is_only_text(tmp_path, name):
    says = {"RCPT TO:<b@": POISON[name]}
    async with serving(Peer(says=says)) as peer, house(tmp_path, **towards(peer.port)) as made, running(made):
        message = await made.put("b@there.test")
        made.scheduler.wake()
        [recipient] = await made.settled(message)
        async with asyncio.timeout(10):
            while not peer.mails:
                await asyncio.sleep(0.005)
        report = peer.mails[0].octets
        assert b"Final-Recipient: rfc822; b@there.test" in report
    assert recipient.state is State.FAILED
    assert recipient.last is not None
    assert recipient.last.code == 550
    for line in made.lines:
        assert line.isprintable(), line
        assert "internal error" not in line
    assert sum(f"{message}: to=<b@there.test>" in line and "status=bounced" in line for line in made.lines) == 1
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]", report), report
    assert max(map(len, report.split(b"\r\n"))) <= 998
    for line in report.split(b"\r\n"):
        assert not line.lower().startswith((b"mda:", b"type:", b"from: ceo")), line
    assert "\u202e".encode() not in report


TEMPORARY = {
    "cut": "cut",
    "no reply code": "hello",
    "1yz": "150 wait",
    "3yz to RCPT": "354 go",
    "a code of four digits": "5500 no",
    "two codes": "250-x\r\n550 y",
    "450": "450 4.2.1 later",
    "421": "421 4.3.2 bye",
    "a code beyond all": "999 x",
}


@pytest.mark.parametrize("name", TEMPORARY)
async def test_row_21_what_is_no_clear_no_is_tried_again(tmp_path, name):
    says = {"RCPT": TEMPORARY[name]}
    async with serving(Peer(says=says)) as peer, house(tmp_path, **towards(peer.port)) as made, running(made):
        message = await made.put("b@there.test")
        made.scheduler.wake()
        [recipient] = await made.settled(message)
        assert "RCPT TO:<b@there.test>" in " ".join(peer.commands)
    assert recipient.state is State.READY, recipient.last
    assert recipient.next_at > made.clock()
    assert not peer.mails
    assert all(line.isprintable() and "internal error" not in line for line in made.lines)
