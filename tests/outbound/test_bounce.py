import random
from dataclasses import replace
from email import message_from_bytes
from email.policy import default

import pytest

from mtad.config import Config, Delivery, Paths
from mtad.mail.envelope import Attempt, Content, Message, Peer, Recipient, State
from mtad.mail.ident import Ids
from mtad.mail.reply import Refused, Reply
from mtad.outbound import bounce

NOW = 1_700_000_000.0
ID = "358zn0000001"
CONFIG = Config("mail.own.test", ("own.test",), Paths("", "/d", "/r"), delivery=Delivery(expire_s=1000.0))
MESSAGE = Message(ID, "a@x.test", 30, NOW - 5000, NOW + 5000, Peer("smtp"), header_id="<m@x.test>")
CONTENT = Content(b"Subject: hi\r\nMessage-ID: <m@x.test>\r\n\r\n", b"the body\r\n")
NO = Reply(550, "5.1.1", "who?", "mx.y.test", "rcpt")
LATER = Reply(451, "4.7.1", "later", "mx.y.test", "rcpt")
OK = Reply(250, "2.0.0", "ok", "mx.y.test", "final")


def rcpt(n=1, notify="", **more):
    return Recipient(ID, n, f"b{n}@y.test", f"b{n}@y.test", "y.test", State.LEASED, notify=notify, **more)


def failed(one):
    return replace(one, state=State.FAILED, tries=1, last=NO)


def delayed(one):
    return replace(one, state=State.READY, tries=3, last=LATER, warned_at=NOW)


def done(one):
    return replace(one, state=State.DONE, tries=1, last=OK)


def report(*pairs, message=MESSAGE, content=CONTENT, relay="mx[192.0.2.1]:25", promised=(), expand=lambda a: (a,)):
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    attempts = [Attempt(new.n, NOW - 1, 1.0, new.last, relay) for new in after]
    ids = Ids(lambda: NOW, random.Random(1))
    handed = {new.n: bounce.Handed(True, new.n in promised) for new in after if "[" in relay}
    return bounce.reports(message, content, before, after, attempts, handed, CONFIG, NOW, ids, expand)


def status_of(new):
    """The delivery-status part as a list of dicts: the message's, then the recipients'."""
    whole = message_from_bytes(new.head + new.body, policy=default)
    assert whole.get_content_type() == "multipart/report"
    return [dict(part.items()) for part in list(whole.iter_parts())[1].get_payload()]


def test_a_failure_is_told():
    made = report((rcpt(), failed(rcpt())))
    [new] = made.messages
    assert made.nobody == ""
    assert new.message.sender == ""
    assert new.message.peer == Peer("internal")
    assert new.message.expires_at == NOW + 1000
    assert new.message.size_bytes == len(new.head) + len(new.body)
    assert new.message.id != ID
    [to] = new.recipients
    assert (to.address, to.domain, to.state, to.next_at, to.n) == ("a@x.test", "x.test", State.READY, NOW, 1)
    _, one = status_of(new)
    assert one["Final-Recipient"] == "rfc822; b1@y.test"
    assert one["Action"] == "failed"
    assert one["Status"] == "5.1.1"


def test_one_report_for_all_that_failed_and_one_for_all_that_wait():
    pairs = [
        (rcpt(1), failed(rcpt(1))),
        (rcpt(2), delayed(rcpt(2))),
        (rcpt(3), failed(rcpt(3))),
        (rcpt(4), done(rcpt(4))),
        (rcpt(5), delayed(rcpt(5))),
    ]
    made = report(*pairs)
    actions = sorted([one["Action"] for one in status_of(new)[1:]] for new in made.messages)
    assert actions == [["delayed", "delayed"], ["failed", "failed"]]
    assert len({new.message.id for new in made.messages}) == 2


