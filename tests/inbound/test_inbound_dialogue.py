"""The dialogue, without a socket."""

from base64 import b64encode
from dataclasses import replace

import pytest
from inbound_house import PASSWORD, STRANGER, House, codes, say

from mtad.inbound.conversation import AUTH_LINE_MAX, ENDLESS_LINE, LINE_MAX, Conversation
from mtad.inbound.talk import JUNK_MAX
from mtad.mail.envelope import Peer

USER = Peer("submission", ip="192.0.2.9", tls="TLSv1.3 X")
CLEAR_USER = Peer("submission", ip="192.0.2.9")
MAIL = ("MAIL FROM:<x@far.test>", "RCPT TO:<alice@example.test>", "DATA")
TEXT = "Subject: hello\r\nFrom: x@far.test\r\n\r\nbody"


def plain(name: str, password: str, authorise_as: str = "") -> str:
    return b64encode(f"{authorise_as}\0{name}\0{password}".encode()).decode()


async def test_a_whole_mail_becomes_one_message(house: House) -> None:
    talk = house.talk()
    assert talk.greeting() == b"220 mx.example.test ESMTP\r\n"
    said = await say(talk, "EHLO client.test", *MAIL, TEXT, ".", "QUIT")
    assert said == ["250", "250 2.1.0", "250 2.1.5", "354", "250 2.0.0", "221 2.0.0"]
    assert talk.closing
    assert talk.accepted == 1
    row, content = await house.only()
    assert (row.message.sender, row.recipient.address, row.recipient.domain) == (
        "x@far.test",
        "alice@example.test",
        "example.test",
    )
    assert content.startswith(b"Received: from client.test ([192.0.2.9])\r\n\tby mx.example.test with ESMTP\r\n")
    assert content.endswith(TEXT.encode() + b"\r\n")
    assert row.message.size_bytes == len(content)


async def test_ehlo_offers_what_we_do_and_nothing_else(house: House) -> None:
    said = (await house.talk().feed(b"EHLO x\r\n")).decode().splitlines()
    assert said == [
        "250-mx.example.test",
        "250-PIPELINING",
        "250-SIZE 52428800",
        "250-8BITMIME",
        "250-ENHANCEDSTATUSCODES",
        "250-SMTPUTF8",
        "250-DSN",
        "250-CHUNKING",
        "250-BINARYMIME",
        "250-MT-PRIORITY",
        "250-LIMITS RCPTMAX=1000",
        "250 STARTTLS",
    ]


@pytest.mark.parametrize(
    ("source", "tls", "user", "starttls", "auth"),
    [
        ("smtp", "", "", True, False),
        ("smtp", "TLSv1.3 X", "", False, False),
        ("submission", "", "", True, False),
        ("submission", "TLSv1.3 X", "", False, True),
        ("submission", "TLSv1.3 X", "alice@example.test", False, False),
        ("submissions", "TLSv1.3 X", "", False, True),
        ("local", "", "", False, False),
    ],
)
async def test_starttls_and_auth_are_offered_where_they_work(
    house: House, source: str, tls: str, user: str, starttls: bool, auth: bool
) -> None:
    said = await house.talk(Peer(source, tls=tls, user=user)).feed(b"EHLO x\r\n")  # type: ignore[arg-type]
    assert (b"STARTTLS" in said, b"AUTH SCRAM-SHA-256 PLAIN LOGIN" in said) == (starttls, auth)


async def test_without_a_certificate_there_is_no_starttls(house: House) -> None:
    talk = house.talk(host=house.make_host(house.config, tls=False))
    assert b"STARTTLS" not in await talk.feed(b"EHLO x\r\n")
    assert await say(talk, "STARTTLS") == ["502 5.5.1"]
    assert not talk.starttls


