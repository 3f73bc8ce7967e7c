import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.events import Events
from mtad.mail.classify import classify
from mtad.mail.envelope import Attempt, Message, Peer, Recipient, State
from mtad.mail.reply import Reply

NOW = 1_800_000_000.0
PEER = Peer("smtp", ip="192.0.2.7", port=4711, helo="mx.a.example")
LOCAL = Peer("local", uid=1000)
MESSAGE = Message(
    "3kf9x2m7q0w1", "a@a.example", 1234, NOW - 1.25, NOW + 1000, PEER, header_id="<1@a.example>", subject="not logged"
)
RECIPIENT = Recipient(MESSAGE.id, 1, "b@b.example", "alias@b.example", "b.example", tries=3)
SENT = Attempt(1, NOW, 0.5, Reply(250, "2.0.0", "ok", host="mx.b.example"), "mx.b.example[192.0.2.1]:25")


class Log:
    def __init__(self, debug: bool = False) -> None:
        self.lines: list[str] = []
        self.events = Events(lambda: NOW, self.lines.append, debug=debug)

    def __call__(self, say: Callable[[Events], object]) -> tuple[list[str], dict[str, int]]:
        say(self.events)
        return self.lines, self.events.counters


def attempted(
    reply: Reply, state: State, relay: str = "mx.b.example[192.0.2.1]:25"
) -> tuple[list[str], dict[str, int]]:
    return Log()(lambda events: events.attempt(MESSAGE, RECIPIENT, replace(SENT, reply=reply, relay=relay), state))


