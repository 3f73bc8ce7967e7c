"""Mail that lies in `maildrop/`."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from inbound_house import House

from mtad.inbound.maildrop import BAD, Maildrop
from mtad.mail.envelope import NewMessage
from mtad.queue.store import StoreError

GOOD = b"MAIL FROM:<cron@example.test>\r\nRCPT TO:<x@far.test>\r\nDATA\r\nSubject: hi\r\n\r\n..dot\r\n.\r\n"


@pytest.fixture
def box(house: House) -> Path:
    return Path(house.config.paths.maildrop)


@pytest.fixture
def maildrop(house: House) -> Maildrop:
    return Maildrop(house.inbound(), house.clock)


def left(box: Path) -> list[str]:
    return sorted(str(path.relative_to(box)) for path in box.rglob("*") if not path.is_dir())


async def test_a_file_becomes_a_mail_of_its_owner_and_goes(house: House, box: Path, maildrop: Maildrop) -> None:
    path = box / "100.1.aa.mail"
    path.write_bytes(GOOD)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert await maildrop.drain() == 1
    assert left(box) == []
    row, content = await house.only()
    assert (row.message.peer.source, row.message.peer.uid) == ("maildrop", os.getuid())
    assert (row.message.sender, row.recipient.address) == ("cron@example.test", "x@far.test")
    assert content.endswith(b"\r\n\r\n.dot\r\n")
    assert b"\r\nDate: Tue, 14 Nov 2023 22:13:20 +0000\r\n" in content
    assert row.message.accepted_at > 1_700_000_000 + 86400, "it expires from now, not from when it was written"
    assert await maildrop.drain() == 0


async def test_files_come_in_the_order_of_their_names(house: House, box: Path, maildrop: Maildrop) -> None:
    for number in (3, 1, 2):
        (box / f"{number}.1.aa.mail").write_bytes(GOOD.replace(b"hi", b"number %d" % number))
    taken = []
    accept = house.store.accept

    async def watch(new: NewMessage) -> None:
        taken.append(new.message.subject)
        await accept(new)

    house.store.accept = watch  # type: ignore[method-assign]
    assert await maildrop.drain() == 3
    assert taken == ["number 1", "number 2", "number 3"]


async def test_two_files_with_the_same_words_are_two_mails(house: House, box: Path, maildrop: Maildrop) -> None:
    for name in ("100.1.aa.mail", "100.1.ab.mail"):
        (box / name).write_bytes(GOOD)
    assert await maildrop.drain() == 2
    assert len({row.message.id for row in await house.rows()}) == 2


async def test_unknown_users_are_taken_and_fail_later_with_a_report(
    house: House, box: Path, maildrop: Maildrop
) -> None:
    (box / "1.1.a.mail").write_bytes(GOOD.replace(b"x@far.test", b"nobody@example.test"))
    assert await maildrop.drain() == 1
    row, _ = await house.only()
    assert row.recipient.address == "nobody@example.test"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage\r\n",
        GOOD[:-3],
        GOOD[:-5],
        GOOD.replace(b"DATA\r\n", b""),
        GOOD.replace(b"\r\n", b"\n"),
        GOOD.replace(b"<x@far.test>", b"<x@far@test>"),
        GOOD.replace(b"DATA", b"RCPT TO:<a b@c.test>\r\nDATA"),
        GOOD.replace(b"..dot", b"bare\nnewline"),
        b"QUIT\r\n" + GOOD,
        b"MAIL FROM:<" + b"x" * 5000 + b">\r\n" + GOOD,
    ],
)
async def test_what_is_no_mail_is_set_aside_and_reported(
    house: House, box: Path, maildrop: Maildrop, content: bytes
) -> None:
    (box / "1.1.a.mail").write_bytes(content)
    (box / "2.1.a.mail").write_bytes(GOOD)
    assert await maildrop.drain() == 1
    assert left(box) == ["bad/1.1.a.mail"]
    assert (box / "bad" / "1.1.a.mail").read_bytes() == content
    assert [line for line in house.log if "1.1.a.mail" in line]
    assert len([row for row in await house.rows() if row.message.peer.source == "maildrop"]) == 1


@pytest.mark.parametrize("kind", ["symlink", "fifo", "hardlink", "writable", "directory"])
async def test_only_an_honest_file_is_read(
    house: House, box: Path, maildrop: Maildrop, tmp_path: Path, kind: str
) -> None:
    path = box / "1.1.a.mail"
    target = tmp_path / "secret"
    target.write_bytes(GOOD)
    match kind:
        case "symlink":
            path.symlink_to(target)
        case "fifo":
            os.mkfifo(path)
        case "hardlink":
            (box / "other").write_bytes(GOOD)
            os.link(box / "other", path)
        case "writable":
            path.write_bytes(GOOD)
            path.chmod(0o666)
        case "directory":
            path.mkdir()
    assert await maildrop.drain() == 0
    assert await house.rows() == []
    assert target.read_bytes() == GOOD
    assert not os.path.lexists(path)
    assert os.path.lexists(box / "bad" / "1.1.a.mail")


@pytest.mark.parametrize("name", [b"0\xff.mail", b"0\xed\xa0\x80.mail"])
async def test_a_name_that_is_no_text_keeps_no_other_file_waiting(
    house: House, box: Path, maildrop: Maildrop, name: bytes
) -> None:
    """Anyone may write one there."""
    (box / os.fsdecode(name)).write_bytes(GOOD)
    (box / "100.1.aa.mail").write_bytes(GOOD)
    assert await maildrop.drain() == 1
    assert left(box) == [f"{BAD}/{os.fsdecode(name)}"]


async def test_a_file_that_meets_a_bug_keeps_no_other_file_waiting(house: House, box: Path, maildrop: Maildrop) -> None:
    accepted_from = maildrop._inbound.host.acceptor.accepted_from

    async def buggy(message_id: str) -> object:
        if house.log == []:
            raise ZeroDivisionError
        return await accepted_from(message_id)

    house.log.clear()
    maildrop._inbound.host.acceptor.accepted_from = buggy  # type: ignore[method-assign, assignment]
    (box / "100.1.aa.mail").write_bytes(GOOD)
    (box / "101.1.aa.mail").write_bytes(GOOD)
    assert await maildrop.drain() == 1
    assert left(box) == ["100.1.aa.mail"]
    assert "ZeroDivisionError" in "".join(house.log)
    assert await maildrop.drain() == 1


async def test_a_bad_file_does_not_take_the_place_of_another(box: Path, maildrop: Maildrop) -> None:
    for text in (b"one", b"two", b"three"):
        (box / "1.mail").write_bytes(text)
        assert await maildrop.drain() == 0
    bad = box / BAD
    assert [(bad / name).read_bytes() for name in ("1.mail", "1.mail.1", "1.mail.2")] == [b"one", b"two", b"three"]


async def test_nobody_else_chooses_where_a_bad_file_goes(
    house: House, box: Path, maildrop: Maildrop, tmp_path: Path
) -> None:
    """Anyone may write to the maildrop: a link called bad must not have us move strangers' files to where it leads."""
    elsewhere = tmp_path / "cron.d"
    elsewhere.mkdir()
    (box / "bad").symlink_to(elsewhere)
    (box / "1.1.a.mail").write_bytes(b"no mail")
    assert await maildrop.drain() == 0
    assert list(elsewhere.iterdir()) == []
    assert (box / "1.1.a.mail").exists()
    assert any("cannot be set aside" in line for line in house.log)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make another user's directory")