@pytest.mark.parametrize(
    ("lines", "last"),
    [
        (["MAIL FROM:<a@b.test>"], "503 5.5.1"),
        (["EHLO"], "501 5.5.4"),
        (["HELO"], "501 5.5.4"),
        (["EHLO x", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["EHLO x", "DATA"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "DATA"], "554 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<nobody@example.test>", "DATA"], "554 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test>", "DATA now"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "MAIL FROM:<a@b.test>"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RSET", "MAIL FROM:<a@b.test>"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "EHLO y", "RCPT TO:<alice@example.test>"], "503 5.5.1"),
        (["EHLO x", "MAIL"], "501 5.5.4"),
        (["EHLO x", "MAIL TO:<a@b.test>"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:a@b.test"], "501 5.1.3"),
        (["EHLO x", "MAIL FROM:<a@b.test"], "501 5.1.3"),
        (["EHLO x", "MAIL FROM:<a b@c.test>"], "501 5.1.3"),
        (["EHLO x", "MAIL FROM: <a@b.test>"], "250 2.1.0"),
        (["EHLO x", "mail from:<a@b.test>"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<>"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b.test> SIZE=52428801"], "552 5.3.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> SIZE=100000000000000000000"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> SIZE=-1"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> SIZE=1 SIZE=1"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> BODY=BINARYMIME"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b.test> BODY=9BITMIME"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> REQUIRETLS"], "555 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test> FOO=1"], "555 5.5.4"),
        (["EHLO x", "MAIL FROM:<jürgen@b.test>"], "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<jürgen@b.test> SMTPUTF8"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<>"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<jürgen@example.test>"], "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test> FOO"], "555 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test> NOTIFY=NEVER,DELAY"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<Postmaster>"], "250 2.1.5"),
        (["NOOP"], "250 2.0.0"),
        (["NOOP anything"], "250 2.0.0"),
        (["RSET"], "250 2.0.0"),
        (["RSET x"], "501 5.5.4"),
        (["HELP"], "214 2.0.0"),
        (["VRFY alice"], "252 2.1.5"),
        (["QUIT"], "221 2.0.0"),
        (["QUIT now"], "501 5.5.4"),
        (["EXPN team"], "502 5.5.1"),
        (["BDAT 0 LAST"], "503 5.5.1"),
        (["BDAT"], "521 5.5.4"),
        (["BDAT -1"], "521 5.5.4"),
        (["BDAT 5 FIRST"], "521 5.5.4"),
        (["BDAT 5\udcff"], "521 5.5.4"),
        (["XCLIENT NAME=x"], "550 5.7.0"),
        (["WHAT"], "500 5.5.2"),
        ([""], "500 5.5.2"),
        ([" EHLO x"], "500 5.5.2"),
        (["AUTH PLAIN"], "502 5.5.1"),
        (["STARTTLS x"], "501 5.5.4"),
        (["NOOP \0"], "501 5.5.2"),
        (["EHLO \x1b[2J"], "501 5.5.2"),
        (["EHLO a\rb"], "501 5.5.2"),
        (["EHLO \udcff"], "501 5.5.2"),
        (["MAIL FROM:<a@b.test>\tSIZE=1"], "501 5.5.2"),
    ],
)
async def test_last_reply(house: House, lines: list[str], last: str) -> None:
    talk = house.talk()
    said = await say(talk, *lines)
    assert said[-1] == last
    assert len(said) == len(lines)
    assert talk.closing == (last.startswith(("221", "521")))


@pytest.mark.parametrize("verb", ["GET / HTTP/1.1", "POST /x HTTP/1.1", "CONNECT a:1 HTTP/1.1"])
async def test_a_browser_is_sent_away_at_once(house: House, verb: str) -> None:
    talk = house.talk()
    assert await say(talk, verb, "MAIL FROM:<a@b.test>") == ["502 5.7.0"]
    assert talk.closing


async def test_a_bare_lf_does_not_end_a_command(house: House) -> None:
    assert codes(await house.talk().feed(b"NOOP\nNOOP\r\n")) == ["500 5.5.2", "250 2.0.0"]


@pytest.mark.parametrize("extra", [0, 1, 5000, ENDLESS_LINE // 2])
async def test_an_overlong_line_is_answered_once_and_dropped(house: House, extra: int) -> None:
    line = b"NOOP " + b"x" * (LINE_MAX + 1 - len(b"NOOP \r\n") + extra) + b"\r\n"
    for size in (len(line), 1000, 4096):
        talk = house.talk()
        said = b"".join([await talk.feed(line[at : at + size]) for at in range(0, len(line), size)])
        assert codes(said + await talk.feed(b"NOOP\r\n")) == ["500 5.5.2", "250 2.0.0"]


async def test_the_longest_line_passes(house: House) -> None:
    line = b"NOOP " + b"x" * (LINE_MAX - len(b"NOOP \r\n")) + b"\r\n"
    assert codes(await house.talk().feed(line)) == ["250 2.0.0"]


async def test_an_endless_line_ends_the_connection_and_is_not_kept(house: House) -> None:
    talk = house.talk()
    said = b""
    for _ in range(2 * ENDLESS_LINE // 65536):
        said += await talk.feed(b"x" * 65536)
        assert len(talk._input) <= AUTH_LINE_MAX
    assert codes(said) == ["500 5.5.2", "421 4.7.0"]
    assert talk.closing


async def test_too_many_errors_end_the_connection(house: House) -> None:
    talk = house.talk(host=house.with_limits(errors=3))
    assert await say(talk, "A", "B", "C", "D") == ["500 5.5.2", "500 5.5.2", "421 4.7.0"]
    assert talk.closing


async def test_unknown_users_count_as_errors_for_strangers_only(house: House) -> None:
    host = house.with_limits(errors=3)
    guesses = ["EHLO x", "MAIL FROM:<a@b.test>", *(f"RCPT TO:<u{n}@example.test>" for n in range(5))]
    assert (await say(house.talk(host=host), *guesses))[-1] == "421 4.7.0"
    said = await say(house.talk(Peer("smtp", ip="10.1.2.3"), host), *guesses)
    assert said[2:] == ["550 5.1.1"] * 5


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "HELP", "HELO x", "EHLO x"])
async def test_commands_that_bring_no_mail_are_limited(house: House, command: str) -> None:
    talk = house.talk()
    said = await say(talk, "EHLO x", *[command] * (JUNK_MAX + 5))
    assert len(said) == JUNK_MAX + 1
    assert said[-1] == "421 4.7.0"


async def test_a_mail_forgives_the_commands_before_it(house: House) -> None:
    talk = house.talk()
    for _ in range(3):
        said = await say(talk, "EHLO x", *["NOOP"] * (JUNK_MAX - 2), *MAIL, TEXT, ".")
        assert said[-1] == "250 2.0.0"


async def test_too_many_recipients_are_told_to_come_later(house: House) -> None:
    talk = house.talk(host=house.with_limits(recipients=2))
    rcpt = "RCPT TO:<alice@example.test>"
    said = await say(talk, "EHLO x", "MAIL FROM:<a@b.test>", rcpt, rcpt, rcpt, "DATA", TEXT, ".")
    assert said[2:] == ["250 2.1.5", "250 2.1.5", "452 4.5.3", "354", "250 2.0.0"]


async def test_parameters_keep_their_case_and_reach_the_store(house: House) -> None:
    await say(
        house.talk(),
        "EHLO x",
        "MAIL FROM:<a@b.test> size=100 RET=hdrs ENVID=QqMixed+2Bx BODY=8bitmime SMTPUTF8 AUTH=<>",
        "RCPT TO:<alice@example.test> NOTIFY=success,FAILURE ORCPT=rfc822;Bob+40Far.test",
        "DATA",
        TEXT,
        ".",
    )
    row, content = await house.only()
    message, recipient = row.message, row.recipient
    assert (message.ret, message.envid, message.body, message.smtputf8) == ("HDRS", "QqMixed+2Bx", "8BITMIME", True)
    assert (recipient.notify, recipient.orcpt) == ("SUCCESS,FAILURE", "rfc822;Bob+40Far.test")
    assert b" with UTF8SMTP\r\n" in content


async def test_the_null_sender_is_empty(house: House) -> None:
    await say(house.talk(), "EHLO x", "MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA", TEXT, ".")
    row, _ = await house.only()
    assert row.message.sender == ""


async def test_a_source_route_is_dropped(house: House) -> None:
    await say(house.talk(), "EHLO x", "MAIL FROM:<@a.test:x@far.test>", "RCPT TO:<@b.test,@c.test:alice@example.test>")
    talk = house.talk()
    assert await say(talk, "EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<@example.test:u@far.test>") == [
        "250",
        "250 2.1.0",
        "550 5.7.1",
    ]


async def test_several_mails_and_commands_in_one_chunk(house: House) -> None:
    mail = "\r\n".join([*MAIL, TEXT, ".", ""])
    stream = f"EHLO x\r\n{mail}{mail}NOOP\r\nQUIT\r\n".encode()
    said = codes(await house.talk().feed(stream))
    one = ["250 2.1.0", "250 2.1.5", "354", "250 2.0.0"]
    assert said == ["250", *one, *one, "250 2.0.0", "221 2.0.0"]
    assert len(await house.rows()) == 2


async def test_bytes_after_quit_are_not_heard(house: House) -> None:
    stream = ("EHLO x\r\nQUIT\r\n" + "\r\n".join([*MAIL, TEXT, ".", ""])).encode()
    assert codes(await house.talk().feed(stream)) == ["250", "221 2.0.0"]
    assert await house.rows() == []


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"a\nb", "550 5.6.11"),
        (b"a\rb", "550 5.6.11"),
        (b"a\n.\nMAIL FROM:<evil@far.test>\nb", "550 5.6.11"),
        (b"a\r\n.\rb", "550 5.6.11"),
        (b"a\0b", "550 5.6.11"),
        (b"Received: x\r\n" * 51 + b"\r\n", "554 5.4.6"),
        (b"X: " + b"x" * 70_000 + b"\r\n\r\n", "552 5.3.4"),
        (b"x\r\n" * 100_000, "552 5.3.4"),
    ],
)
async def test_bad_content_is_refused_once_at_its_end_and_the_dialogue_goes_on(
    house: House, octets: bytes, reply: str
) -> None:
    talk = house.talk(host=house.with_limits(message_size_bytes=200_000, header_size_bytes=65_536))
    await say(talk, "EHLO x", *MAIL)
    assert codes(await talk.feed(octets + b"\r\n.\r\nNOOP\r\n")) == [reply, "250 2.0.0"]
    assert await house.rows() == []
    assert (await say(talk, *MAIL, TEXT, "."))[-1] == "250 2.0.0"


async def test_starttls_forgets_everything_and_drops_what_was_pipelined(house: House) -> None:
    talk = house.talk()
    await say(talk, "EHLO x", "MAIL FROM:<a@b.test>")
    assert codes(await talk.feed(b"STARTTLS\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n")) == ["220 2.0.0"]
    assert talk.starttls
    assert await talk.feed(b"NOOP\r\n") == b""
    talk.secured("TLSv1.3 X")
    assert await say(talk, "MAIL FROM:<a@b.test>") == ["503 5.5.1"]
    assert (talk.peer.helo, talk.peer.tls) == ("", "TLSv1.3 X")
    assert await say(talk, "EHLO x", "RCPT TO:<alice@example.test>", "STARTTLS") == ["250", "503 5.5.1", "503 5.5.1"]


# AUTH (RFC 4954)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([f"AUTH PLAIN {plain('alice@example.test', PASSWORD)}"], ["235 2.7.0"]),
        ([f"auth plain {plain('alice', PASSWORD)}"], ["235 2.7.0"]),
        (["AUTH PLAIN", plain("alice@example.test", PASSWORD, "alice@example.test")], ["334", "235 2.7.0"]),
        (
            ["AUTH login", b64encode(b"alice@example.test").decode(), b64encode(PASSWORD.encode()).decode()],
            ["334", "334", "235 2.7.0"],
        ),
        ([f"AUTH LOGIN {b64encode(b'alice').decode()}", b64encode(PASSWORD.encode()).decode()], ["334", "235 2.7.0"]),
        ([f"AUTH PLAIN {plain('alice@example.test', 'wrong password')}"], ["535 5.7.8"]),
        ([f"AUTH PLAIN {plain('nobody@example.test', PASSWORD)}"], ["535 5.7.8"]),
        ([f"AUTH PLAIN {plain('not an@address@@', PASSWORD)}"], ["535 5.7.8"]),
        ([f"AUTH PLAIN {plain('alice@example.test', PASSWORD, 'bob@example.test')}"], ["535 5.7.8"]),
        ([f"AUTH PLAIN {plain('', PASSWORD)}"], ["501 5.5.2"]),
        (["AUTH PLAIN ="], ["501 5.5.2"]),
        (["AUTH PLAIN", "*", "NOOP"], ["334", "501 5.7.0", "250 2.0.0"]),
        (["AUTH LOGIN", "*"], ["334", "501 5.7.0"]),
        (["AUTH PLAIN", "not base64!"], ["334", "501 5.5.2"]),
        (["AUTH PLAIN", b64encode(b"no nul").decode()], ["334", "501 5.5.2"]),
        (["AUTH PLAIN", b64encode(b"\0\xff\xff\0x").decode()], ["334", "501 5.5.2"]),
        (["AUTH PLAIN", ""], ["334", "501 5.5.2"]),
        (["AUTH"], ["504 5.5.4"]),
        (["AUTH GSSAPI"], ["504 5.5.4"]),
        (["AUTH PLAIN", "x" * AUTH_LINE_MAX, "NOOP"], ["334", "500 5.5.6", "250 2.0.0"]),
        (["AUTH PLAIN", "eA==" * 1000, "NOOP"], ["334", "501 5.5.2", "250 2.0.0"]),
    ],
)
async def test_auth(house: House, lines: list[str], said: list[str]) -> None:
    talk = house.talk(USER)
    await say(talk, "EHLO x")
    assert await say(talk, *lines) == said
    assert bool(talk.peer.user) == (said[-1] == "235 2.7.0")
    log = "\n".join(house.log)
    assert PASSWORD not in log
    assert "AGFs" not in log


