"""Rows 15 to 17: signing in, guessing passwords, and mail in another's name."""

from base64 import b64encode

import pytest
from inbound_house import PASSWORD, House
from security_rows import prove
from security_target import USER, Target, Wire, hold, plain

GOOD = plain(USER, PASSWORD)
REFUSED = [
    b"AUTH PLAIN !!!!",
    b"AUTH PLAIN " + b64encode(b"no-nul"),
    b"AUTH PLAIN " + b64encode(b"\0\0"),
    b"AUTH PLAIN " + b64encode(b"\0alice@example.test"),
    b"AUTH PLAIN " + plain(USER, "wrong"),
    b"AUTH PLAIN " + plain(USER, PASSWORD + "\0x"),
    b"AUTH PLAIN " + plain("", PASSWORD),
    b"AUTH PLAIN " + plain(USER, ""),
    b"AUTH PLAIN " + b64encode(b"\0" + USER.encode() + b"\0p\xe4ss"),
    b"AUTH PLAIN =",
    b"AUTH",
    b"AUTH NTLM",
    b"AUTH CRAM-MD5",
    b"AUTH SCRAM-SHA-256 " + b64encode(b"y,,n=alice@example.test,r="),
]


@pytest.mark.parametrize("line", REFUSED, ids=[f"{number}" for number in range(len(REFUSED))])
async def test_row_15_only_the_password_signs_in(house: House, line: bytes) -> None:
    async def sign_in(target: Target) -> None:
        async with target.greeted("submission") as wire:
            answer = await wire.say(line)
            if answer.code == 334:
                answer = await wire.say("*")
            hold(answer.no, f"{line!r}: {answer}")
            hold((await wire.say("MAIL FROM:<alice@example.test>")).no, "and mail was taken")

    await prove(15, sign_in, house, safe_there=True)


async def test_row_15_nobody_acts_for_another(house: House) -> None:
    async def act(target: Target) -> None:
        async with target.greeted("submission") as wire:
            answer = await wire.say(b"AUTH PLAIN " + plain(USER, PASSWORD, "bob@example.test"))
            hold(answer.no, f"alice signed in to act as bob: {answer}")

    await prove(15, act, house)


async def test_row_15_never_in_clear_text_and_never_between_servers(house: House) -> None:
    async def clear(target: Target) -> None:
        async with target.connect("submission") as wire:
            await wire.answer()
            hold("AUTH" not in (await wire.say("EHLO x")).text, "offered in clear text")
            hold((await wire.say(b"AUTH PLAIN " + GOOD)).no, "taken in clear text")
        async with target.greeted("smtp") as wire:
            hold((await wire.say(b"AUTH PLAIN " + GOOD)).no, "taken on port 25")

    await prove(15, clear, house, safe_there=True)


async def test_row_15_once_and_at_its_time(house: House) -> None:
    async def again(target: Target) -> None:
        async with target.signed_in() as wire:
            hold((await wire.say(b"AUTH PLAIN " + GOOD)).code == 503, "twice")
            await wire.say("MAIL FROM:<alice@example.test>")
            hold((await wire.say(b"AUTH PLAIN " + GOOD)).code == 503, "within a mail")
        async with target.greeted("submission") as wire:
            hold((await wire.say("AUTH LOGIN")).code == 334, "AUTH LOGIN")
            hold((await wire.say("*")).code == 501, "a cancelled exchange")
            hold((await wire.say(b"AUTH PLAIN " + GOOD)).code == 235, "the right password after it")

    await prove(15, again, house, safe_there=True)


async def test_row_15_no_password_in_the_log(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """In no form, right or wrong, whole or not."""
    caplog.set_level(0)

    async def words(target: Target) -> None:
        secret = b"hunter2-is-not-a-password"
        async with target.greeted("submission") as wire:
            await wire.say(b"AUTH PLAIN " + b64encode(b"\0" + USER.encode() + b"\0" + secret))
            await wire.say("AUTH LOGIN")
            await wire.say(b64encode(USER.encode()))
            await wire.say(b64encode(secret))
            await wire.say(b"AUTH PLAIN " + b64encode(secret) + b"!")
        said = "\n".join([*target.log, caplog.text])
        for form in (secret.decode(), b64encode(secret).decode()[:20], "aHVudGVyMi"):
            hold(form not in said, f"{form} is in the log")

    await prove(15, words, house, safe_there=True)


async def guess(wire: Wire, number: int) -> int:
    return (await wire.say(b"AUTH PLAIN " + plain(USER, f"guess {number}"))).code


async def test_row_16_guesses_are_stopped_and_others_sign_in(house: House) -> None:
    """1,000 guesses over 50 connections from one address; meanwhile alice signs in from another."""

    async def force(target: Target) -> None:
        heard = 0
        for _ in range(50):
            async with target.connect("submission", ip="127.0.0.2") as wire:
                if (await wire.answer()).code != 220:
                    continue
                await wire.say("EHLO x")
                if (await wire.say("STARTTLS")).code != 220:
                    continue
                await wire.tls()
                await wire.say("EHLO x")
                for number in range(20):
                    code = await guess(wire, number)
                    heard += code == 535
                    if code in (0, 421):
                        break
        async with target.signed_in(ip="127.0.0.3"):
            pass
        hold(heard <= 50, f"{heard} guesses were tried")

    await prove(16, force, house, guarded=True, delay_max_s=0.0)
    assert any("block" in line for line in house.log), "an operator would see nothing"


async def test_row_16_who_is_known_cannot_be_told(house: House) -> None:
    async def enumerate_users(target: Target) -> None:
        said = set()
        for name in (USER, "nobody@example.test", "x@elsewhere.test", "postmaster"):
            async with target.greeted("submission") as wire:
                said.add((await wire.say(b"AUTH PLAIN " + plain(name, "wrong"))).text)
        hold(len(said) == 1, f"{said}")

    await prove(16, enumerate_users, house, safe_there=True)


@pytest.mark.parametrize(
    ("sender", "author"),
    [
        ("bob@example.test", "bob@example.test"),
        ("alice@example.test", "bob@example.test"),
        ("alice@example.test", "Alice <bob@example.test>, alice@example.test"),
        ("alice@example.test", "alice@example.test\r\nFrom: bob@example.test"),
        ("alice@elsewhere.test", "alice@example.test"),
    ],
)
async def test_row_17_users_write_in_their_own_name(house: House, sender: str, author: str) -> None:
    async def pretend(target: Target) -> None:
        async with target.signed_in() as wire:
            answer = await wire.say(f"MAIL FROM:<{sender}>")
            if answer.yes:
                await wire.say("RCPT TO:<x@far.test>")
                await wire.say("DATA")
                answer = await wire.say(f"From: {author}\r\nSubject: x\r\n\r\nx\r\n.")
            hold(answer.no, f"taken: {answer}")

    await prove(17, pretend, house)
