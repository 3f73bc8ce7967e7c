"""Large bodies as files."""

import os
from pathlib import Path

import pytest
from queue_mails import message_id

from mtad.queue import files

ID = message_id(1)


def test_a_body_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    writer = files.BodyWriter(str(tmp_path), ID)
    writer.write(b"one")
    writer.write(b"two" * 100_000)
    assert not (tmp_path / ID).exists()
    assert writer.finish() == str(tmp_path / ID)
    assert (tmp_path / ID).read_bytes() == b"one" + b"two" * 100_000
    assert writer.size_bytes == 300_003
    assert (tmp_path / ID).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [ID]


def test_discard_leaves_nothing(tmp_path: Path) -> None:
    writer = files.BodyWriter(str(tmp_path), ID)
    writer.write(b"x")
    writer.discard()
    assert os.listdir(tmp_path) == []


def test_a_failure_at_the_end_leaves_nothing(tmp_path: Path) -> None:
    writer = files.BodyWriter(str(tmp_path), ID)
    (tmp_path / ID).mkdir()  # the rename cannot be done
    with pytest.raises(OSError):
        writer.finish()
    assert os.listdir(tmp_path) == [ID]


def test_what_lies_there_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / f"{ID}.new").symlink_to(target)
    writer = files.BodyWriter(str(tmp_path), ID)
    writer.write(b"ours")
    writer.finish()
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / ID).is_symlink()


@pytest.mark.parametrize("name", ["", "../../etc/x", "abc", "a" * 13, "/" * 12])
def test_only_an_id_becomes_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError):
        files.BodyWriter(str(tmp_path), name)


def test_old_files(tmp_path: Path) -> None:
    for name, age in ((ID, 10), (f"{message_id(2)}.new", 10), (message_id(3), 0), ("README", 10)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / message_id(4)).mkdir()
    os.utime(tmp_path / message_id(4), (0, 0))
    assert files.old_files(str(tmp_path), 1000) == ([ID], [f"{message_id(2)}.new"])


def test_delete_forgives_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / ID).write_bytes(b"")
    files.delete(str(tmp_path), [message_id(2), ID])
    assert os.listdir(tmp_path) == []


def test_what_a_crash_left_unfinished_is_replaced(tmp_path: Path) -> None:
    """A mail from the maildrop comes again under the same id."""
    files.BodyWriter(str(tmp_path), ID).write(b"half of it, and then the machine died")
    writer = files.BodyWriter(str(tmp_path), ID)
    writer.write(b"all of it")
    assert Path(writer.finish()).read_bytes() == b"all of it"
    assert os.listdir(tmp_path) == [ID]
