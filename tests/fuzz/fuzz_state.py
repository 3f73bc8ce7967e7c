"""The parsers of what another life, another host or a backup left: archives, transfers, the state in the database."""

import hashlib
import io
import json
import os
import random
import shutil
import sqlite3
import tempfile
from base64 import b64encode
from collections.abc import Sequence

from fuzz_mail import whole
from fuzz_parser import Parser
from fuzz_peers import finished

from mtad.backup.archive import BackupError, Member, Packer
from mtad.backup.journal import mark
from mtad.backup.judge import judge
from mtad.backup.sealed import Opened, Sealer, SealError, Secret
from mtad.config import Paths
from mtad.control.admin import Failed
from mtad.control.handlers import transfers as taking
from mtad.dkim import ledger
from mtad.dkim.rotation import KeyState, Ring, Stage
from mtad.mail import ident
from mtad.outbound import site as one_site
from mtad.queue import rows
from mtad.queue.audit import Entry
from mtad.queue.database import migrations, open_writable
from mtad.queue.operate import Operate
from mtad.queue.sitestore import StoredSite
from mtad.queue.transfers import Transfers

NOW = 1_800_000_000.0
_SHM = "/dev/shm" if os.path.isdir("/dev/shm") else None
_ROOT = tempfile.TemporaryDirectory(prefix="fuzz-", dir=_SHM)  # gone with the process
_HOME = Paths(f"{_ROOT.name}/mtad.toml", f"{_ROOT.name}/data", f"{_ROOT.name}/run")
KEY = Secret(b"k" * 32, file=True)


def _database() -> tuple[sqlite3.Connection, bytes]:
    """An empty queue, and its octets."""
    os.makedirs(_HOME.data)
    connection = open_writable(_HOME)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA page_size")
    with open(_HOME.database, "rb") as file:
        return connection, file.read()


CONNECTION, DATABASE = _database()
TRANSFERS = Transfers(CONNECTION, Operate(CONNECTION))


def private_file(name: str, octets: bytes) -> str:
    """A file that is gone with the process."""
    path = f"{_ROOT.name}/{name}"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(octets)
    return path


# --- backups


def _judged(octets: bytes) -> object:
    """Whatever it is called, nothing of it lands beside its folder."""
    folder = tempfile.mkdtemp(dir=_ROOT.name)
    try:
        found = judge(io.BytesIO(octets), None, f"{folder}/in", keep_bodies=True)
        assert os.listdir(folder) == ["in"]
        assert all(problem.isprintable() for problem in found.problems)
        return found.files, found.size_bytes, found.counts, found.problems
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _stored(octets: bytes) -> bytes:
    """Gzipped, without the work of compressing."""
    import zlib

    deflate = zlib.compressobj(0, zlib.DEFLATED, 31)
    return deflate.compress(octets) + deflate.flush()


def _packed(database: bytes, **more: bytes) -> bytes:
    about = {
        "format": 1, "hostname": "m.test", "created_at": 1, "mtad": "1", "schema": max(migrations()),
        "config": "/x/mtad.toml", "counts": {"messages": 0},
    }  # fmt: skip
    out = io.BytesIO()
    packer = Packer(out, None)
    members = {"backup.json": json.dumps(about).encode(), "mta.db": database, "mtad.toml": b"x = 1\n", **more}
    for name, content in members.items():
        packer.add(Member(name, len(content), 0o600, 1), io.BytesIO(content))
    packer.finish(2.0)
    return out.getvalue()


def _tar() -> bytes:
    import gzip

    return gzip.decompress(_packed(DATABASE))


def _unsealed(octets: bytes) -> object:
    return Opened(io.BytesIO(octets), KEY).read()


def _sealed(*parts: bytes) -> bytes:
    out = io.BytesIO()
    sealer = Sealer(out, KEY)
    for part in parts:
        sealer.write(part)
    sealer.finish()
    return out.getvalue()


