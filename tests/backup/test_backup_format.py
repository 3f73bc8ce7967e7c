"""The file of a backup, octet by octet: what was changed, cut off or is of somebody else is told, never a traceback."""

import gzip
import io
import os
import shutil
import sqlite3
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest

from mtad.backup import sealed
from mtad.backup.archive import BackupError, Member, Packer
from mtad.backup.judge import judge, peek
from mtad.backup.sealed import CHUNK_BYTES, Opened, Sealer, SealError, Secret, WrongKeyError
from mtad.config import Paths
from mtad.queue.database import migrations, open_writable

KEY = Secret(b"k" * 32, file=True)


def seal(octets: bytes, secret: Secret = KEY) -> bytes:
    out = io.BytesIO()
    sealer = Sealer(out, secret)
    sealer.write(octets)
    sealer.finish()
    return out.getvalue()


def unseal(octets: bytes, secret: Secret | None = KEY) -> bytes:
    return Opened(io.BytesIO(octets), secret).read()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_what_is_sealed_opens(size: int) -> None:
    octets = os.urandom(size)
    assert unseal(seal(octets)) == octets


def test_every_single_bit_counts() -> None:
    whole = seal(b"what nobody may read or change")
    for at in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(SealError):
            unseal(bytes(changed))


def test_no_chunk_may_be_missing_moved_or_added() -> None:
    whole = seal(os.urandom(3 * CHUNK_BYTES))
    size = CHUNK_BYTES + sealed.TAG_BYTES
    head, one, two, three = whole[:64], whole[64 : 64 + size], whole[64 + size : 64 + 2 * size], whole[64 + 2 * size :]
    assert unseal(head + one + two + three)
    for wrong in (head, head + one, head + one + two, head + two + one + three, head + one + three, whole + three,
                  whole + b"x", whole[:-1], whole[:40], b""):  # fmt: skip
        with pytest.raises(SealError):
            unseal(wrong)


def test_another_key_is_told_apart_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "_LOG2_N", 14)  # the cost is not what is looked at
    whole = seal(b"x" * 100)
    for other in (None, Secret(b"j" * 32, file=True), Secret(b"k" * 32, file=False)):
        with pytest.raises(WrongKeyError):
            unseal(whole, other)
    passphrase = Secret(b"correct horse", file=False)
    assert unseal(seal(b"y", passphrase), passphrase) == b"y"
    with pytest.raises(WrongKeyError):
        unseal(seal(b"y", passphrase), Secret(b"wrong horse", file=False))


ABOUT = (
    '{"format": 1, "hostname": "m.test", "created_at": 1, "mtad": "1", "schema": %d, "config": "/x/mtad.toml",'
    ' "counts": {"messages": 0}}'
)


def pack(tmp_path: Path, secret: Secret | None = None, about: str = "", **more: bytes) -> bytes:
    (tmp_path / "data").mkdir(exist_ok=True)
    paths = Paths(f"{tmp_path}/mtad.toml", f"{tmp_path}/data", f"{tmp_path}/run")
    connection = open_writable(paths)
    connection.close()
    out = io.BytesIO()
    packer = Packer(out, secret)
    members = {
        "backup.json": (about or ABOUT % max(migrations())).encode(), "mta.db": Path(paths.database).read_bytes(),
        "mtad.toml": b'hostname = "m.test"\n', **{name.replace("__", "/"): octets for name, octets in more.items()},
    }  # fmt: skip
    for name, octets in members.items():
        packer.add(Member(name, len(octets), 0o600, 1), io.BytesIO(octets))
    packer.finish(2.0)
    return out.getvalue()


def look(octets: bytes, tmp_path: Path, secret: Secret | None = None) -> list[str]:
    """The problems of a backup."""
    folder = tmp_path / "look"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return judge(io.BytesIO(octets), secret, str(folder), keep_bodies=True).problems


@pytest.mark.parametrize("secret", [None, KEY])
def test_a_good_one_is_good(tmp_path: Path, secret: Secret | None) -> None:
    whole = pack(tmp_path, secret)
    assert look(whole, tmp_path, secret) == []
    assert peek(io.BytesIO(whole), secret)["hostname"] == "m.test"


def says_the_same(one: bytes, other: bytes) -> bool:
    try:
        return gzip.decompress(one) == gzip.decompress(other)
    except (OSError, EOFError, zlib.error):
        return False