async def test_auth_needs_tls(house: House) -> None:
    talk = house.talk(CLEAR_USER)
    auth = f"AUTH PLAIN {plain('alice@example.test', PASSWORD)}"
    assert await say(talk, "EHLO x", auth, "MAIL FROM:<alice@example.test>", "VRFY x") == [
        "250",
        "538 5.7.11",
        "530 5.7.0",
        "530 5.7.0",
    ]


async def test_auth_needs_ehlo_and_comes_once_and_before_mail(house: House) -> None:
    good = f"AUTH PLAIN {plain('alice@example.test', PASSWORD)}"
    assert await say(house.talk(USER), good) == ["503 5.5.1"]
    assert await say(house.talk(USER), "HELO x", good) == ["250", "503 5.5.1"]
    talk = house.talk(USER)
    said = await say(talk, "EHLO x", "MAIL FROM:<alice@example.test>", good, good, "RSET", "MAIL FROM:<a@example.test>")
    assert said == ["250", "530 5.7.0", "235 2.7.0", "503 5.5.1", "250 2.0.0", "553 5.7.1"]
    assert (await say(talk, "MAIL FROM:<alice@example.test>", "AUTH PLAIN"))[-1] == "503 5.5.1"


async def test_a_few_wrong_passwords_end_the_connection(house: House) -> None:
    talk = house.talk(USER)
    bad = f"AUTH PLAIN {plain('alice@example.test', 'wrong password')}"
    assert await say(talk, "EHLO x", bad, bad, bad) == ["250", "535 5.7.8", "535 5.7.8", "421 4.7.0"]
    assert talk.closing


