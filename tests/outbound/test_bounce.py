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
from mtad.queue.retry import expired

NOW = 1_700_000_000.0
ID = "358zn0000001"
CONFIG = Config("mail.own.test", ("own.test",), Paths("", "/d", "/r"), delivery=Delivery(expire_s=1000.0))
MESSAGE = Message(ID, "a@x.test", 30, NOW - 5000, NOW + 5000, Peer("smtp"), header_id="<m@x.test>")
CONTENT = Content(b"Subject: hi\r\nMessage-ID: <m@x.test>\r\n\r\n", b"the body\r\n")
NO = Reply(550, "5.1.1", "who?", "mx.y.test", "rcpt")
LATER = Reply(451, "4.7.1", "later", "mx.y.test", "rcpt")
IDS = Ids(lambda: NOW, random.Random(1))
OK = Reply(250, "2.0.0", "ok", "mx.y.test", "final")


def rcpt(n=1, notify="", **more):
    return Recipient(ID, n, f"b{n}@y.test", f"b{n}@y.test", "y.test", State.LEASED, notify=notify, **more)


def failed(one):
    return replace(one, state=State.FAILED, tries=1, last=NO)


def delayed(one):
    return replace(one, state=State.READY, tries=3, last=LATER, warned_at=NOW)


def done(one):
    return replace(one, state=State.DONE, tries=1, last=OK)


def report(
    *pairs,
    message=MESSAGE,
    content=CONTENT,
    relay="mx[192.0.2.1]:25",
    promised=(),
    expand=lambda a: (a,),
    config=CONFIG,
    **more,
):
    before, after = [old for old, _ in pairs], [new for _, new in pairs]
    attempts = [Attempt(new.n, NOW - 1, 1.0, new.last, relay) for new in after]
    handed = {new.n: bounce.Handed(True, new.n in promised) for new in after if "[" in relay}
    return bounce.reports(message, content, before, after, attempts, handed, config, NOW, IDS, expand, **more)


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


REPORT = replace(MESSAGE, sender="", peer=Peer("internal"))
LOG_ONLY = replace(CONFIG, delivery=replace(CONFIG.delivery, double_bounce="log"))


@pytest.mark.parametrize(
    ("message", "config"),
    [(replace(MESSAGE, sender=""), CONFIG), (REPORT, LOG_ONLY), (replace(REPORT, sender="a@x.test"), LOG_ONLY)],
)
def test_never_a_report_about_a_report(message, config):
    made = report((rcpt(), failed(rcpt())), message=message, config=config)
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


# Double bounces: the postmaster is told once, and of that nobody.


def test_the_postmaster_is_told_of_a_report_that_failed():
    made = report((rcpt(), failed(rcpt())), message=REPORT, expand=lambda address: ("root@own.test",))
    [new] = made.messages
    assert made.double
    assert new.message.sender == ""
    assert [(to.address, to.original) for to in new.recipients] == [("root@own.test", "postmaster@own.test")]
    whole = message_from_bytes(new.head + new.body, policy=default)
    assert [to.addr_spec for to in whole["To"].addresses] == ["postmaster@own.test"]
    assert whole["Subject"] == "A report could not be delivered"
    text = next(iter(whole.iter_parts())).get_content()
    assert "This is for the postmaster" in text
    assert "A mail could not be delivered to:" in text
    assert "Your mail" not in text


def test_nobody_is_told_when_that_fails_too():
    to = replace(rcpt(), address="root@y.test", original="Postmaster@own.test")
    made = report((to, failed(to)), message=REPORT)
    assert made.messages == ()
    assert "postmaster" in made.nobody


def test_a_sender_who_does_not_exist_here_is_told_of_to_the_postmaster():
    made = report((rcpt(), failed(rcpt())), expand=lambda address: ("p@own.test",) if "postmaster" in address else ())
    assert [new.recipients[0].address for new in made.messages] == ["p@own.test"]
    made = report((rcpt(), failed(rcpt())), expand=lambda address: ())
    assert made.messages == ()
    assert made.nobody == "its sender does not exist here"


