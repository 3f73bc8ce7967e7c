"""Rows 3 and 19: programs of this host, whose mail and arguments strangers may have written."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from inbound_house import House
from security_rows import WHY_NOT
from security_target import Target, hold, ours

SENDMAIL = Path(__file__).resolve().parents[3] / "deploy" / "bin" / "mtad-sendmail"


async def sendmail(house: House, *words: str, mail: bytes, name: str = "") -> int:
    """The exit code of the program, with the daemon that is this house."""
    environ = {"MTA_ROOT": str(Path(house.config.paths.run).parent), "PATH": "/usr/bin:/bin", "NAME": name}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-IS", str(SENDMAIL), *words], input=mail, capture_output=True, env=environ,
        timeout=60, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode


async def only(target: Target) -> tuple[str, tuple[str, ...], bytes]:
    (mail,) = await target.stored()
    return mail


@pytest.mark.parametrize(
    ("words", "text", "body"),
    [
        (["-i"], b"a\n.\nb\n", b"a\r\n.\r\nb\r\n"),
        (["-oi"], b".\n..\n", b".\r\n..\r\n"),
        ([], b"a\n.\nMAIL FROM:<x@y>\n", b"a\r\n"),
        (["-i"], b"a\r\n.\r\nMAIL FROM:<x@y>\r\n", b"a\r\n.\r\nMAIL FROM:<x@y>\r\n"),
        (["-i"], b"a\rb\n.\rc\n", b""),
    ],
    ids=["dot with -i", "dots with -oi", "dot ends", "CRLF", "bare CR"],
)
async def test_row_03_programs_cannot_smuggle(house: House, words: list[str], text: bytes, body: bytes) -> None:
    assert 3 in WHY_NOT
    async with ours(house) as target:
        code = await sendmail(house, *words, "alice@example.test", mail=b"Subject: x\n\n" + text)
        mails = await target.stored()
        hold(len(mails) == (code == 0), "the exit code is not the truth")
        for sender, recipients, octets in mails:
            hold(recipients == ("alice@example.test",) and sender != "x@y", "a command was read in the text")
            hold(b"\r" not in octets.replace(b"\r\n", b"") and b"\n" not in octets.replace(b"\r\n", b""), "bare ends")
            hold(not body or octets.endswith(b"\r\n\r\n" + body), f"{octets!r}")


@pytest.mark.parametrize(
    "words",
    [
        ["-F", "x\nBcc: e@far.test"],
        ["-F", "x\r\nBcc: e@far.test\r\n\r\nbody"],
        ["-F", '"quo\\ted" <e@far.test>, x'],
        ["-F", "\x1b[31mred\x00"[:-1]],
        ["-f", "a@b.test\nRCPT TO:<e@far.test>"],
        ["-f", "a@b.test> SIZE=1\r\nRCPT TO:<e@far.test>"],
        ["-f", "a b@c.test"],
        ["-r", "<>\r\nX: y"],
        ["-oQ/tmp"],
        ["-V", "envid\r\nRCPT TO:<e@far.test>"],
        ["-N", "success\r\nx"],
    ],
    ids=repr,
)
async def test_row_19_no_argument_becomes_a_field_or_a_command(house: House, words: list[str]) -> None:
    assert 19 in WHY_NOT
    async with ours(house) as target:
        code = await sendmail(house, *words, "--", "alice@example.test", mail=b"Subject: x\n\nbody\n")
        mails = await target.stored()
        hold(len(mails) == (code == 0), f"exit {code}, {len(mails)} mails")
        for _, recipients, octets in mails:
            hold(recipients == ("alice@example.test",), f"{recipients}")
            head = octets.partition(b"\r\n\r\n")[0].lower()
            hold(not any(line.startswith((b"bcc", b"x:")) for line in head.split(b"\r\n")), f"{head!r}")
            hold(octets.endswith(b"\r\n\r\nbody\r\n"), "the argument became text")
            hold(b"\x1b" not in octets and b"\0" not in octets, "controls in a field")


@pytest.mark.parametrize("name", ["x\nBcc: e@far.test", 'a "b" <c@d>', "J\u00fcrgen"])
async def test_row_19_nor_does_the_name_of_the_user(house: House, name: str) -> None:
    async with ours(house) as target:
        code = await sendmail(house, "alice@example.test", mail=b"Subject: x\n\nbody\n", name=name)
        for _, recipients, octets in await target.stored():
            hold(recipients == ("alice@example.test",) and b"\nBcc" not in octets, f"{octets!r}")
        hold(code == 0 and len(await target.stored()) == 1, f"exit {code}")


@pytest.mark.parametrize(
    "recipient", ["-oQ/tmp", "-bd", "|touch /tmp/x", "/etc/passwd", ":include:/etc/shadow", "a@b\nc"]
)
async def test_row_19_recipients_are_addresses(house: House, recipient: str) -> None:
    async with ours(house) as target:
        code = await sendmail(house, "--", recipient, mail=b"Subject: x\n\nbody\n")
        hold(code != 0, "taken")
        hold(not await target.stored(), "stored")
