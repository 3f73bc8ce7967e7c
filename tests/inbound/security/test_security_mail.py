"""Rows 1, 2, 4, 8 to 14: what a client may say, how long, how often, and how a mail ends."""

import re

import pytest
from inbound_house import House
from security_rows import prove
from security_target import Target, hold

HEAD = b"Subject: first\r\n\r\nfirst"
SMUGGLED = (
    b"MAIL FROM:<ceo@far.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n"
    b"From: ceo@far.test\r\nSubject: smuggled\r\n\r\nobey\r\n.\r\n"
)
NOT_THE_END = {
    "LF.LF": b"\n.\n",
    "CR.CR": b"\r.\r",
    "CR.LF": b"\r.\n",
    "LF.CR": b"\n.\r",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRCRLF.CRCRLF": b"\r\r\n.\r\r\n",
    "CRLF-NUL.CRLF": b"\r\n\0.\r\n",
    "CRLF.NUL-CRLF": b"\r\n.\0\r\n",
    "CRLF.SP-CRLF": b"\r\n. \r\n",
    "LFLF.CRLF": b"\n\n.\r\n",
    "FF": b"\x0c.\x0c",
    "VT": b"\x0b.\x0b",
    "NEL": b"\xc2\x85.\xc2\x85",
    "LS": b"\xe2\x80\xa8.\xe2\x80\xa8",
}
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")


async def envelope(target: Target, wire_mail: bytes) -> None:
    """One mail whose content holds what must not be its end."""
    async with target.greeted() as wire:
        await wire.say("MAIL FROM:<x@far.test>")
        await wire.say("RCPT TO:<alice@example.test>")
        hold((await wire.say("DATA")).code == 354, "no 354")
        await wire.send(wire_mail + b"\r\n.\r\nQUIT\r\n")
        replies = [answer.code for answer in await wire.rest()]
        hold(len(replies) == 2, f"not one reply and the goodbye: {replies}")
        hold(replies[-1] == 221, f"{replies}")


@pytest.mark.parametrize("name", NOT_THE_END)
async def test_row_01_only_one_end_of_mail(house: House, name: str) -> None:
    async def smuggle(target: Target) -> None:
        before = len(await target.stored())
        await envelope(target, HEAD + NOT_THE_END[name] + SMUGGLED.removesuffix(b"\r\n.\r\n"))
        mails = (await target.stored())[before:]
        hold(len(mails) <= 1, f"{len(mails)} mails")
        hold(all(sender == "x@far.test" for sender, _, _ in mails), "the second sender was believed")

    await prove(1, smuggle, house)


@pytest.mark.parametrize(
    "body", [b"a\rb", b"a\nb", b"a\0b", b"\r", b"\n", b"a\r\r\nb", b"\n.\nb", b"a\r\n\rb"], ids=repr
)
async def test_row_02_bare_line_ends_go_no_further(house: House, body: bytes) -> None:
    async def bare(target: Target) -> None:
        before = len(await target.stored())
        answer = await target.mail(HEAD + body)
        for _, _, octets in (await target.stored())[before:]:
            hold(not BARE.search(octets), f"{octets[-60:]!r} was taken with {answer.code}")

    await prove(2, bare, house)


async def test_row_04_nothing_said_before_tls_counts_in_it(house: House) -> None:
    async def inject(target: Target) -> None:
        async with target.connect() as wire:
            await wire.answer()
            await wire.say("EHLO client.test")
            await wire.send(b"STARTTLS\r\nEHLO inside\r\nMAIL FROM:<x@far.test>\r\n")
            first = await wire.answer()
            if first.code == 0:
                return  # cut: as good
            hold(first.code == 220, f"{first}")
            await wire.tls()
            hold((await wire.say("MAIL FROM:<y@far.test>")).code == 503, "the EHLO before TLS was remembered")
            hold((await wire.say("EHLO client.test")).yes, "no EHLO inside TLS")
            hold((await wire.say("RCPT TO:<alice@example.test>")).no, "the MAIL before TLS was remembered")
            hold((await wire.say("QUIT")).code == 221, "replies out of step")

    await prove(4, inject, house)