def _journal(octets: bytes) -> object:
    """A log in place of a database: what it says was delivered."""
    path = private_file("journal", octets)
    CONNECTION.execute("BEGIN")
    try:
        return mark(CONNECTION, path, NOW)
    finally:
        CONNECTION.execute("ROLLBACK")


# --- transfers

TRANSFER = "0123456789ab"


def _lines(*, digest: bool = True) -> list[bytes]:
    head, body = b"Subject: x\r\n\r\n", b"hello\r\n"
    number = (1 << 50) + 7
    message = {
        "id": number, "sender": "a@b.test", "size_bytes": len(head + body), "accepted_at": NOW, "expires_at": NOW + 9e4,
        "source": "smtp", "ip": "192.0.2.1", "port": 25, "helo": "c.test", "esmtp": 1, "tls": "", "user": "", "uid": -1,
        "body": "", "smtputf8": 0, "ret": "", "envid": "", "requiretls": 0, "header_id": "", "subject": "x",
        "digest": hashlib.sha256(body + head).hexdigest() if digest else "", "finished_at": None,
    }  # fmt: skip
    recipient = {
        "message": number, "n": 1, "address": "u@r.test", "original": "u@r.test", "domain": "r.test", "state": 0,
        "tries": 1, "next_at": NOW, "notify": "", "orcpt": "", "warned_at": 0.0, "last_code": 451,
        "last_status": "4.7.1", "last_text": "later", "last_host": "mx", "last_stage": "rcpt", "last_cause": "",
        "priority": 0, "error": "",
    }  # fmt: skip
    attempt = {
        "id": None, "message": number, "n": 1, "started_at": NOW, "took_s": 0.1, "code": 451, "status": "4.7.1",
        "text": "later", "host": "mx", "stage": "rcpt", "cause": "", "relay": "mx", "tls": "", "error": "",
    }  # fmt: skip
    given = (
        {"mtad_transfer": 1, "id": TRANSFER, "host": "old.test", "word": hashlib.sha256(b"word").hexdigest(),
         "messages": 1, "recipients": 1},
        {"message": message, "recipients": [recipient], "attempts": [attempt], "head": b64encode(head).decode(),
         "file": not digest},
        {"octets": b64encode(body).decode()},
    )  # fmt: skip
    return [json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in given]


def _ended(lines: bytes) -> bytes:
    """With the last line that belongs to them, as only who sends them can write it."""
    end = {"end": TRANSFER, "sha256": hashlib.sha256(lines).hexdigest()}
    return lines + json.dumps(end).encode() + b"\n"


def _taken(chunks: Sequence[bytes]) -> object:
    """As the daemon takes a transfer in that came in pieces, to the end: then the queue can be read."""
    path = f"{_HOME.spool}/.transfer-{TRANSFER}"
    for number, chunk in enumerate(chunks or [b""]):
        taking._append(path, chunk, number == 0)
    return finished(taking._do(_taken_in(path)))


async def _taken_in(path: str) -> object:
    entry = Entry(0, "root", "queue.import")
    transfer, numbers = taking._judged(path, TRANSFER)
    CONNECTION.execute("BEGIN")
    try:
        TRANSFERS.expect((transfer, numbers))
        for packed in taking._messages(path, _HOME.spool):
            TRANSFERS.receive((TRANSFER, [packed]))
        TRANSFERS.received((TRANSFER, NOW, entry))
        TRANSFERS.activate((f"{TRANSFER}-word", NOW, entry))
        for row in CONNECTION.execute(f"SELECT {rows.MESSAGE} FROM message m").fetchall():
            message = rows.message_of(row)
            for text in (message.sender, message.envid, message.peer.helo, message.peer.user):
                assert text.isprintable()
            int(message.accepted_at), int(message.expires_at)
        for row in CONNECTION.execute(f"SELECT r.message, {rows.RECIPIENT} FROM recipient r").fetchall():
            one = rows.recipient_of(ident.from_int(row[0]), row[1:], leased=False)
            assert one.address.isprintable()
            int(one.next_at), int(one.warned_at)
        return numbers
    finally:
        CONNECTION.execute("ROLLBACK")
        for name in os.listdir(_HOME.spool):
            if name != os.path.basename(path):
                os.unlink(f"{_HOME.spool}/{name}")