@pytest.mark.parametrize(
    ("say", "line", "counter"),
    [
        (lambda e: e.started("0.1.0", "/var/lib/mtad"), "started version=0.1.0, data=/var/lib/mtad", ""),
        (lambda e: e.warned("odd\nthing"), "warning: odd\\x0athing", ""),
        (lambda e: e.stopped(), "stopped", ""),
        (lambda e: e.stopped("SIGTERM"), "stopped reason=SIGTERM", ""),
        (lambda e: e.listening("smtp", "127.0.0.1:25"), "listening smtp on 127.0.0.1:25", ""),
        (lambda e: e.connected(PEER),
         "connect from unknown[192.0.2.7]:4711, source=smtp", 'mtad_connections_total{source="smtp"}'),
        (lambda e: e.disconnected(LOCAL, "timed out"), 'disconnect from local[uid=1000], cause="timed out"', ""),
        (
            lambda e: e.refused(PEER, "rcpt", Reply(550, "5.7.1", "No relaying", cause="no rule"), "x@y.example"),
            "NOQUEUE: reject: RCPT from unknown[192.0.2.7]:4711: 550 5.7.1 No relaying; subject=x@y.example, "
            'helo=mx.a.example, cause="no rule"',
            'mtad_refused_total{stage="rcpt",code="550"}',
        ),
        (lambda e: e.auth_ok(PEER, "al"), "auth from unknown[192.0.2.7]:4711, user=al", 'mtad_auth_total{result="ok"}'),
        (
            lambda e: e.auth_failed(PEER, "a b\n", "PLAIN"),
            'warning: unknown[192.0.2.7]:4711: SASL PLAIN authentication failed: user="a b\\x0a"',
            'mtad_auth_total{result="failed"}',
        ),
        (
            lambda e: e.tls_failed(PEER, "no shared cipher"),
            "warning: unknown[192.0.2.7]:4711: TLS failed: no shared cipher",
            'mtad_tls_failures_total{side="server"}',
        ),
        (
            lambda e: e.tls_failed("mx[192.0.2.1]:25", "expired"),
            "warning: mx[192.0.2.1]:25: TLS failed: expired",
            'mtad_tls_failures_total{side="client"}',
        ),
        (
            lambda e: e.accepted(MESSAGE, (RECIPIENT,)),
            "3kf9x2m7q0w1: from=<a@a.example>, size=1234, nrcpt=1 (queue active), source=smtp, "
            "client=unknown[192.0.2.7]:4711, helo=mx.a.example, message-id=<1@a.example>",
            'mtad_accepted_total{source="smtp"}',
        ),
        (
            lambda e: e.attempt(MESSAGE, RECIPIENT, SENT, State.DONE),
            "3kf9x2m7q0w1: to=<b@b.example>, orig_to=<alias@b.example>, relay=mx.b.example[192.0.2.1]:25, delay=1.75, "
            "delays=0/1.25/0/0.50, dsn=2.0.0, status=sent (250 2.0.0 ok)",
            'mtad_delivery_attempts_total{transport="smtp",result="delivered"}',
        ),
        (
            lambda e: e.expired(MESSAGE, RECIPIENT),
            "3kf9x2m7q0w1: to=<b@b.example>, from=<a@a.example>, tries=3, status=expired, returned to sender",
            "mtad_expired_total",
        ),
        (lambda e: e.report_made("m1", "m2", "a@a.example"), "m1: report=m2, to=<a@a.example>", "mtad_reports_total"),
        (lambda e: e.double_bounce("m1"), "m1: double bounce, no report is sent", "mtad_double_bounces_total"),
        (
            lambda e: e.operator("root(0)", "queue.purge", "--to '*@x'", "", 3),
            'operator: caller=root(0), operation=queue.purge, selector="--to \'*@x\'", reason="", changed=3',
            'mtad_operations_total{operation="queue.purge"}',
        ),
        (lambda e: e.config_reloaded(), "configuration reloaded", 'mtad_config_reloads_total{result="ok"}'),
        (lambda e: e.config_refused(["a: bad"]),
         "configuration refused: a: bad", 'mtad_config_reloads_total{result="refused"}'),
        (lambda e: e.tls_loaded("/a.pem", ("a.test", "*.a.test"), 1_800_000_000.0),
         'tls: certificate=/a.pem, names="a.test *.a.test", expires=2027-01-15', 'mtad_tls_loads_total{result="ok"}'),
        (lambda e: e.tls_refused("bad\nkey"), "tls: certificates refused, the old ones are in use: bad\\x0akey",
         'mtad_tls_loads_total{result="refused"}'),
        (lambda e: e.store_trouble("disk full"), "error: store: disk full", "mtad_store_errors_total"),
        (lambda e: e.maildrop_bad("x\ny", "not ours"),
         'warning: maildrop file "x\\x0ay": not ours', "mtad_maildrop_bad_total"),
    ],
)  # fmt: skip
def test_one_fact_one_line_one_counter(say: Callable[[Events], object], line: str, counter: str) -> None:
    lines, counters = Log(debug=True)(say)
    assert lines == [line]
    assert counter == "" or counters[counter] == 1


def test_connections_are_for_debugging_but_always_counted() -> None:
    log = Log()
    log.events.connected(PEER)
    log.events.disconnected(PEER)
    assert log.lines == []
    assert log.events.counters == {'mtad_connections_total{source="smtp"}': 1}


@pytest.mark.parametrize(
    ("reply", "state", "relay", "words", "labels"),
    [
        (Reply(450, "4.2.0", "later", host="mx", stage="rcpt"), State.READY, "mx[192.0.2.1]:25",
         "relay=mx[192.0.2.1]:25, delay=1.75, delays=0/1.25/0/0.50, dsn=4.2.0, status=deferred "
         "(host mx said: 450 4.2.0 later (in reply to RCPT)), error=remote", 'transport="smtp",result="deferred"'),
        (Reply(550, "5.1.1", "who\nis that", host="mx"), State.FAILED, "lmtp:/run/x.sock",
         "dsn=5.1.1, status=bounced (host mx said: 550 5.1.1 who is that), error=unknown-user",
         'transport="lmtp",result="failed"'),
        (Reply(451, "4.4.1", "No route", cause="ECONNREFUSED 1.2.3.4"), State.HELD, "",
         'relay=none, delay=1.75, delays=0/1.25/0/0.50, dsn=4.4.1, status=deferred (451 4.4.1 No route), '
         'error=network, '
         'cause="ECONNREFUSED 1.2.3.4"', 'transport="none",result="deferred"'),
        (Reply(250, "", "ok"), State.DONE, "maildir", "dsn=2.0.0, status=sent (250 ok)",
         'transport="maildir",result="delivered"'),
    ],
)  # fmt: skip
def test_attempts(reply: Reply, state: State, relay: str, words: str, labels: str) -> None:
    lines, counters = attempted(reply, state, relay)
    assert len(lines) == 1
    assert lines[0].endswith(words)
    assert counters.pop(f"mtad_delivery_attempts_total{{{labels}}}") == 1
    error = classify(reply)
    assert counters == ({f'mtad_delivery_errors_total{{class="{error}"}}': 1} if error else {})
    assert (f", error={error}" in lines[0]) == bool(error)


