"""State that is not what was written: the daemon starts and delivers the rest, or refuses with one clear line."""

import asyncio
import json
import os
import random
import shutil
import smtplib
import sqlite3
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_host import REPOSITORY, Host
from fault_ledger import Ledger
from fault_load import Load
from fault_sink import Sink

SIZES = (300, 300_000)


class House:
    """A stopped daemon with a small and a large mail of each of two kinds in its queue, and what becomes of them."""

    def __init__(self, root: Path, runner: asyncio.Runner) -> None:
        self.root = root
        self.runner = runner
        self.first: Host | None = None
        self.ledger = Ledger()
        self.ids: list[str] = []  # in the order of the mails
        self.before: tuple[str, ...] = ()  # a program that runs the daemon

    async def fill(self) -> None:
        rng = random.Random(1)
        async with Sink(self.ledger, rng, later=0.0) as sink:
            sink.hold = True
            host = self.first = await Host(self.root, self.ledger, sink.port).up()
            try:
                for size in (*SIZES, *SIZES):
                    mail, octets = self.ledger.new(("a@sink.test",), size)
                    await Load(host, rng).smtp(mail, octets)
                    assert mail.word == "yes", host.log
                _, output = await host.mtactl("queue", "list", "--json")
                self.ids = [json.loads(line)["queue_id"] for line in output.splitlines()]
                assert len(self.ids) == 4
            finally:
                await host.stop()

    def run(self, wait: Callable[[Host], object], *asked: str) -> tuple[bool, str, int]:
        """(whether it started, its log, how many of the mails arrived) once `wait` is true. `asked` of mtactl then."""
        return self.runner.run(self._run(wait, *asked))

    async def _run(self, wait: Callable[[Host], object], *asked: str) -> tuple[bool, str, int]:
        rng = random.Random(1)
        async with Sink(self.ledger, rng, later=0.0) as sink:
            host = Host(self.root, self.ledger, sink.port)
            host.logs = self.root / "log.2"
            host.adopt(self.first)
            try:
                await host.launch(self.before)
                started = await host.ready()
                for _ in range(400):
                    if not started or wait(host):
                        break
                    await asyncio.sleep(0.05)
                else:
                    raise AssertionError(f"it never came to that\n{host.log}")
                self.code, self.said = await host.mtactl(*asked) if asked else (0, "")
                await host.stop()
            finally:
                await host.end()
            return started, host.log, len(self.ledger.copies)

    @property
    def wal(self) -> Path:
        return self.root / "data" / "mta.db-wal"

    @property
    def database(self) -> Path:
        return self.root / "data" / "mta.db"


@pytest.fixture(scope="module")
def filled() -> Iterator[House]:
    with asyncio.Runner() as runner:
        house = House(Path(tempfile.mkdtemp(prefix="mtad-", dir="/tmp")) / "m", runner)
        try:
            runner.run(house.fill())
            yield house
        finally:
            runner.run(house.first.end())
            shutil.rmtree(house.root.parent, ignore_errors=True)


@pytest.fixture
def house(filled: House, short_dir: Path) -> House:
    """A copy of it."""
    shutil.copytree(filled.root, short_dir / "m", ignore=lambda _, names: [name for name in names if "sock" in name])
    copied = House(short_dir / "m", filled.runner)
    copied.ledger.mails = dict(filled.ledger.mails)
    copied.ids, copied.first = filled.ids, filled.first
    return copied


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, empty, zero, flip, remove])
def test_a_large_body(house: House, damage: Callable[[Path], None]) -> None:
    """The others go out; this one is held, and never sent changed."""
    bad = house.ids[1]
    damage(house.root / "data" / "queue" / bad)
    started, log, arrived = house.run(
        lambda host: len(house.ledger.copies) == 3 and " held: " in host.log,
        "queue",
        "list",
        "--state",
        "held",
        "--json",
    )
    assert started
    assert arrived == 3
    assert not house.ledger.verdict().corrupt
    assert "Traceback" not in log
    assert log.count(f"error: {bad}: held: ") == 1  # no loop
    (row,) = [json.loads(line) for line in house.said.splitlines()]
    assert row["queue_id"] == bad
    assert "damaged" in json.dumps(row)