@pytest.mark.parametrize(
    ("notify", "after", "told"),
    [
        ("", failed, "failed"),
        ("FAILURE", failed, "failed"),
        ("SUCCESS,FAILURE", failed, "failed"),
        ("NEVER", failed, None),
        ("DELAY", failed, None),
        ("SUCCESS", failed, None),
        ("", delayed, "delayed"),
        ("DELAY", delayed, "delayed"),
        ("FAILURE", delayed, None),
        ("NEVER", delayed, None),
        ("", done, None),
        ("FAILURE", done, None),
        ("SUCCESS", done, "delivered"),
    ],
)
def test_notify(notify, after, told):
    one = rcpt(notify=notify)
    assert bounce.due(MESSAGE, one, after(one), bounce.HERE) == told
    assert len(report((one, after(one))).messages) == (told is not None)


def test_success_is_told_once_by_whoever_is_last():
    one = rcpt(notify="SUCCESS")
    assert report((one, done(one)), promised={1}).messages == ()
    for relay, action in (("mx[192.0.2.1]:25", "relayed"), ("maildir", "delivered"), ("lmtp:/run/l", "delivered")):
        [new] = report((one, done(one)), relay=relay).messages
        assert status_of(new)[1]["Action"] == action


def test_a_delay_is_told_once():
    one = rcpt(warned_at=NOW - 100)
    assert report((one, replace(one, state=State.READY, last=LATER))).messages == ()


@pytest.mark.parametrize("message", [replace(MESSAGE, sender=""), replace(MESSAGE, peer=Peer("internal"))])
def test_never_a_report_about_a_report(message):
    made = report((rcpt(), failed(rcpt())), message=message)
    assert made.messages == ()
    assert made.nobody
    assert report((rcpt(), delayed(rcpt())), message=message) == bounce.Reports()
    assert report((rcpt(notify="SUCCESS"), done(rcpt(notify="SUCCESS"))), message=message) == bounce.Reports()


def test_a_sender_of_ours_is_expanded():
    made = report((rcpt(), failed(rcpt())), expand=lambda address: ("c@own.test", "d@z.test"))
    [new] = made.messages
    assert [(to.n, to.address, to.original, to.domain) for to in new.recipients] == [
        (1, "c@own.test", "a@x.test", "own.test"),
        (2, "d@z.test", "a@x.test", "z.test"),
    ]


def test_a_sender_of_ours_that_does_not_exist_is_not_told():
    made = report((rcpt(), failed(rcpt())), expand=lambda address: ())
    assert made.messages == ()
    assert made.nobody


def test_an_endless_alias_is_told_itself():
    def expand(address):
        raise Refused(Reply(451, "4.2.4", "too large"))

    [new] = report((rcpt(), failed(rcpt())), expand=expand).messages
    assert new.recipients[0].address == "a@x.test"


@pytest.mark.parametrize(("ret", "whole"), [("", True), ("FULL", True), ("HDRS", False)])
def test_ret(ret, whole):
    [new] = report((rcpt(), failed(rcpt())), message=replace(MESSAGE, ret=ret)).messages
    assert (b"the body" in new.body) is whole
    assert b"Subject: hi" in new.body


def test_of_a_large_mail_only_the_head_goes_back():
    [new] = report((rcpt(), failed(rcpt())), content=Content(CONTENT.head, "/nowhere")).messages
    assert b"text/rfc822-headers" in new.body
    assert b"Subject: hi" in new.body


def test_hostile_words_do_not_get_out_of_their_field():
    last = Reply(550, "5.1.1", "no\ntype: mda\nX-Evil: 1", "mx", "rcpt")
    [new] = report((rcpt(), replace(failed(rcpt()), last=last))).messages
    assert b"\nX-Evil" not in new.body
    assert all("X-Evil" not in one for one in status_of(new))


def test_an_international_sender_makes_an_international_report():
    [new] = report((rcpt(), failed(rcpt())), message=replace(MESSAGE, sender="\u00e4@x.test")).messages
    assert new.message.smtputf8
    assert new.message.body == "8BITMIME"
    [new] = report((rcpt(), failed(rcpt()))).messages
    assert not new.message.smtputf8
    assert new.message.body == "7BIT"