async def test_bad_files_do_not_go_to_another_users_directory(house: House, box: Path, maildrop: Maildrop) -> None:
    (box / "bad").mkdir(0o777)
    os.chown(box / "bad", 65534, 65534)
    (box / "1.1.a.mail").write_bytes(b"no mail")
    assert await maildrop.drain() == 0
    assert left(box) == ["1.1.a.mail"]


async def test_the_place_for_bad_files_is_ours_before_there_is_one(box: Path, maildrop: Maildrop) -> None:
    assert await maildrop.drain() == 0
    found = (box / "bad").lstat()
    assert (stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode) & 0o777) == (stat.S_IFDIR, 0o700)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (GOOD.replace(b"DATA", b"RCPT TO:<a..b@c.test>\r\nDATA"), b"5.1.3"),
        (GOOD.replace(b"..dot", b"bare\nnewline"), b"5.6.11"),
    ],
)
async def test_who_was_told_that_all_is_well_hears_that_it_is_not(
    house: House, box: Path, maildrop: Maildrop, content: bytes, status: bytes
) -> None:
    """sendmail exited with 0: delivered or bounced. Once, however often the file is looked at."""
    content = content.replace(b"cron@example.test", b"alice")
    (box / "1.1.a.mail").write_bytes(content)
    (box / BAD).write_bytes(b"")  # it cannot be moved, so it is looked at again
    assert await maildrop.drain() == 0
    assert await maildrop.drain() == 0
    row, report = await house.only()
    assert (row.message.sender, row.recipient.address) == ("", "alice@example.test")
    assert row.message.peer.source == "internal"
    assert b"Content-Type: multipart/report" in report
    assert b"Final-Recipient: rfc822; x@far.test\r\nAction: failed\r\nStatus: " + status in report
    assert b"Subject: hi" in report
    (box / BAD).unlink()
    assert await maildrop.drain() == 0
    assert left(box) == ["bad/1.1.a.mail"]