def test_an_address_that_was_not_rewritten_has_no_orig_to() -> None:
    plain = replace(RECIPIENT, original=RECIPIENT.address)
    lines, _ = Log()(lambda events: events.attempt(MESSAGE, plain, SENT, State.DONE))
    assert "orig_to" not in lines[0]


def test_an_internal_error_has_one_id_and_its_traceback() -> None:
    log = Log()
    try:
        raise ValueError("path /x\nwith newline")
    except ValueError as error:
        name = log.events.internal_error("smtp cmd_MAIL", error)
        other = log.events.internal_error("control", error)
    assert re.fullmatch(r"e[0-9a-f]+-1", name)
    assert other != name
    first = [line for line in log.lines if line.startswith(f"{name}: ")]
    assert first[0] == f'{name}: internal error in "smtp cmd_MAIL": ValueError: path /x\\x0awith newline'
    assert any("test_events.py" in line for line in first[1:])
    assert log.events.counters == {
        'mtad_internal_errors_total{where="smtp_cmd_mail"}': 1,
        'mtad_internal_errors_total{where="control"}': 1,
    }


TEXT = st.text(st.characters() | st.sampled_from('\n\r\0\x1b\u202e", =>'), max_size=30) | st.just("x" * 5000)


@given(TEXT, st.integers(-10, 10**6))
def test_hostile_text_stays_in_its_line_and_out_of_the_labels(text: str, code: int) -> None:
    log = Log(debug=True)
    events = log.events
    peer = replace(PEER, helo=text, user=text, ip=text, tls=text)
    message = replace(MESSAGE, sender=text, peer=peer, header_id=text)
    recipient = replace(RECIPIENT, address=text, original=text + "o")
    reply = Reply(code, text, text, host=text, stage=text, cause=text)
    events.refused(peer, text, reply, text)
    events.auth_failed(peer, text, text)
    events.tls_failed(text, text)
    events.accepted(message, [recipient])
    for state in State:
        events.attempt(message, recipient, replace(SENT, reply=reply, relay=text, tls=text), state)
    events.operator(text, "queue.hold", text, text, 1)
    events.maildrop_bad(text, text)
    events.store_trouble(text)
    events.disconnected(peer, text)
    assert len(log.lines) == 8 + len(State)
    assert all(line.isprintable() and len(line) < 6000 for line in log.lines)
    for key in events.counters:
        assert re.fullmatch(r'[a-z_]+(\{([a-z]+="[a-z0-9._-]*",?)+\})?', key)


def test_labels_stay_few_whatever_peers_say() -> None:
    rng = random.Random(7)
    events = Events(lambda: NOW, lambda line: None)
    for _ in range(5000):
        noise = "".join(rng.choice('abc[]\n"{}=') for _ in range(8))
        events.refused(PEER, noise, Reply(rng.randrange(-1000, 100_000), noise, noise), noise)
        events.auth_failed(PEER, noise, noise)
        events.attempt(MESSAGE, RECIPIENT, replace(SENT, relay=noise), rng.choice(list(State)))
    assert len(events.counters) < 230