async def test_row_08_who_speaks_out_of_turn_is_sent_away(house: House) -> None:
    """Before the greeting, and everything in one go behind EHLO: what bots do, and no mail program."""

    async def early(target: Target) -> None:
        async with target.connect() as wire:
            await wire.send(b"EHLO client.test\r\nMAIL FROM:<x@far.test>\r\nRCPT TO:<alice@example.test>\r\n")
            codes = [(await wire.answer()).code for _ in range(3)]
            hold(codes.count(250) <= 1, f"{codes}")

    await prove(8, early, house)


async def test_row_08_nothing_is_done_twice_or_after_quit(house: House) -> None:
    async def behind(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            await wire.say("RCPT TO:<alice@example.test>")
            await wire.send(b"DATA\r\nSubject: x\r\n\r\nMAIL FROM:<y@far.test>\r\n.\r\nQUIT\r\nNOOP\r\n")
            codes = [answer.code for answer in await wire.rest()]
            hold(codes in ([354, 250, 221], [354, 221]), f"{codes}")

    await prove(8, behind, house, safe_there=True)


HOSTILE = {
    "NUL in EHLO": b"EHLO a\0b",
    "escape in EHLO": b"EHLO \x1b[2Jx",
    "NUL in MAIL": b"MAIL FROM:<a\0b@far.test>",
    "NUL behind MAIL": b"MAIL FROM:<a@far.test>\0",
    "8 bit": b"MAIL FROM:<\xe9@far.test>",
    "8 bit with SMTPUTF8": b"MAIL FROM:<\xe9@far.test> SMTPUTF8",
    "surrogate": b"MAIL FROM:<\xed\xa0\x80@far.test> SMTPUTF8",
    "overlong": b"MAIL FROM:<\xc0\xae\xc0\xae@far.test> SMTPUTF8",
    "UTF-8 without SMTPUTF8": "MAIL FROM:<\u00e9@far.test>".encode(),
    "C1 control": "MAIL FROM:<a\u0085b@far.test> SMTPUTF8".encode(),
    "right-to-left override": "MAIL FROM:<a\u202eb@far.test> SMTPUTF8".encode(),
    "bare CR": b"MAIL FROM:<a@far.test>\rRCPT TO:<alice@example.test>",
}


async def test_row_09_hostile_octets_in_commands(house: House) -> None:
    async def octets(target: Target) -> None:
        taken = []
        for name, line in HOSTILE.items():
            async with target.greeted() as wire:
                answer = await wire.say(line)
                hold(answer.code, f"{name}: the connection is gone")
                taken += [name] if answer.yes else []
                hold((await wire.say("NOOP")).yes, f"{name}: the session is out of step")
        hold(not taken, f"taken: {taken}")

    await prove(9, octets, house)


async def test_row_09_hostile_octets_in_recipients(house: House) -> None:
    async def octets(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            taken = []
            for line in (b"a\0", b"\xe9", b"\xed\xa0\x80", "\u202e".encode(), b"\x7f", b"a\tb"):
                answer = await wire.say(b"RCPT TO:<" + line + b"alice@example.test>")
                taken += [line] if answer.yes else []
            hold(not taken, f"taken: {taken}")
            hold((await wire.say("NOOP")).yes, "the session is gone")

    await prove(9, octets, house)


async def test_row_10_lines_without_measure(house: House) -> None:
    async def long(target: Target) -> None:
        async with target.greeted() as wire:
            for size in (4_000, 100_000):
                hold((await wire.say(b"NOOP " + b"x" * size)).code == 500, f"a line of {size} octets")
                hold((await wire.say("NOOP")).code == 250, "the session is out of step")
            for _ in range(64):
                await wire.send(b"x" * 65536)
            await wire.send(b"\r\nNOOP\r\n")
            codes = [answer.code for answer in (await wire.answer(), await wire.answer())]
            hold(0 in codes, f"4 MiB without a line end: {codes}")

    await prove(10, long, house)


@pytest.mark.parametrize("size", [998, 999, 2048, 1 << 20])
async def test_row_11_long_lines_of_text(house: House, size: int) -> None:
    async def line(target: Target) -> None:
        before = len(await target.stored())
        answer = await target.mail(b"Subject: x\r\n\r\n" + b"x" * size)
        mails = (await target.stored())[before:]
        hold(answer.code == 250 or size > 998, f"a lawful line was refused: {answer}")
        hold(len(mails) == (answer.code == 250), "the reply is not the truth")
        hold(all(b"\r\n" + b"x" * size in octets for _, _, octets in mails), "a line was split")

    await prove(11, line, house)


async def test_row_12_sizes_that_lie(house: House) -> None:
    async def declared(target: Target) -> None:
        for size in ("-1", "1" * 20, "1 SIZE=2", "x", "0x10", "\u0661"):
            async with target.greeted() as wire:
                answer = await wire.say(f"MAIL FROM:<x@far.test> SIZE={size}")
                hold(answer.no, f"SIZE={size}: {answer}")
                hold((await wire.say("MAIL FROM:<x@far.test> SIZE=10")).yes, "the session is out of step")

    await prove(12, declared, house)


async def test_row_12_a_mail_over_the_limit(house: House) -> None:
    limit = 33_554_432  # what the stock class has by default

    async def sent(target: Target) -> None:
        async with target.greeted() as wire:
            hold((await wire.say(f"MAIL FROM:<x@far.test> SIZE={limit + 1}")).code == 552, "a declared size")
            await wire.say("MAIL FROM:<x@far.test> SIZE=10")
            await wire.say("RCPT TO:<alice@example.test>")
            await wire.say("DATA")
            for _ in range(limit // 63_000 + 2):
                await wire.send((b"x" * 61 + b"\r\n") * 1000)
            hold((await wire.say(".")).code == 552, "a size that was not declared")
            hold((await wire.say("NOOP")).code == 250, "the session is out of step")
            hold(not await target.stored(), "it was kept")

    await prove(12, sent, house, safe_there=True, message_size_bytes=limit)


async def test_row_13_recipients_without_number(house: House) -> None:
    async def many(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            codes = [(await wire.say("RCPT TO:<alice@example.test>")).code for _ in range(250)]
            hold(codes[:100] == [250] * 100, "RFC 5321 4.5.3.1.8: 100 at least")
            hold(codes[-1] == 452, f"the 250th: {codes[-1]}")

    await prove(13, many, house, recipients=200)


async def test_row_13_who_guesses_addresses_is_sent_away(house: House) -> None:
    async def guess(target: Target) -> None:
        async with target.greeted() as wire:
            await wire.say("MAIL FROM:<x@far.test>")
            for number in range(1000):
                if not (await wire.say(f"RCPT TO:<guess{number}@example.test>")).code:
                    return
            hold(False, "1,000 guesses in one session")

    await prove(13, guess, house)


@pytest.mark.parametrize("line", ["NONSENSE", "RCPT TO:<a@b.test>", "NOOP", "RSET", "VRFY x", "HELP", "EHLO x"])
async def test_row_14_errors_and_junk_have_an_end(house: House, line: str) -> None:
    async def again(target: Target) -> None:
        async with target.greeted() as wire:
            for _ in range(1000):
                if (await wire.say(line)).code in (0, 421):
                    hold(not (await wire.answer()).code, "421, and it went on")
                    return
            hold(False, f"1,000 times {line}")

    await prove(14, again, house, safe_there=line == "NONSENSE")