async def test_nothing_is_reported_about_a_report(house: House, box: Path, maildrop: Maildrop) -> None:
    (box / "1.1.a.mail").write_bytes(GOOD.replace(b"cron@example.test", b"").replace(b"x@far", b"x..y@far"))
    assert await maildrop.drain() == 0
    assert await house.rows() == []
    assert left(box) == ["bad/1.1.a.mail"]


async def test_what_follows_the_mail_in_its_file_does_not_spoil_it(house: House, box: Path, maildrop: Maildrop) -> None:
    (box / "1.1.a.mail").write_bytes(GOOD + b"garbage\r\n")
    assert await maildrop.drain() == 1
    assert left(box) == []
    await house.only()


async def test_a_file_that_is_too_large_is_set_aside(house: House, box: Path, maildrop: Maildrop) -> None:
    path = box / "1.1.a.mail"
    path.write_bytes(GOOD)
    os.truncate(path, house.config.limits.message_size_bytes * 2)
    assert await maildrop.drain() == 0
    assert left(box) == ["bad/1.1.a.mail"]


async def test_storage_trouble_leaves_the_file_for_the_next_time(house: House, box: Path, maildrop: Maildrop) -> None:
    accept = house.store.accept

    async def broken(_: NewMessage) -> None:
        raise StoreError("full", full=True)

    house.store.accept = broken  # type: ignore[method-assign]
    (box / "1.1.a.mail").write_bytes(GOOD)
    assert await maildrop.drain() == 0
    assert left(box) == ["1.1.a.mail"]
    house.store.accept = accept  # type: ignore[method-assign]
    assert await maildrop.drain() == 1


async def test_unfinished_files_wait_a_day(house: House, box: Path, maildrop: Maildrop) -> None:
    new, old = box / ".1.a.tmp", box / ".2.b.tmp"
    for path in (new, old):
        path.write_bytes(GOOD)
    os.utime(old, (0, 0))
    assert await maildrop.drain() == 0
    assert left(box) == [".1.a.tmp"]


async def test_drains_at_the_same_time_take_each_file_once(house: House, box: Path, maildrop: Maildrop) -> None:
    for number in range(5):
        (box / f"{number}.1.a.mail").write_bytes(GOOD)
    assert sum(await asyncio.gather(*(maildrop.drain() for _ in range(3)))) == 5
    assert len(await house.rows()) == 5


async def test_no_directory_is_an_empty_one(house: House, box: Path, maildrop: Maildrop) -> None:
    box.rmdir()
    assert await maildrop.drain() == 0


def test_killed_between_commit_and_unlink(short_dir: Path) -> None:
    """The real thing: SIGKILL at the named point, then another process drains."""
    program = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from inbound_house import end_house, make_house
from mtad.inbound.maildrop import Maildrop

async def main():
    house = await make_house(Path(sys.argv[1]))
    taken = await Maildrop(house.inbound(), house.clock).drain()
    print(taken, len(await house.rows()))
    await end_house(house)

asyncio.run(main())
"""
    box = short_dir / "data" / "maildrop"
    box.mkdir(parents=True)
    (box / "1.1.a.mail").write_bytes(GOOD)
    command = [sys.executable, "-c", program, str(short_dir), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    first = subprocess.run(command, env={**environment, "MTA_FAULT": "maildrop.accepted"}, capture_output=True)
    assert first.returncode == -9
    assert left(box) == ["1.1.a.mail"]
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.stdout == "0 1\n", second.stderr
    assert left(box) == []


@pytest.mark.parametrize("fails", [False, True])
async def test_a_stop_waits_for_the_file_that_is_being_taken(
    house: House, box: Path, maildrop: Maildrop, *, fails: bool
) -> None:
    """The store is closed after it: what went on by itself would find no store, and nobody who hears of it."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    accept = house.store.accept

    async def wait(new: NewMessage) -> None:
        begun.set()
        await go_on.wait()
        if fails:
            raise StoreError("no room")
        await accept(new)

    house.store.accept = wait  # type: ignore[method-assign]
    (box / "1.1.a.mail").write_bytes(GOOD)
    draining = asyncio.create_task(maildrop.drain())
    await begun.wait()
    draining.cancel()
    await asyncio.sleep(0)
    assert not draining.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await draining
    assert left(box) == (["1.1.a.mail"] if fails else [])
    assert len(await house.rows()) == (not fails)
