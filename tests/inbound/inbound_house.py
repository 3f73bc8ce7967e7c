"""A house for the way in: the real store, directory, users and keys under one temporary directory."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mtad.accounts.aliases import Aliases
from mtad.accounts.blocks import Blocks
from mtad.accounts.directory import Directory
from mtad.accounts.passwords import Cost
from mtad.accounts.users import Users
from mtad.config import Access, Address, Config, Limits, Listen, Paths, Rate, Smtp, Tls
from mtad.dkim.keys import Keys
from mtad.events import Events
from mtad.inbound.accept import Acceptor
from mtad.inbound.conversation import Conversation
from mtad.inbound.guard import Guard
from mtad.inbound.host import Host
from mtad.inbound.limits import COUNTED
from mtad.inbound.server import Inbound
from mtad.mail.envelope import Content, Peer
from mtad.mail.ident import Ids
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import Row, Selector
from mtad.tls.contexts import server_context

PASSWORD = "correct horse battery"
STATES = ("ready", "active", "deferred", "held", "done", "failed", "trashed")
STRANGER = Peer("smtp", ip="192.0.2.9", port=4242)
ALIASES = {"team": ("alice", "bob@example.test", "carol@far.test"), "both": ("alice", "alice@example.test")}


def make_config(root: Path, **changes: Any) -> Config:
    for name in ("data/queue", "data/dkim", "data/maildrop", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
    loopback = (Address("127.0.0.1", 0),)
    config = Config(
        hostname="mx.example.test",
        domains=("example.test", "other.test"),
        paths=Paths(str(root / "mtad.toml"), str(root / "data"), str(root / "run")),
        listen=Listen(smtp=loopback, submission=loopback, submissions=loopback),
        access=Access(trusted_networks=("10.0.0.0/8",)),
        smtp=Smtp(early_talkers="allow"),  # most tests say all they have to say at once
    )
    return replace(config, **changes)


def calm(config: Config) -> Config:
    """The same without rates, delays and blocks: for tests that make many mistakes on purpose."""
    rates = {name: Rate() for name in COUNTED.values()}
    return replace(config, limits=replace(config.limits, delay_max_s=0.0, **rates))


def make_certificate(root: Path) -> Tls:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mx.example.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mx.example.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (root / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (root / "key.pem").write_bytes(pem)
    (root / "key.pem").chmod(0o600)
    return Tls(str(root / "cert.pem"), str(root / "key.pem"))


@dataclass(repr=False)
class House:
    """Everything behind a dialogue. `log` has the lines of the events."""

    config: Config
    store: SqliteStore
    users: Users
    keys: Keys
    log: list[str] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.events = Events(self.clock, self.log.append, debug=True)
        self.directory = Directory(self.config, self.users, Aliases(ALIASES, ["broken"]))
        self.ids = Ids(self.clock, random.Random(1))
        self.blocks = Blocks(self.store, self.clock)
        self.guard = self.make_guard(calm(self.config))
        self.acceptor = self.make_acceptor(self.config)
        self.tls = server_context(self.config.tls)
        self.host = self.make_host(self.config)

    def clock(self) -> float:
        return self.now or time.time()

    def make_acceptor(self, config: Config, came_in: Callable[[float], None] = lambda at: None) -> Acceptor:
        return Acceptor(
            config, self.store, self.directory, self.keys, self.events, self.ids, self.clock, came_in=came_in
        )

    def make_host(self, config: Config, *, tls: bool = True) -> Host:
        return Host(config, self.make_acceptor(config), self.directory, self.users, self.events, self.guard, tls=tls)

    def make_guard(self, config: Config) -> Guard:
        return Guard(config, self.blocks, self.events, self.clock)

    def with_limits(self, **limits: Any) -> Host:
        return self.make_host(replace(self.config, limits=replace(Limits(), **limits)))

    def talk(self, peer: Peer = STRANGER, host: Host | None = None) -> Conversation:
        return Conversation(peer, host or self.host)

    def inbound(
        self, config: Config | None = None, tls: ssl.SSLContext | None = None, guard: Guard | None = None
    ) -> Inbound:
        """Without `guard`: one that forgives everything."""
        config = config or self.config
        return Inbound(
            config,
            self.make_acceptor(config),
            self.directory,
            self.users,
            tls or self.tls,
            self.events,
            self.clock,
            guard or self.make_guard(calm(config)),
        )

    async def rows(self) -> list[Row]:
        return list(await self.store.select(Selector(states=STATES, all=True), self.clock()))

    async def content(self, row: Row) -> bytes:
        return octets(await self.store.content(row.message.id))

    async def only(self) -> tuple[Row, bytes]:
        """The one message with one recipient that is there."""
        (row,) = await self.rows()
        return row, await self.content(row)


def octets(content: Content) -> bytes:
    body = Path(content.body).read_bytes() if isinstance(content.body, str) else content.body
    return content.head + body


async def make_house(root: Path, **changes: Any) -> House:
    config = make_config(root, **changes)
    store = await asyncio.to_thread(open_store, config.paths, time.time)
    users = Users(store, time.time, random.Random(2), domain="example.test", cost=Cost(ln=4, r=8, p=1, iterations=4096))
    for name in ("alice@example.test", "bob@example.test"):
        await users.add(name, PASSWORD)
    return House(config, store, users, Keys(config.paths.dkim))


async def end_house(house: House) -> None:
    house.users.close()
    await house.store.close()


def codes(replies: bytes) -> list[str]:
    """The code and enhanced code of each reply, multi-line ones once."""
    found = []
    for line in replies.decode().splitlines():
        assert line[:3].isdigit(), line
        if line[3:4] == "-":
            continue
        words = line[4:].split(" ")
        enhanced = words[0] if words[0].count(".") == 2 and words[0].replace(".", "").isdigit() else ""
        found.append(f"{line[:3]} {enhanced}".strip())
    return found


async def say(talk: Conversation, *lines: str) -> list[str]:
    """What each of these lines is answered, as `codes`."""
    answers = b""
    for line in lines:
        answers += await talk.feed(line.encode("utf-8", "surrogateescape") + b"\r\n")
    return codes(answers)