async def test_a_user_sends_as_self_and_as_aliases_that_lead_to_self(house: House) -> None:
    talk = house.talk(replace(USER, helo="x", user="alice@example.test"))
    for sender, reply in [
        ("alice@example.test", "250 2.1.0"),
        ("Alice+tag@example.test", "250 2.1.0"),
        ("team@example.test", "250 2.1.0"),
        ("", "250 2.1.0"),
        ("bob@example.test", "553 5.7.1"),
        ("alice@far.test", "553 5.7.1"),
    ]:
        assert await say(talk, f"MAIL FROM:<{sender}>", "RSET") == [reply, "250 2.0.0"]


async def test_an_authenticated_user_relays_and_the_trace_says_so(house: House) -> None:
    talk = house.talk(replace(USER, helo="laptop", user="alice@example.test"))
    said = await say(talk, "MAIL FROM:<alice@example.test>", "RCPT TO:<x@far.test>", "DATA", "Subject: x\r\n", ".")
    assert said[-1] == "250 2.0.0"
    _, content = await house.only()
    assert b" with ESMTPSA (TLSv1.3 X)\r\n" in content
    assert b"alice@example.test\r\nDate: " in content


async def test_a_bug_costs_one_command_and_says_nothing(house: House) -> None:
    class Broken:
        def resolve(self, _address: str) -> None:
            raise RuntimeError("db locked at /secret/path")

    host = house.make_host(house.config)
    talk = house.talk(host=host)
    await say(talk, "EHLO x", "MAIL FROM:<a@b.test>")
    host.directory = Broken()  # type: ignore[assignment]
    said = await talk.feed(b"RCPT TO:<alice@example.test>\r\nNOOP\r\n")
    assert codes(said) == ["451 4.3.0", "250 2.0.0"]
    assert b"secret" not in said
    assert any("secret" in line for line in house.log)


async def test_reply_texts_are_well_formed(house: House) -> None:
    talk: Conversation = house.talk()
    said = await talk.feed(b"EHLO x\r\nNOOP\r\nWHAT\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@far.test>\r\n")
    assert all(line.endswith(b"\r") for line in said.split(b"\n")[:-1])
    assert b"Relaying denied" in said
    assert any("NOQUEUE: reject: RCPT from unknown[192.0.2.9]:4242: 550 5.7.1" in line for line in house.log)
    assert STRANGER.ip in house.log[0]