def test_a_small_body(house: House) -> None:
    with sqlite3.connect(house.database) as database:
        database.execute(
            "UPDATE body SET data = CAST(replace(data, x'717569636b', x'736c6f7721') AS BLOB) WHERE data IS NOT NULL"
        )
    database.close()
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == 2 and host.log.count(" held: ") == 2)
    assert started
    assert arrived == 2
    assert not house.ledger.verdict().corrupt
    assert "Traceback" not in log


@pytest.mark.parametrize("damage", [truncate, zero])
def test_the_database(house: House, damage: Callable[[Path], None]) -> None:
    """One line, and not a byte is written over what is left of it; or it starts, and the check says what is wrong."""
    damage(house.database)
    before = house.database.read_bytes()
    started, log, _ = house.run(lambda host: True, "check")
    assert house.code == 1
    if not started:
        assert len(log.splitlines()) == 1, log
        assert log.startswith("mtad: cannot use ") or "is not a queue of mtad" in log
        assert house.database.read_bytes() == before
    assert "restore a backup" in house.said


def test_a_database_of_the_future(house: House) -> None:
    with sqlite3.connect(house.database) as database:
        database.execute("PRAGMA user_version = 9999")
    database.close()
    started, log, _ = house.run(lambda host: True)
    assert not started
    assert len(log.splitlines()) == 1
    assert "written by a newer mtad" in log


@pytest.mark.parametrize("junk", [b"", b"\0" * 4096, b"junk" * 1000])
def test_leftovers_beside_the_database(house: House, junk: bytes) -> None:
    """SQLite takes what is whole in the log; what never was there is not missed."""
    for name in ("mta.db-wal", "mta.db-shm", "mta.db-journal", ".lock"):
        (house.root / "data" / name).write_bytes(junk)
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == 4)
    assert started
    assert arrived == 4
    assert "Traceback" not in log


def test_what_is_beside_the_queue(house: House) -> None:
    """Keys, aliases and maildrop files that are no such thing are told of, and mail goes on."""
    data = house.root / "data"
    (data / "dkim" / "example.test").mkdir(mode=0o700, parents=True)
    (data / "dkim" / "example.test" / "s1.pem").write_bytes(b"\0" * 100)
    (data / "dkim" / "example.test" / "state.json").write_bytes(b"{")
    (house.root / "aliases").write_bytes(b"\xff\xfe: \0,,\nnobody")
    (data / "maildrop" / "1.2.3.mail").write_bytes(b"MAIL FROM:<a")
    (data / "queue" / "zzzzzzzzzzzz").write_bytes(b"nobody's")
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == 4 and "1.2.3.mail" in host.log, "check")
    assert started
    assert arrived == 4
    assert "Traceback" not in log
    assert house.code == 1
    for name in ("s1.pem", "state.json", "aliases", "1.2.3.mail"):
        assert name in house.said, house.said


@pytest.mark.parametrize("junk", [b"", b"\0\xff", b"hostname = ", b'hostname = "a.test"\nnonsense = 1\n'])
def test_the_configuration(house: House, junk: bytes) -> None:
    async def run() -> tuple[bool, str]:
        async with Sink(house.ledger, random.Random(1)) as sink:
            host = Host(house.root, house.ledger, sink.port)
            host.logs = house.root / "log.2"
            host.config.write_bytes(junk)
            host.adopt(house.first)
            try:
                await host.launch()
                return await host.ready(), host.log
            finally:
                await host.end()

    started, log = house.runner.run(run())
    assert not started
    assert "Traceback" not in log
    assert "mtad.toml" in log or "hostname" in log


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_what_belongs_to_somebody_else(house: House) -> None:
    os.chown(house.root / "data" / "queue" / house.ids[1], 65534, 65534)
    (house.root / "data" / "mta.db").chmod(0o644)
    started, _, arrived = house.run(lambda host: len(house.ledger.copies) == 4, "check")
    assert started
    assert arrived == 4
    assert "mta.db is open to others" in house.said


def check(house: House, *words: str) -> tuple[int, str]:
    """Of a stopped daemon."""
    return house.runner.run(Host(house.root, house.ledger, 9).mtactl("check", *words))


