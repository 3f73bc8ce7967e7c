"""The client side of SMTP and LMTP: what a peer says -> what we say and what becomes of each recipient."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.dialogue import Dialogue
from mtad.mail.envelope import Envelope, Rcpt
from mtad.mail.opening import Want
from mtad.mail.reply import Reply
from mtad.mail.sasl import Credentials

BODY = b"<the mail>"
LOST = Reply(451, "4.4.2", "Connection lost", stage="lost")
EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250-SIZE 10000\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n"
PLAIN = b"250-mx.test\r\n250 HELP\r\n"
HELLO = [b"220 mx.test ESMTP\r\n", EHLO]
SLOW = [b"220 mx.test ESMTP\r\n", PLAIN]
OK = b"250 2.0.0 ok\r\n"
GO = b"354 go\r\n"
ONE = Envelope("a@x.test", (Rcpt("b@y.test"),))
SECRET = Credentials("u", "p")
TWO = Envelope("a@x.test", (Rcpt("b@y.test"), Rcpt("c@y.test")))


@dataclass
class Told:
    """What came of a conversation."""

    said: list[bytes] = field(default_factory=list)
    dialogue: Dialogue = field(default_factory=lambda: Dialogue("me.test", "mx"))

    @property
    def short(self) -> list[str]:
        """code status stage of each recipient."""
        return [f"{r.code} {r.status} {r.stage}" if r else "-" for r in self.dialogue.replies]


def talk(peer, *envelopes, cut=lambda octets: [octets], size=100, **options) -> Told:
    """The dialogue against a peer that says `peer`, one piece whenever it is awaited; then the connection is lost."""
    begin = {name: options.pop(name) for name in ("eight_bit", "utf8_head") if name in options}
    told = Told(dialogue=Dialogue("me.test", "mx", **options))
    dialogue, pieces, todo = told.dialogue, iter(peer), list(envelopes)
    while True:
        if octets := dialogue.take():
            told.said.append(octets)
        match dialogue.want:
            case Want.READ:
                piece = next(pieces, None)
                if piece is None:
                    dialogue.lost(LOST)
                for part in cut(piece or b""):
                    dialogue.feed(part)
            case Want.STARTTLS:
                told.said.append(b"<tls>")
                dialogue.secured()
            case Want.BODY:
                told.said.append(BODY)
                dialogue.sent()
            case Want.IDLE if todo:
                dialogue.begin(todo.pop(0), size, **begin)
            case _:
                return told


def test_pipelined_in_one_write():
    told = talk([*HELLO, OK + OK + OK + GO, b"250 2.0.0 queued as 1\r\n"], TWO)
    assert told.said == [
        b"EHLO me.test\r\n",
        b"MAIL FROM:<a@x.test> SIZE=100\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<c@y.test>\r\nDATA\r\n",
        BODY,
    ]
    assert told.dialogue.want is Want.IDLE
    assert told.dialogue.replies == [Reply(250, "2.0.0", "queued as 1", "mx", "final")] * 2


def test_one_command_at_a_time_without_pipelining():
    told = talk([*SLOW, OK, OK, GO, OK], ONE)
    assert told.said == [
        b"EHLO me.test\r\n",
        b"MAIL FROM:<a@x.test>\r\n",
        b"RCPT TO:<b@y.test>\r\n",
        b"DATA\r\n",
        BODY,
    ]
    assert told.short == ["250 2.0.0 final"]


TRANSACTIONS = {
    "one recipient refused": (
        [OK + b"550 5.1.1 who\r\n" + OK + GO, OK],
        ["550 5.1.1 rcpt", "250 2.0.0 final"],
        Want.IDLE,
    ),
    "all refused, 354 all the same": (
        [OK + b"550 5.1.1 who\r\n451 4.7.1 later\r\n" + GO, b"554 5.5.1 none\r\n"],
        ["550 5.1.1 rcpt", "451 4.7.1 rcpt"],
        Want.IDLE,
    ),
    "all refused, 354, and even the dot taken": (
        [OK + b"550 5.1.1 who\r\n550 5.1.1 who\r\n" + GO, OK],
        ["550 5.1.1 rcpt", "550 5.1.1 rcpt"],
        Want.IDLE,
    ),
    "552 after one that was taken is too many at once": (
        [OK + OK + b"552 5.3.0 too many\r\n" + GO, OK],
        ["250 2.0.0 final", "452 4.5.3 rcpt"],
        Want.IDLE,
    ),
    "552 for the first is what it says": (
        [OK + b"552 5.2.2 full\r\n" + OK + GO, OK],
        ["552 5.2.2 rcpt", "250 2.0.0 final"],
        Want.IDLE,
    ),
    "sender refused": (
        [b"553 5.1.8 no\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n"],
        ["553 5.1.8 mail"] * 2,
        Want.IDLE,
    ),
    "sender refused for now": (
        [b"450 4.1.8 later\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n503 5.5.1 no\r\n"],
        ["450 4.1.8 mail"] * 2,
        Want.IDLE,
    ),
    "DATA refused": ([OK + OK + OK + b"452 4.3.1 full\r\n"], ["452 4.3.1 data"] * 2, Want.IDLE),
    "message refused": ([OK + OK + OK + GO, b"554 5.7.1 spam\r\n"], ["554 5.7.1 final"] * 2, Want.IDLE),
    "message deferred": ([OK + OK + OK + GO, b"451 4.7.1 grey\r\n"], ["451 4.7.1 final"] * 2, Want.IDLE),
    "no enhanced status": (
        [OK + b"550 no\r\n" + b"450 no\r\n" + GO, OK],
        ["550 5.0.0 rcpt", "450 4.0.0 rcpt"],
        Want.IDLE,
    ),
    "status of another class": (
        [OK + b"550 4.1.1 no\r\n450 5.1.1 no\r\n" + GO, OK],
        ["550 5.0.0 rcpt", "450 4.0.0 rcpt"],
        Want.IDLE,
    ),
    "two codes in one class": (
        [OK + b"251 2.1.5 will forward\r\n252 2.1.5 perhaps\r\n" + GO, OK],
        ["250 2.0.0 final"] * 2,
        Want.IDLE,
    ),
    "421 to MAIL": ([b"421 4.3.2 bye\r\n"], ["421 4.3.2 mail"] * 2, Want.CLOSED),
    "421 to the second RCPT": (
        [OK + b"550 5.1.1 who\r\n421 bye\r\n"],
        ["550 5.1.1 rcpt", "421 4.0.0 rcpt"],
        Want.CLOSED,
    ),
    "421 to DATA": ([OK + OK + OK + b"421 4.3.2 bye\r\n"], ["421 4.3.2 data"] * 2, Want.CLOSED),
    "421 to the message": ([OK + OK + OK + GO, b"421 4.3.2 bye\r\n"], ["421 4.3.2 final"] * 2, Want.CLOSED),
    "cut before any reply": ([], ["451 4.4.2 lost"] * 2, Want.CLOSED),
    "cut after RCPT": ([OK + b"550 5.1.1 who\r\n" + OK], ["550 5.1.1 rcpt", "451 4.4.2 lost"], Want.CLOSED),
    "cut after the dot": ([OK + OK + OK + GO], ["451 4.4.2 lost"] * 2, Want.CLOSED),
    "cut within the last reply": ([OK + OK + OK + GO, b"250 2.0.0 o"], ["451 4.4.2 lost"] * 2, Want.CLOSED),
    "354 to MAIL": ([GO], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "354 to RCPT": ([OK + GO], ["451 4.5.0 rcpt"] * 2, Want.CLOSED),
    "250 to DATA": ([OK + OK + OK + OK], ["451 4.5.0 data"] * 2, Want.CLOSED),
    "354 to the message": ([OK + OK + OK + GO, GO], ["451 4.5.0 final"] * 2, Want.CLOSED),
    "the message taken before it was sent": ([OK + OK + OK + GO + OK], ["451 4.5.0 data"] * 2, Want.CLOSED),
    "the message refused before it was sent": (
        [OK + OK + OK + GO + b"552 5.3.4 big\r\n"],
        ["552 5.3.4 final"] * 2,
        Want.CLOSED,
    ),
    "more after the last reply": ([OK + OK + OK + GO, OK + b"250 and"], ["250 2.0.0 final"] * 2, Want.CLOSED),
    "codes that differ": ([b"250-a\r\n550 b\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "four digits": ([b"2200 x\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "1yz": ([b"150 x\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "6yz": ([b"650 x\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "no code": ([b"hello\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "an empty line": ([b"\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "zero octets": ([b"\0\0\0\0\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "a bare code": ([b"250\r\n" * 3 + b"354\r\n", b"250\r\n"], ["250 2.0.0 final"] * 2, Want.IDLE),
    "LF alone": ([b"250 ok\n" * 3 + b"354 go\n", b"250 ok\n"], ["250 2.0.0 final"] * 2, Want.IDLE),
    "a line without end": ([b"250 " + b"x" * 5000], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "a long line": ([b"250 " + b"x" * 5000 + b"\r\n"], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "a reply without end": ([b"250-x\r\n" * 300], ["451 4.5.0 mail"] * 2, Want.CLOSED),
    "a large reply": ([(b"250-" + b"x" * 4000 + b"\r\n") * 20], ["451 4.5.0 mail"] * 2, Want.CLOSED),
}


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_transaction(name):
    peer, replies, want = TRANSACTIONS[name]
    told = talk([*HELLO, *peer], TWO)
    assert told.short == replies
    assert told.dialogue.want is want


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_the_cut_of_the_octets_changes_nothing(name):
    """But for the two where the peer answers a mail before it can have seen it, which one segment gives away."""
    peer, replies, want = TRANSACTIONS[name]
    if "before it was sent" in name or name == "more after the last reply":
        return
    told = talk([*HELLO, *peer], TWO, cut=lambda octets: [octets[i : i + 1] for i in range(len(octets))])
    assert told.short == replies
    assert told.dialogue.want is want


@given(st.data())
def test_any_cut_gives_the_same(data):
    peer, replies, want = TRANSACTIONS[
        data.draw(st.sampled_from(sorted(set(TRANSACTIONS) - {"more after the last reply"})))
    ]
    if len(peer) and b"354 go\r\n" in peer[0] and not peer[0].endswith(GO):
        return

    def cut(octets):
        places = sorted(data.draw(st.sets(st.integers(0, len(octets)), max_size=6)))
        return [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)], strict=True)]

    told = talk([*HELLO, *peer], TWO, cut=cut)
    assert told.short == replies
    assert told.dialogue.want is want


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_only_ever_ends_in_replies(pieces):
    told = talk(pieces, ONE)
    assert told.dialogue.want is Want.CLOSED
    outcome = told.dialogue.replies or [told.dialogue.failure]
    assert all(reply is not None and not reply.ok for reply in outcome)


@given(
    st.lists(st.sampled_from([OK, GO, b"250-x\r\n", b"550 no\r\n", b"421 x\r\n", b"\xff\r\n", b"250 "]), max_size=12)
)
def test_sent_only_after_2yz_to_the_dot(pieces):
    told = talk([*HELLO, *pieces], ONE)
    [reply] = told.dialogue.replies
    assert not reply.ok or (BODY in told.said and reply.stage == "final")


def test_text_is_made_harmless():
    told = talk([*HELLO, OK + b"550-5.1.1 \x1b[31mred\r\n550 5.1.1 \xe2\x80\xaeevil \xff\r\n" + OK + GO, OK], TWO)
    reply = told.dialogue.replies[0]
    assert reply.text == "\\x1b[31mred\n\\u202eevil \ufffd"
    assert reply.host == "mx"


def test_text_is_cut():
    line = b"550-" + b"x" * 900 + b"\r\n"
    told = talk([*HELLO, OK + line * 50 + b"550 end\r\n" + OK + GO, OK], TWO)
    assert 900 < len(told.dialogue.replies[0].text) < 1100


def test_rset_after_a_failure_and_not_after_a_success():
    told = talk(
        [*HELLO, OK + b"550 no\r\n" + GO, b"554 no\r\n", OK + OK + OK + GO, OK, OK + OK + GO, OK], ONE, ONE, ONE
    )
    assert [said.split(b"\r\n")[0] for said in told.said[1:]] == [
        b"MAIL FROM:<a@x.test> SIZE=100",
        b".",
        b"RSET",
        BODY,
        b"MAIL FROM:<a@x.test> SIZE=100",
        BODY,
    ]
    assert told.short == ["250 2.0.0 final"]


def test_rset_is_not_forgotten_over_a_mail_that_is_not_begun():
    ehlo = EHLO.replace(b"SMTPUTF8", b"HELP")
    odd = Envelope("a@x.test", (Rcpt("\u00e9@y.test"),), smtputf8=True)
    told = talk([HELLO[0], ehlo, OK + b"550 no\r\n" + GO, b"554 no\r\n", OK + OK + OK + GO, OK], ONE, odd, ONE)
    assert told.said[-2].startswith(b"RSET\r\nMAIL FROM:")
    assert told.short == ["250 2.0.0 final"]


def test_rset_refused_ends_it():
    told = talk([*HELLO, OK + b"550 no\r\n" + GO, b"554 no\r\n", b"500 no\r\n"], ONE, ONE)
    assert told.short == ["451 4.5.0 rset"]
    assert told.dialogue.closed


def test_no_data_without_recipients_when_not_pipelined():
    told = talk([*SLOW, OK, b"550 5.1.1 a\r\n", b"550 5.1.1 b\r\n"], TWO)
    assert b"DATA\r\n" not in told.said
    assert told.short == ["550 5.1.1 rcpt"] * 2
    assert told.dialogue.want is Want.IDLE


# --- before the first transaction

FAILURES = {
    "banner refuses": ([b"554 5.7.1 no service\r\n"], {}, "554 5.7.1 connect"),
    "banner busy": ([b"421 4.3.2 busy\r\n"], {}, "421 4.3.2 connect"),
    "banner of another protocol": ([b"HTTP/1.1 200 OK\r\n"], {}, "451 4.5.0 connect"),
    "no banner": ([], {}, "451 4.4.2 lost"),
    "250 as banner": ([OK], {}, "451 4.5.0 connect"),
    "talks on after the banner": ([b"220 hi\r\n250 you\r\n" + EHLO], {}, None),
    "talks on after EHLO": ([b"220 hi\r\n", EHLO + b"250 more\r\n"], {}, "451 4.5.0 ehlo"),
    "EHLO and HELO refused": ([b"220 hi\r\n", b"502 no\r\n", b"502 no\r\n"], {}, "502 5.0.0 ehlo"),
    "EHLO refused for now": ([b"220 hi\r\n", b"451 4.0.0 no\r\n"], {}, "451 4.0.0 ehlo"),
    # Before TLS it may be anybody who says so, and before AUTH it is ours to mend.
    "EHLO refused where TLS must be": ([b"220 hi\r\n", b"502 no\r\n"], {"tls": "must"}, "451 4.4.0 ehlo"),
    "banner refuses where TLS must be": ([b"554 5.7.1 no\r\n"], {"tls": "must"}, "451 4.4.0 connect"),
    "banner refuses us at a smarthost": ([b"554 5.7.1 no\r\n"], {"credentials": SECRET}, "451 4.4.0 connect"),
    "EHLO refused by a smarthost": (
        [b"220 hi\r\n", b"550 no\r\n"],
        {"credentials": SECRET, "tls": "on"},
        "451 4.4.0 ehlo",
    ),
    "LHLO refused": ([b"220 hi\r\n", b"500 no\r\n"], {"lmtp": True}, "500 5.0.0 ehlo"),
    "TLS must be, not offered": (HELLO, {"tls": "must"}, "454 4.7.4 starttls"),
    "TLS must be, refused": (
        [b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"502 no\r\n"],
        {"tls": "must"},
        "454 4.7.4 starttls",
    ),
    "data with the go-ahead for TLS": (
        [b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250 fake\r\n"],
        {"tls": "may"},
        "451 4.5.0 starttls",
    ),
    "half a line with the go-ahead for TLS": (
        [b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n2"],
        {"tls": "may"},
        "451 4.5.0 starttls",
    ),
    # It would become the beginning of what the host says within TLS.
    "the beginning of a reply with the go-ahead for TLS": (
        [b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250-fake\r\n250-SIZE 1\r\n", PLAIN],
        {"tls": "may"},
        "451 4.5.0 starttls",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_before_the_first_transaction(name):
    peer, options, failure = FAILURES[name]
    told = talk(peer, **options)
    if failure is None:  # an early EHLO reply cannot be told from a fast one
        assert told.dialogue.failure is None or told.dialogue.failure.temporary
        return
    reply = told.dialogue.failure
    assert f"{reply.code} {reply.status} {reply.stage}" == failure
    assert told.dialogue.closed


def test_helo_where_ehlo_is_unknown():
    told = talk([b"220 x\r\n", b"502 5.5.1 no\r\n", b"250 x\r\n", OK, OK, GO, OK], ONE)
    assert told.said[:3] == [b"EHLO me.test\r\n", b"HELO me.test\r\n", b"MAIL FROM:<a@x.test>\r\n"]
    assert told.short == ["250 2.0.0 final"]


def test_starttls_forgets_what_was_offered_before():
    told = talk(
        [b"220 x\r\n", EHLO.replace(b"250 SMTPUTF8", b"250 STARTTLS"), b"220 go\r\n", PLAIN, OK, OK, GO, OK],
        ONE,
        tls="may",
    )
    assert told.said[1:5] == [b"STARTTLS\r\n", b"<tls>", b"EHLO me.test\r\n", b"MAIL FROM:<a@x.test>\r\n"]


def test_starttls_refused_goes_on_in_clear_where_it_may():
    told = talk([b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"454 4.7.0 no\r\n", OK, OK, GO, OK], ONE, tls="may")
    assert told.short == ["250 2.0.0 final"]


def test_idle_connection_that_speaks_is_over():
    told = talk(HELLO)
    assert told.dialogue.want is Want.IDLE
    told.dialogue.feed(b"421 4.4.2 idle too long\r\n")
    assert told.dialogue.closed
    for begun in (b"2", b"250-and\r\n"):
        told = talk(HELLO)
        told.dialogue.feed(begun)
        assert told.dialogue.closed
        assert told.dialogue.error is not None


def test_quit():
    told = talk(HELLO)
    told.dialogue.quit()
    assert told.dialogue.take() == b"QUIT\r\n"
    assert told.dialogue.closed


# --- what the peer offers

PARAMETERS = [
    (EHLO, Envelope("a@x.test", ONE.recipients, body="8BITMIME"), b"MAIL FROM:<a@x.test> SIZE=100 BODY=8BITMIME"),
    (PLAIN, Envelope("a@x.test", ONE.recipients, body="8BITMIME"), b"MAIL FROM:<a@x.test>"),
    (EHLO, Envelope("", ONE.recipients), b"MAIL FROM:<> SIZE=100"),
    (
        EHLO,
        Envelope("a@x.test", ONE.recipients, ret="HDRS", envid="q+2B1"),
        b"MAIL FROM:<a@x.test> SIZE=100 RET=HDRS ENVID=q+2B1",
    ),
    (PLAIN, Envelope("a@x.test", ONE.recipients, ret="HDRS", envid="q+2B1"), b"MAIL FROM:<a@x.test>"),
    (
        EHLO,
        Envelope("\u00e4@x.test", ONE.recipients, smtputf8=True),
        "MAIL FROM:<\u00e4@x.test> SIZE=100 SMTPUTF8".encode(),
    ),
    (PLAIN, Envelope("a@\u00e4.test", ONE.recipients, smtputf8=True), b"MAIL FROM:<a@xn--4ca.test>"),
    (PLAIN, Envelope("a@x.test", ONE.recipients, smtputf8=True), b"MAIL FROM:<a@x.test>"),
]


@pytest.mark.parametrize(("ehlo", "envelope", "mail"), PARAMETERS)
def test_mail_parameters(ehlo, envelope, mail):
    told = talk([b"220 x\r\n", ehlo], envelope)
    assert told.said[1].split(b"\r\n")[0] == mail


def test_rcpt_parameters():
    envelope = Envelope("a@x.test", (Rcpt("b@y.test", "SUCCESS,FAILURE", "rfc822;B+2Bx@y.test"),))
    assert b"RCPT TO:<b@y.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B+2Bx@y.test\r\n" in talk(HELLO, envelope).said[1]
    assert b"RCPT TO:<b@y.test>\r\n" in talk([*SLOW, OK], envelope).said


REFUSED = [
    (EHLO, ONE, {"size": 10001}, "552 5.3.4 mail"),
    (PLAIN, Envelope("a@x.test", ONE.recipients, body="8BITMIME"), {"eight_bit": True}, "554 5.6.3 mail"),
    (PLAIN, Envelope("\u00e4@x.test", ONE.recipients, smtputf8=True), {}, "550 5.6.7 mail"),
    (PLAIN, Envelope("a@x.test", ONE.recipients, smtputf8=True), {"utf8_head": True}, "550 5.6.7 mail"),
    (PLAIN, Envelope("a@x.test", (Rcpt("\u00e4@y.test"),), smtputf8=True), {}, "550 5.6.7 rcpt"),
    (EHLO, Envelope("a@x.test", ONE.recipients, requiretls=True), {}, "550 5.7.10 mail"),
    (EHLO, Envelope("a@x.test>\r\nDATA", ONE.recipients), {}, "553 5.1.7 mail"),
    (EHLO, Envelope("a@x.test", (Rcpt("b@y.test>\r\nRSET"),)), {}, "550 5.6.7 rcpt"),
]


@pytest.mark.parametrize(("ehlo", "envelope", "options", "reply"), REFUSED)
def test_refused_without_a_word_to_the_peer(ehlo, envelope, options, reply):
    told = talk([b"220 x\r\n", ehlo], envelope, **options)
    assert told.short == [reply]
    assert told.said == [b"EHLO me.test\r\n"]
    assert told.dialogue.want is Want.IDLE


def test_only_the_unspeakable_recipient_is_refused():
    envelope = Envelope("a@x.test", (Rcpt("\u00e4@y.test"), Rcpt("b@y.test")), smtputf8=True)
    told = talk([*SLOW, OK, OK, GO, OK], envelope)
    assert told.short == ["550 5.6.7 rcpt", "250 2.0.0 final"]


# --- LMTP

LHLO = [b"220 x\r\n", b"250-x\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n"]
LMTP = [
    ([OK * 3 + GO, OK + b"452 4.2.2 full\r\n"], ["250 2.0.0 final", "452 4.2.2 final"]),
    ([OK + b"550 5.1.1 who\r\n" + OK + GO, OK], ["550 5.1.1 rcpt", "250 2.0.0 final"]),
    ([OK + b"550 5.1.1 who\r\n" * 2 + b"503 5.5.1 none\r\n"], ["550 5.1.1 rcpt"] * 2),
    ([OK * 3 + GO, OK], ["250 2.0.0 final", "451 4.4.2 lost"]),
    ([OK * 3 + GO, OK + b"421 4.3.2 bye\r\n"], ["250 2.0.0 final", "421 4.3.2 final"]),
    ([OK * 3 + b"452 4.3.1 full\r\n"], ["452 4.3.1 data"] * 2),
]


@pytest.mark.parametrize(("peer", "replies"), LMTP)
def test_lmtp_answers_for_each_recipient(peer, replies):
    told = talk([*LHLO, *peer], TWO, lmtp=True)
    assert told.said[0] == b"LHLO me.test\r\n"
    assert told.short == replies


def test_lmtp_data_without_recipients_ends_it():
    told = talk([*LHLO, OK + b"550 5.1.1 who\r\n" * 2 + GO], TWO, lmtp=True)
    assert told.short == ["550 5.1.1 rcpt"] * 2
    assert told.dialogue.closed


# --- AUTH

AUTH = [b"220 x\r\n", b"250-x\r\n250 AUTH PLAIN LOGIN\r\n"]


def test_auth_plain():
    told = talk([*AUTH, b"235 2.7.0 ok\r\n"], tls="on", credentials=SECRET)
    assert told.said[1] == b"AUTH PLAIN AHUAcA==\r\n"
    assert told.dialogue.want is Want.IDLE


def test_auth_login():
    peer = [b"220 x\r\n", b"250-x\r\n250 AUTH=LOGIN\r\n", b"334 VXNlcg==\r\n", b"334 UGFzcw==\r\n", b"235 ok\r\n"]
    told = talk(peer, tls="on", credentials=SECRET)
    assert told.said[1:] == [b"AUTH LOGIN\r\n", b"dQ==\r\n", b"cA==\r\n"]
    assert told.dialogue.want is Want.IDLE


@pytest.mark.parametrize(
    ("peer", "options", "status"),
    [
        ([*AUTH, b"535 5.7.8 bad\r\n"], {"tls": "on"}, "4.7.8"),
        ([*AUTH, b"334 \r\n"], {"tls": "on"}, "4.7.0"),
        (AUTH, {"tls": "may"}, "4.7.0"),
        (AUTH, {"tls": "no"}, "4.7.0"),
        ([b"220 x\r\n", b"250-x\r\n250 AUTH CRAM-MD5\r\n"], {"tls": "on"}, "4.7.0"),
        ([b"220 x\r\n", PLAIN], {"tls": "on"}, "4.7.0"),
    ],
)
def test_auth_failures_are_ours_to_mend(peer, options, status):
    told = talk(peer, credentials=SECRET, **options)
    assert told.dialogue.failure.temporary
    assert told.dialogue.failure.status == status
    assert (b"AHUAcA==" in b"".join(told.said)) is (options["tls"] == "on" and len(peer) > 2)


def test_auth_in_clear_only_when_allowed():
    told = talk([*AUTH, b"235 ok\r\n"], credentials=Credentials("u", "p", clear=True))
    assert told.dialogue.want is Want.IDLE


def test_password_is_not_shown():
    assert "secret" not in repr(Credentials("u", "secret"))
