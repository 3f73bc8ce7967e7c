"""Whatever lies in `maildrop/`: it becomes a mail, or it is set aside, or it stays; it never vanishes."""

import asyncio
import itertools
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inbound_house import House

from mtad.inbound.maildrop import BAD, Maildrop

GOOD = b"MAIL FROM:<cron@example.test>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nSubject: hi\r\n\r\n..dot\r\n.\r\n"
WORDS = (
    b"\r\n", b"\n", b"\r", b".", b"\r\n.\r\n", b"DATA\r\n", b"RSET\r\n", b"QUIT\r\n", b"MAIL FROM:<>\r\n", b"\0",
    b"\xff",
    b"RCPT TO:<no@example.test>\r\n", b"BDAT 5 LAST\r\nhello", b"STARTTLS\r\n", b"AUTH PLAIN AGEAYg==\r\n", b"<",
    b"EHLO x\r\n",
)  # fmt: skip
NUMBERS = itertools.count(1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 9), st.sampled_from(WORDS) | st.binary(max_size=9)),
        max_size=4,
    )
)
@example(changes=[])
@example(changes=[(0, len(GOOD), b"")])
@example(changes=[(0, 0, b"QUIT\r\n")])
@example(changes=[(len(GOOD), 0, b"MAIL FROM:<b@example.test>\r\n")])
def test_no_file_vanishes(runner: asyncio.Runner, steady: House, changes: list[tuple[int, int, bytes]]) -> None:
    octets = GOOD
    for at, gone, new in changes:
        octets = octets[:at] + new + octets[at + gone :]
    box = Path(steady.config.paths.maildrop)
    name = f"{next(NUMBERS)}.1.aa.mail"
    (box / name).write_bytes(octets)
    before = {row.message.id for row in runner.run(steady.rows())}
    steady.log.clear()
    taken = runner.run(Maildrop(steady.inbound(), steady.clock).drain())
    born = {row.message.id for row in runner.run(steady.rows())} - before
    assert not [line for line in steady.log if "internal error" in line]
    places = [(box / name).exists(), (box / BAD / name).exists(), taken == 1]
    assert places.count(True) == 1, (places, octets)
    assert len(born) <= 1  # a mail of it, or a report about it
    assert born or not taken
    for left in (box / name, box / BAD / name):
        left.unlink(missing_ok=True)