def test_the_postmaster_hears_of_failures_only():
    assert report((rcpt(), delayed(rcpt())), message=REPORT).messages == ()


# Backscatter: strangers are told when they are who they say.


@pytest.mark.parametrize(
    ("peer", "is_known"),
    [
        (Peer("smtp", "198.51.100.7"), False), (Peer("smtp", "2001:db8::1"), False), (Peer("smtp", "192.0.2.9"), True),
        (Peer("smtp", "::ffff:192.0.2.9"), True), (Peer("smtp", "fe80::1%eth0"), False),
        (Peer("submission", "198.51.100.7", user="u"), True), (Peer("local", uid=33), True), (Peer("maildrop"), True),
        (Peer("internal"), True), (Peer("smtp", "198.51.100.7", user="u"), True),
    ],
)  # fmt: skip
def test_whom_we_know(peer, is_known):
    assert bounce.known(replace(MESSAGE, peer=peer), ("192.0.2.0/24", "::1")) == is_known


def test_who_is_not_verified_is_not_told():
    for after in (failed, delayed, done):
        one = rcpt(notify="SUCCESS,FAILURE,DELAY")
        made = report((one, after(one)), verified=False)
        assert made.messages == ()
        assert bool(made.nobody) == (after is failed)


# Together: what fails at about the same time is one report.


def test_what_fails_later_goes_into_the_report_that_waits():
    first = report((rcpt(1), failed(rcpt(1))), due_at=NOW + 15)
    [new] = first.messages
    assert new.recipients[0].next_at == NOW + 15
    second = report((rcpt(2), failed(rcpt(2))), earlier=first.waiting, due_at=NOW + 30)
    assert second.messages == ()
    [merge] = second.merges
    assert merge.whole.message.id == new.message.id
    assert [one["Final-Recipient"] for one in status_of(merge.whole)[1:]] == ["rfc822; b1@y.test", "rfc822; b2@y.test"]
    assert merge.whole.recipients[0].next_at == NOW + 15  # it waits no longer than it did
    assert [one["Final-Recipient"] for one in status_of(merge.alone)[1:]] == ["rfc822; b2@y.test"]
    assert merge.alone.message.id != merge.whole.message.id
    third = report((rcpt(3), failed(rcpt(3))), earlier=second.waiting)
    assert len(status_of(third.merges[0].whole)) == 4
    assert third.merges[0].whole.recipients[0].next_at == NOW


def test_kinds_do_not_mix_and_a_report_has_an_end():
    first = report((rcpt(1), failed(rcpt(1))), due_at=NOW + 15)
    assert report((rcpt(2), delayed(rcpt(2))), earlier=first.waiting).merges == ()
    many = replace(first.waiting["failed"], recipients=first.waiting["failed"].recipients * bounce.RECIPIENTS_MAX)
    made = report((rcpt(2), failed(rcpt(2))), earlier={"failed": many})
    assert made.merges == ()
    assert len(made.messages) == 1


def test_time_ran_out_and_why():
    last = replace(failed(rcpt()), last=expired(Reply(452, "4.2.2", "Mailbox full", "mx.y.test", "rcpt")))
    ids = Ids(lambda: NOW, random.Random(1))
    attempt = Attempt(1, NOW - 1, 1.0, Reply(452, "4.2.2", "Mailbox full", "mx.y.test", "rcpt"), "mx")
    made = bounce.reports(MESSAGE, CONTENT, [rcpt()], [last], [attempt], {}, CONFIG, NOW, ids, lambda a: (a,))
    [new] = made.messages
    text = " ".join(new.body.decode().split())
    assert "The time for delivery ran out: it was tried for 1 hour. The mailbox is full at y.test" in text
    assert status_of(new)[1]["Status"] == "5.4.7"