def test_a_check_of_what_is_well(house: House) -> None:
    code, output = check(house)
    assert code == 0, output
    assert "good: 4 messages of the queue, 2 of them in files" in output


def test_repair(house: House) -> None:
    """Held, moved aside, closed: and then all is well."""
    spool = house.root / "data" / "queue"
    flip(spool / house.ids[3])
    (spool / "3zzzzzzzzzzz").write_bytes(b"an orphan")
    (spool / house.ids[1]).chmod(0o644)
    code, output = check(house)
    assert code == 1, output
    for word in (f"error: message {house.ids[3]}", "3zzzzzzzzzzz belongs to no message", "is open to others"):
        assert word in output, output
    code, output = check(house, "--repair")
    assert code == 0, output
    assert (house.root / "data" / "lost+found" / "3zzzzzzzzzzz").read_bytes() == b"an orphan"
    assert (spool / house.ids[1]).stat().st_mode & 0o777 == 0o600
    assert (spool / house.ids[3]).exists()
    code, output = check(house)
    assert code == 0, output
    assert f"message {house.ids[3]} is held" in output


def test_an_index_of_the_database(house: House) -> None:
    """Mail waits, the check says the one command, and after that all of it goes out."""
    connection = sqlite3.connect(house.database)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'recipient_due'").fetchone()
    connection.close()
    with open(house.database, "r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(bytes(8192))
    started, log, arrived = house.run(lambda host: "the database is damaged" in host.log, "check", "--repair")
    assert started, log
    assert (house.code, arrived) == (1, 0)
    assert "fix: with mtad stopped, make them anew: mtactl check --repair" in house.said
    code, output = check(house, "--repair")
    assert code == 0, output
    assert "made anew; the database of before is " in output
    assert (house.root / "data" / "lost+found" / "mta.db").exists()
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == 4)
    assert (started, arrived) == (True, 4), log
    assert not house.ledger.verdict().corrupt


TEXTS = (
    "''",
    "'junk'",
    "'*'",
    "'@'",
    "char(27) || '[2J'",
    "CAST(x'61ff40622e74657374' AS TEXT)",
    "'{\"a\":1}'",
    "'[['",
)
NUMBERS = ("0", "-1", "1 << 62")
TIMES = ("0.0", "-1.0", "1e308", "9e999")


def junk(database: sqlite3.Connection, table: str) -> int:
    """Rows of a table that nobody would write, each of its columns in turn. How many."""
    columns = [(name, kind) for _, name, kind, *_ in database.execute(f"PRAGMA table_info({table})")]
    choices = {"TEXT": TEXTS, "INTEGER": NUMBERS, "REAL": TIMES, "BLOB": ("x''", "x'00ff'")}
    done = 0
    for number in range(8):
        values = [choices[kind][(number + turn) % len(choices[kind])] for turn, (_, kind) in enumerate(columns)]
        done += database.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join(values)})").rowcount
    return done


def test_rows_of_junk_beside_the_queue(house: House) -> None:
    """Accounts, blocks, rules, sites, policies, counts and the trail: what cannot be used is told of or left out."""
    with sqlite3.connect(house.database) as database:
        found = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        tables = [name for (name,) in found if name not in ("message", "recipient", "body", "attempt", "secret")]
        assert all(junk(database, table) for table in tables)
        database.execute("INSERT INTO user VALUES ('carol@example.test', '$scrypt$ln=15,r=8,p=3$c2', 1.0, '', '')")
    database.close()
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == 4, "check")
    assert started, log
    assert arrived == 4
    assert "Traceback" not in log, log
    assert "internal error" not in log, log
    assert house.code == 1
    assert "error: user carol@example.test: this scrypt hash is damaged" in house.said
    assert "warning: user carol@example.test: this scrypt hash is damaged" in log
    assert "Traceback" not in house.said


