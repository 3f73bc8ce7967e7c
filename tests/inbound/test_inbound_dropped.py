"""The files of the maildrop, as those see them who only look."""

import os
import time
from pathlib import Path

from mtad.inbound import dropped

NOW = time.time()
ENVELOPE = b'MAIL FROM:<a@x.test> SIZE=9\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<"c>"@y.test> NOTIFY=NEVER\r\nDATA\r\n'


def look(folder: Path, uid: int | None = None) -> list[dropped.Dropped]:
    return dropped.look(str(folder), dropped.names(str(folder)) or [], uid, NOW)


def test_who_to_whom_how_large_and_of_whom(tmp_path: Path) -> None:
    (tmp_path / "100.1.a.mail").write_bytes(ENVELOPE + b"RCPT TO:<no@z.test>\r\n.\r\n")
    (tmp_path / ".101.1.a.tmp").write_bytes(ENVELOPE)
    (tmp_path / "bad").mkdir()
    [one] = look(tmp_path)
    assert (one.uid, one.sender, one.recipients) == (os.getuid(), "a@x.test", ("b@y.test", '"c>"@y.test'))
    assert one.size_bytes == (tmp_path / "100.1.a.mail").stat().st_size
    assert look(tmp_path)[0].id == one.id
    assert look(tmp_path, os.getuid()) == [one]
    assert look(tmp_path, os.getuid() + 1) == []


def test_what_a_file_says_is_made_safe_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "1.mail").write_bytes(
        b"MAIL FROM:<\x1b[2J\xff\xe2\x80\xae@x.test>\r\nRCPT TO:<" + b"r" * 5000 + b">\r\n"
    )
    (tmp_path / "2.mail").write_bytes(b"")
    (tmp_path / "3.mail").write_bytes(b"\0" * (1 << 20))
    first, *others = look(tmp_path)
    assert first.sender is not None
    assert first.sender.isprintable()
    assert len(first.recipients[0]) <= dropped.ADDRESS_MAX
    assert [(one.sender, one.recipients) for one in others] == [(None, ())] * 2


def test_what_is_no_plain_file_of_one_user_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(ENVELOPE)
    (tmp_path / "1.mail").symlink_to(secret)
    os.link(secret, tmp_path / "2.mail")
    os.mkfifo(tmp_path / "3.mail")
    (tmp_path / "4.mail").mkdir()
    (tmp_path / os.fsdecode(b"5\xff.mail")).write_bytes(ENVELOPE)
    assert look(tmp_path) == []


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert dropped.names(str(tmp_path / "none")) == []
    assert dropped.names(str(Path(__file__))) is None
    assert dropped.oldest(str(tmp_path), ["gone.mail"]) == 0.0


def test_a_time_that_no_clock_shows_is_not_shown(tmp_path: Path) -> None:
    for name, at in (("1.mail", -5000), ("2.mail", 1 << 33)):
        (tmp_path / name).write_bytes(ENVELOPE)
        os.utime(tmp_path / name, (at, at))
    assert [one.at for one in look(tmp_path)] == [0.0, NOW]
