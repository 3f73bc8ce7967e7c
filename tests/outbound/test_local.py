import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from mtad.mail.envelope import Content, Message, Peer, Recipient
from mtad.outbound import local
from mtad.outbound.connection import CHUNK
from mtad.outbound.local import Mailboxes

ID = "358zn0000001"
MESSAGE = Message(ID, "a@x.test", 10, 1_700_000_000.5, 1_800_000_000.0, Peer("smtp"))
HEAD = b"Return-Path: <forged@x.test>\r\nSubject: hi\r\n\r\n"
TOP = b"Return-Path: <a@x.test>\nDelivered-To: al@own.test\nSubject: hi\n\n"


def recipient(address="al@own.test", n=1):
    return Recipient(ID, n, address, address, "own.test")


@pytest.fixture
def mailboxes():
    with ThreadPoolExecutor(2) as executor:
        yield Mailboxes(executor, "me.test")


async def test_delivered(mailboxes, tmp_path):
    content = Content(HEAD, b"one\r\n\r\ntwo\r\n")
    reply = await mailboxes.deliver(f"{tmp_path}/%d/%u", recipient(), MESSAGE, content)
    assert reply.ok
    box = tmp_path / "own.test" / "al"
    assert sorted(os.listdir(box)) == ["cur", "new", "tmp"]
    assert os.listdir(box / "new") == [f"1700000000.{ID}.1.me.test"]
    assert (box / "new" / f"1700000000.{ID}.1.me.test").read_bytes() == TOP + b"one\n\ntwo\n"
    assert os.listdir(box / "tmp") == []


async def test_private(mailboxes, tmp_path):
    before = os.umask(0)
    try:
        await mailboxes.deliver(f"{tmp_path}/m/%u", recipient(), MESSAGE, Content(HEAD, b""))
    finally:
        os.umask(before)
    for path in (tmp_path / "m", tmp_path / "m" / "al", tmp_path / "m" / "al" / "new"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    [mail] = (tmp_path / "m" / "al" / "new").iterdir()
    assert stat.S_IMODE(mail.stat().st_mode) == 0o600


async def test_delivered_twice_is_there_once(mailboxes, tmp_path):
    for _ in range(2):
        assert (await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, Content(HEAD, b"x\r\n"))).ok
    assert len(os.listdir(tmp_path / "al" / "new")) == 1


async def test_two_recipients_in_one_mailbox(mailboxes, tmp_path):
    for n in (1, 2):
        assert (await mailboxes.deliver(f"{tmp_path}/all", recipient(n=n), MESSAGE, Content(HEAD, b""))).ok
    assert len(os.listdir(tmp_path / "all" / "new")) == 2


async def test_what_a_crash_left_in_tmp_is_written_anew(mailboxes, tmp_path):
    (tmp_path / "al" / "tmp").mkdir(parents=True)
    (tmp_path / "al" / "tmp" / f"1700000000.{ID}.1.me.test").write_bytes(
        b"half of a mail, and longer than this one " * 99
    )
    assert (await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, Content(HEAD, b"x\r\n"))).ok
    [mail] = (tmp_path / "al" / "new").iterdir()
    assert mail.read_bytes() == TOP + b"x\n"


@pytest.mark.parametrize("before", range(CHUNK - 3, CHUNK + 2))
@pytest.mark.parametrize("end", [b"\r\n", b"\r\n\r\nx\r\n", b"\rx\r\n", b"\r\r\n", b"\r", b"\n", b""])
def test_line_ends_across_blocks(tmp_path, before, end):
    body = b"a" * before + end
    (tmp_path / "body").write_bytes(body)
    lines = b"".join(local._lines(b"", Content(b"\r\n", str(tmp_path / "body")), False))
    assert lines == b"\n" + body.replace(b"\r\n", b"\n")


async def test_a_large_body_comes_from_its_file(mailboxes, tmp_path):
    body = b"".join(b"%d\r\n" % n for n in range(50_000))
    (tmp_path / "body").write_bytes(body)
    await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, Content(HEAD, str(tmp_path / "body")))
    [mail] = (tmp_path / "al" / "new").iterdir()
    assert mail.read_bytes() == TOP + body.replace(b"\r\n", b"\n")


async def test_links_are_not_followed(mailboxes, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "al").symlink_to(tmp_path / "elsewhere")
    reply = await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, Content(HEAD, b""))
    assert (reply.code, reply.status) == (451, "4.2.0")
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "bo").mkdir()
    (tmp_path / "bo" / "new").symlink_to(tmp_path / "elsewhere")
    reply = await mailboxes.deliver(f"{tmp_path}/%u", recipient("bo@own.test"), MESSAGE, Content(HEAD, b""))
    assert reply.status == "4.2.0"
    assert os.listdir(tmp_path / "elsewhere") == []


async def test_a_file_where_the_mailbox_should_be(mailboxes, tmp_path):
    (tmp_path / "al").write_bytes(b"")
    reply = await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, Content(HEAD, b""))
    assert (reply.code, reply.status) == (451, "4.2.0")
    assert str(tmp_path) in reply.cause
    assert str(tmp_path) not in reply.text


async def test_no_mailbox_of_that_name_can_be(mailboxes, tmp_path):
    reply = await mailboxes.deliver(f"{tmp_path}/%u", recipient("x" * 300 + "@own.test"), MESSAGE, Content(HEAD, b""))
    assert (reply.code, reply.status) == (550, "5.1.1")


async def test_a_body_that_is_gone(mailboxes, tmp_path):
    content = Content(HEAD, str(tmp_path / "none"))
    reply = await mailboxes.deliver(f"{tmp_path}/%u", recipient(), MESSAGE, content)
    assert (reply.code, reply.status) == (451, "4.3.0")
    assert os.listdir(tmp_path / "al" / "new") == []
    assert os.listdir(tmp_path / "al" / "tmp") == []


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOSPC, "4.3.1"), (errno.EDQUOT, "4.2.2"), (errno.EACCES, "4.2.0"), (errno.EIO, "4.3.0")],
)
def test_errors_are_temporary(number, status):
    reply = local._why(OSError(number, "x"))
    assert reply.temporary
    assert reply.status == status
