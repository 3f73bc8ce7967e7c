"""Maildir++ quotas."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from mtad.mail.envelope import Content, Message, Peer, Recipient
from mtad.outbound import quota
from mtad.outbound.local import Mailboxes

MESSAGE = Message("0123456789ab", "a@x.test", 40, 0.0, 1e9, Peer("smtp"))


@pytest.fixture
def deliver(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        mailboxes = Mailboxes(executor, "mail.own.test")

        async def call(n=1, octets=1000, quota_bytes=10_000):
            to = Recipient(MESSAGE.id, n, "bob@own.test", "bob@own.test", "own.test")
            content = Content(b"A: b\r\n\r\n", b"x" * octets)
            return await mailboxes.deliver(f"{tmp_path}/%u", to, MESSAGE, content, quota_bytes)

        yield call


async def test_full_waits_and_nothing_is_left(deliver, tmp_path):
    replies = [await deliver(n, 3000) for n in range(1, 6)]
    assert [reply.code for reply in replies] == [250, 250, 250, 452, 452]
    assert (replies[3].status, replies[3].temporary) == ("4.2.2", True)
    assert len(os.listdir(tmp_path / "bob/new")) == 3
    assert os.listdir(tmp_path / "bob/tmp") == []


async def test_there_is_room_again_when_mail_was_deleted_by_a_reader_that_notes_nothing(deliver, tmp_path):
    for n in range(1, 4):
        assert (await deliver(n, 3000)).ok
    new = tmp_path / "bob/new"
    os.rename(new / min(os.listdir(new)), tmp_path / "bob/cur/x,S=9:2,S")
    assert (await deliver(4, 3000)).ok
    assert not (await deliver(5, 3000)).ok


async def test_the_name_says_the_size_and_the_file_the_sum(deliver, tmp_path):
    await deliver(1)
    await deliver(2)
    new = tmp_path / "bob/new"
    sizes = [int(name.rpartition(",S=")[2]) for name in os.listdir(new)]
    assert sizes == [path.stat().st_size for path in new.iterdir()]
    first, *rest = (tmp_path / "bob/maildirsize").read_text().split("\n")
    assert first == "10000S"
    assert sum(int(line.split()[0]) for line in rest if line) == sum(sizes)
    assert sum(int(line.split()[1]) for line in rest if line) == 2


async def test_delivered_twice_is_there_and_counted_once(deliver, tmp_path):
    assert (await deliver(1, 6000)).ok
    assert (await deliver(1, 6000)).ok
    assert len(os.listdir(tmp_path / "bob/new")) == 1


@pytest.mark.parametrize(
    "octets",
    [b"", b"garbage", b"10000S\nx y\n", b"99S\n1 1\n", b"10000S\n-5 -1\n", b"10000S\n" + b"1 1\n" * 2000, b"\xff\0"],
)
async def test_a_file_that_says_nothing_is_written_anew(deliver, tmp_path, octets):
    assert (await deliver(1, 3000)).ok
    (tmp_path / "bob/maildirsize").write_bytes(octets)
    assert (await deliver(2, 3000)).ok
    box = os.open(tmp_path / "bob", os.O_RDONLY)
    noted = quota._noted(box, 10_000)
    os.close(box)
    assert noted is not None
    assert 6000 < noted[0] < 7000


async def test_other_folders_count_but_not_the_trash(deliver, tmp_path):
    assert (await deliver(1, 1000)).ok
    for folder in (".Sent", ".Trash"):
        (tmp_path / "bob" / folder / "cur").mkdir(parents=True)
        (tmp_path / "bob" / folder / "cur" / f"m{random.random()}").write_bytes(b"x" * 4000)
    (tmp_path / "bob/maildirsize").unlink()
    assert (await deliver(2, 3000)).ok
    assert not (await deliver(3, 3000)).ok


async def test_no_link_is_followed(deliver, tmp_path):
    assert (await deliver(1, 1000)).ok
    (tmp_path / "bob/maildirsize").unlink()
    (tmp_path / "other").write_bytes(b"10000S\n9999 1\n")
    (tmp_path / "bob/maildirsize").symlink_to(tmp_path / "other")
    assert (await deliver(2, 1000)).ok
    assert (tmp_path / "other").read_bytes() == b"10000S\n9999 1\n"