# --- what stands in the database and beside the keys


def _ledger(octets: bytes) -> object:
    folder = f"{_ROOT.name}/dkim"
    os.makedirs(f"{folder}/d.test", exist_ok=True)
    with open(f"{folder}/d.test/{ledger.NAME}", "wb") as file:
        file.write(octets)
    ring = ledger.read(folder, "d.test")
    assert ring is not None
    assert ledger._ring("d.test", json.loads(json.dumps(ledger._plain(ring)))) == ring
    return ring


def _site(octets: bytes) -> object:
    """What cannot be read is forgotten; what can be is fit to go on with."""
    site = one_site.restored(StoredSite("mx.test", octets.decode("utf-8", "replace")), NOW)
    if site is None:
        return None
    assert all(isinstance(name, str) for name in site.names)
    again = one_site.stored(site)
    if again:
        assert one_site.stored(one_site.restored(StoredSite("mx.test", again), NOW)) == again
    return again


RING = Ring(
    "d.test", (KeyState("s1", "ed25519", Stage.ACTIVE,
                        NOW, NOW, "v=DKIM1; p=", ("s0",), 1.0, 0.0),), 86400.0, NOW,
)  # fmt: skip
SITE = json.dumps(
    {"hosts": ["mx.test"], "domains": ["a.test"], "breaker": [NOW - 9, NOW + 9, 1, False, 3, "it is down"],
     "warmup": [20000, 5, 1]}
).encode()  # fmt: skip
RNG = random.Random(7)
NOISE = RNG.randbytes(70_000)
LOG = (
    b"Nov 25 04:00:00 h mtad[1]: 0123456789ab: to=<u@r.test>, relay=mx, status=sent (250 ok)\n"
    b"0123456789ab: to=<v@r.test>, relay=mx, status=deferred\n"
)
WHOLE = b"".join(_lines())

PARSERS = (
    Parser(
        "backup", _judged, (BackupError,), (_packed(DATABASE), _packed(DATABASE[:8192])), ((b"\x1f\x8b\x08\0", b""),)
    ),
    Parser(
        "backup-archive",
        lambda octets: _judged(_stored(octets)),
        (BackupError,),
        (_tar(),),
        ((b"", b""), (_tar()[:512], b"")),
    ),
    Parser(
        "backup-database",
        lambda octets: _judged(_packed(octets)),
        (BackupError,),
        (DATABASE,),
        ((DATABASE[:100], b""),),
    ),
    Parser("sealed", _unsealed, (SealError,), (_sealed(b"x"), _sealed(NOISE)), ((_sealed(b"")[:64], b""), (b"", b""))),
    Parser("journal", _journal, (BackupError,), (LOG,), ((b"", b""), (LOG[:60], b", status=sent \n"))),
    Parser(
        "transfer",
        whole(_taken),
        (Failed,),
        (_ended(WHOLE),),
        ((_lines()[0], b""), (b'{"mtad_transfer":', b"}\n")),
        pieces=_taken,
    ),
    Parser(
        "transfer-of-a-peer",
        lambda octets: _taken([_ended(octets)]),
        (Failed,),
        (WHOLE, b"".join(_lines(digest=False))),
        ((_lines()[0], b""), (_lines()[0] + b'{"message":{"id":1,"digest":"', b'"}}\n')),
    ),
    Parser(
        "dkim-state",
        _ledger,
        (ledger.LedgerError,),
        (json.dumps(ledger._plain(RING)).encode(),),
        ((b"", b""), (b'{"version":1,"keys":[', b"]}"), (b'{"version":1,"keys":[],"rotated_at":', b"}")),
    ),
    Parser("site-state", _site, (), (SITE,), ((b"", b""), (b'{"breaker":[', b"]}"))),
)