def pair(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "tls.pem", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "30", "-subj", "/CN=mail.example.test", "-addext", "subjectAltName=DNS:mail.example.test",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return cert, key


def flip_inside(path: Path) -> None:
    """A letter in the middle of what PEM encodes."""
    octets = bytearray(path.read_bytes())
    at = len(octets) // 2
    octets[at] = ord("A") if octets[at] != ord("A") else ord("B")
    path.write_bytes(octets)


def foreign(path: Path) -> None:
    """Of a key pair that is another one."""
    other = path.parent / "other"
    other.mkdir()
    path.write_bytes(dict(zip((".pem", ".key"), pair(other), strict=True))[path.suffix].read_bytes())


class Certified(Host):
    def write_config(self, sink_port: int, *, sink: str = "127.0.0.1") -> None:
        super().write_config(sink_port, sink=sink)
        cert, key = self.root / "tls.pem", self.root / "tls.key"
        if not cert.exists():
            pair(self.root)
        self.config.write_text(self.config.read_text() + f'[tls]\ncert = "{cert}"\nkey = "{key}"\n')


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl")
def test_certificates_and_keys(short_dir: Path) -> None:
    """While it works: the old ones stay, and it says so. At the start: one line, and 78."""
    asyncio.run(_certificates(short_dir / "m"))


async def _certificates(root: Path) -> None:
    root.mkdir()
    host = Certified(root, Ledger(), 9)
    good = {path: path.read_bytes() for path in (root / "tls.pem", root / "tls.key")}
    cases = [(path, damage) for path in good for damage in (truncate, empty, zero, flip_inside, remove, foreign)]
    try:
        await host.up()
        for path, damage in cases:
            shutil.rmtree(root / "other", ignore_errors=True)
            damage(path)
            for words in (("tls", "reload"), ("reload",)):
                before = len(host.log.splitlines())
                code, said = await host.mtactl(*words)
                told = host.log.splitlines()[before:]
                assert code == 78, (path, damage, words, code, said)
                assert "Traceback" not in said + host.log
                assert path.name in said, said
                assert any("refused" in line and path.name in line for line in told), told
                assert await served(host.port), "the old certificate"
            for kept, octets in good.items():
                kept.write_bytes(octets)
        assert (await host.mtactl("reload"))[0] == 0
        assert await served(host.port)
        await host.stop()
        for path, damage in cases:
            shutil.rmtree(root / "other", ignore_errors=True)
            damage(path)
            before = len(host.log.splitlines())
            await host.launch()
            assert await host.ended() == 78
            (line,) = host.log.splitlines()[before:]
            assert path.name in line
            for kept, octets in good.items():
                kept.write_bytes(octets)
    finally:
        await host.end()


async def served(port: int) -> bool:
    """Whether STARTTLS works."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    def talk() -> bool:
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            return client.starttls(context=context)[0] == 220

    return await asyncio.to_thread(talk)


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def may_be_nobody() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    tried = [*NOBODY, sys.executable, "-c", "import mtad.app"]
    return subprocess.run(tried, cwd=REPOSITORY, capture_output=True).returncode == 0


@pytest.mark.skipif(not may_be_nobody(), reason="only root becomes another user, who must be able to run this Python")
@pytest.mark.parametrize("what", ["data/mta.db", "body", "data/dkim/example.test/s1.pem", "mtad.toml", "data/queue"])
def test_files_of_another_user(house: House, what: str) -> None:
    """One line that names the file; or that mail waits, and the others go out."""
    root = house.root
    (root / "data" / "dkim" / "example.test").mkdir(mode=0o700, parents=True)
    (root / "data" / "dkim" / "example.test" / "s1.pem").write_bytes(b"x")
    path = root / (f"data/queue/{house.ids[1]}" if what == "body" else what)
    for one in (root.parent, root, *root.rglob("*")):
        os.chown(one, 65534, 65534, follow_symlinks=False)
    os.chown(path, 0, 0)
    path.chmod(0o600)
    house.before = NOBODY
    waits = 3 if what == "body" else 4
    started, log, arrived = house.run(lambda host: len(house.ledger.copies) == waits and path.name in host.log, "check")
    assert "Traceback" not in log + house.said
    if what in ("body", "data/dkim/example.test/s1.pem"):
        assert started
        assert arrived == waits
        assert f"{path.name}" in log
    else:
        assert not started
        (line,) = [line for line in log.splitlines() if "warning" not in line]
        assert str(path) in line
        assert "Permission denied" in line
    if started:
        assert house.code == 1, house.said
        assert f"error: {path} belongs to user 0" in house.said
        assert f"chown 65534 {path}" in house.said