@pytest.mark.parametrize("secret", [None, KEY])
def test_a_changed_octet_anywhere(tmp_path: Path, secret: Secret | None) -> None:
    whole = pack(tmp_path, secret)
    step = max(len(whole) // 150, 1)
    for at in range(0, len(whole), step):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        if secret is None and says_the_same(bytes(changed), whole):
            continue  # the time in the head of gzip, the bits after the end of its last octet
        with pytest.raises(BackupError):
            look(bytes(changed), tmp_path, secret)


@pytest.mark.parametrize("secret", [None, KEY])
def test_an_unfinished_one(tmp_path: Path, secret: Secret | None) -> None:
    whole = pack(tmp_path, secret)
    for end in (*range(0, len(whole), max(len(whole) // 50, 1)), len(whole) - 1):
        with pytest.raises(BackupError):
            look(whole[:end], tmp_path, secret)


def test_what_does_not_belong_there(tmp_path: Path) -> None:
    for name in ("..__etc__passwd", "files__..__..__etc__passwd", "queue__x", "mta.db-wal", "dkim__x"):
        with pytest.raises(BackupError, match="does not belong"):
            look(pack(tmp_path, None, "", **{name: b"x"}), tmp_path)
    assert look(pack(tmp_path, None, "", queue__0123456789ab=b"x"), tmp_path) == [
        "the body of 0123456789ab belongs to no message"
    ]
    damaged = pack(tmp_path, None, "", **{"dkim__d.test__state.json": b"{"})
    assert any("state.json" in one for one in look(damaged, tmp_path))


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (ABOUT % 9999, "newer mtad"),
        ((ABOUT % 1).replace('"messages": 0', '"messages": 7'), "says it has 7 messages"),
        ((ABOUT % 1).replace('"format": 1', '"format": 2'), "another version"),
        ("[]", "another version"),
        ("{", "damaged"),
        ('{"format": 1}', "damaged"),
    ],
)
def test_what_it_says_of_itself(tmp_path: Path, about: str, said: str) -> None:
    with pytest.raises(BackupError, match=said):
        look(pack(tmp_path, None, about), tmp_path)


def with_database(octets: bytes) -> bytes:
    """A backup with these octets for its database, and right digests."""
    out = io.BytesIO()
    packer = Packer(out, None)
    about = (ABOUT % 1).encode()
    packer.add(Member("backup.json", len(about), 0o600, 1), io.BytesIO(about))
    packer.add(Member("mta.db", len(octets), 0o600, 1), io.BytesIO(octets))
    packer.finish(2.0)
    return out.getvalue()


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    for octets in (b"", b"x", b"PK\3\4" + bytes(100), b"\x1f\x8b", b"MTADSEAL" + bytes(100)):
        with pytest.raises(BackupError):
            look(octets, tmp_path, KEY if octets.startswith(b"MTAD") else None)
    with pytest.raises(BackupError, match="not encrypted"):
        look(pack(tmp_path), tmp_path, KEY)
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE x (y)")
    connection.commit()
    connection.close()
    with pytest.raises(BackupError, match="not one of mtad"):
        look(with_database(other.read_bytes()), tmp_path)


def tar_of(info: tarfile.TarInfo, octets: bytes) -> bytes:
    return gzip.compress(info.tobuf() + octets + bytes(-len(octets) % 512) + bytes(1024), 1)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.REGTYPE])
def test_what_says_it_is_large_is_not_taken_into_memory(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("backup.json")
    info.type, info.size = kind, 1 << 26
    whole = tar_of(info, bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(BackupError, match="too l"):
            look(whole, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_holes_of_a_sparse_file_are_not_read(tmp_path: Path) -> None:
    """A few octets that say they are 8 GiB of zeros."""
    whole = gzip.decompress(pack(tmp_path))
    info = tarfile.TarInfo("queue/0123456789ab")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:410], head[483:495] = (b"%011o\0" % 0) * 2, b"%011o\0" % ((1 << 33) - 1)
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + 8 * 32 + sum(head[156:]))
    at = 1024  # behind backup.json
    with pytest.raises(BackupError, match="does not belong"):
        look(gzip.compress(whole[:at] + head + whole[at:]), tmp_path)


def test_a_database_whose_rows_are_others(tmp_path: Path) -> None:
    """The digests of the archive are right, its tables have the names of ours, and nothing else."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA application_id = 0x6D746164")
    connection.execute("CREATE TABLE message (id, digest, size_bytes, finished_at)")
    connection.execute("CREATE TABLE recipient (message, n, state)")
    connection.execute("CREATE TABLE user (name)")
    connection.execute("CREATE TABLE body (id, head, data)")
    connection.execute("INSERT INTO message VALUES (-1, 'x', 'y', NULL)")
    connection.execute("INSERT INTO body VALUES (-1, 5, 'text')")
    connection.commit()
    connection.close()
    with pytest.raises(BackupError, match="its database is damaged"):
        look(with_database(path.read_bytes()), tmp_path)
