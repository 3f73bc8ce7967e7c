"""Tiny SMTP and LMTP servers over real sockets: one behaves as it is told, one reads a script."""

import asyncio
import datetime as dt
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_LOOPBACK = x509.IPAddress(IPv4Address("127.0.0.1"))


@dataclass
class Mail:
    sender: str
    recipients: list[str]
    octets: bytes
    tls: bool


@dataclass
class Peer:
    """`says` maps the start of a command (or "." for the message, "banner") to the reply in place of "250 2.0.0 ok";
    "" = nothing, and the connection stays open; "cut" = the connection is cut. `once` goes before, one time each."""

    says: dict[str, str] = field(default_factory=dict)
    once: dict[str, str] = field(default_factory=dict)
    offers: tuple[str, ...] = ("PIPELINING", "8BITMIME", "SIZE", "DSN")
    lmtp: bool = False
    tls: ssl.SSLContext | None = None
    mails: list[Mail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    now: int = 0
    most: int = 0
    port: int = 0
    gate: asyncio.Event | None = None  # waited for before the reply to a message
    got: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def seen(self, command: str) -> None:
        """Until a command that begins like this came in."""
        async with self.got:
            await self.got.wait_for(lambda: any(one.startswith(command) for one in self.commands))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self._session(reader, writer)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            self.now -= 1
            writer.close()

    async def _session(self, reader, writer) -> None:
        secure = False
        sender, recipients = "", []
        await self._say(writer, "banner", "220 peer.test ESMTP")
        while line := await reader.readline():
            command = line.decode().rstrip("\r\n")
            async with self.got:
                self.commands.append(command)
                self.got.notify_all()
            verb = command[:4].upper()
            if verb in ("EHLO", "LHLO"):
                offers = [*self.offers, *(["STARTTLS"] if self.tls and not secure else [])]
                lines = "".join(f"250-{offer}\r\n" for offer in offers)
                await self._say(writer, command, f"250-peer.test\r\n{lines}250 HELP")
            elif verb == "STAR":
                if not (await self._say(writer, command, "220 go")).startswith("220"):
                    continue
                await writer.start_tls(self.tls)
                secure = True
            elif verb == "DATA":
                ok = await self._say(writer, command, "354 go" if recipients else "503 5.5.1 no recipients")
                if not ok.startswith("354"):
                    continue
                octets = await reader.readuntil(b"\r\n.\r\n") if recipients else await reader.readline()
                if self.gate is not None:
                    await self.gate.wait()
                finals = [self._reply(f". {to}", "250 2.0.0 ok") for to in (recipients if self.lmtp else ["all"])]
                if any(final.startswith("250") for final in finals):
                    plain = (b"\r\n" + octets[:-3]).replace(b"\r\n..", b"\r\n.")[2:]
                    self.mails.append(Mail(sender, recipients, plain, secure))
                for final in finals:
                    await self._write(writer, final)
                sender, recipients = "", []
            elif verb == "BDAT":
                octets = await reader.readexactly(int(command.split()[1]))
                finals = [self._reply(f". {to}", "250 2.0.0 ok") for to in (recipients if self.lmtp else ["all"])]
                if any(final.startswith("250") for final in finals):
                    self.mails.append(Mail(sender, recipients, octets, secure))
                for final in finals:
                    await self._write(writer, final)
                sender, recipients = "", []
            else:
                ok = await self._say(writer, command, "221 bye" if verb == "QUIT" else "250 2.0.0 ok")
                if verb == "MAIL":
                    sender, recipients = command, []
                elif verb == "RCPT" and ok.startswith("25"):
                    recipients.append(command[9:].split(">")[0])
                elif verb == "QUIT":
                    return

    def _reply(self, command: str, reply: str) -> str:
        for says in (self.once, self.says):
            start = max((start for start in says if command.startswith(start)), key=len, default=None)
            if start is not None:
                return says.pop(start) if says is self.once else says[start]
        return reply

    async def _say(self, writer, command: str, reply: str) -> str:
        return await self._write(writer, self._reply(command, reply))

    async def _write(self, writer, reply: str) -> str:
        if reply == "cut":
            writer.transport.abort()
            raise ConnectionResetError
        if reply:
            writer.write(reply.encode() + b"\r\n")
            await writer.drain()
        if reply.startswith("421"):
            raise ConnectionResetError
        return reply


@asynccontextmanager
async def serving(peer: Peer, path: str = "", *, implicit_tls: ssl.SSLContext | None = None):
    if path:
        server = await asyncio.start_unix_server(peer.serve, path, limit=1 << 26)
    else:
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, limit=1 << 26, ssl=implicit_tls)
        peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


@asynccontextmanager
async def reading(script: list[tuple[bytes, bytes]], *, cut: bool = True):
    """A server that waits for each needle and answers with the octets after it; then it cuts, or stays silent.
    Yields (port, list of all octets received)."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        try:
            for needle, answer in script:
                while needle not in received:
                    chunk = await reader.read(65536)
                    if not chunk:
                        return
                    heard.append(chunk)
                    received += chunk
                received = received[received.find(needle) + len(needle) :]
                for start in range(0, len(answer), 65536):
                    writer.write(answer[start : start + 65536])
                    await writer.drain()
            while not cut and await reader.read(65536):
                pass
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


def certificate(directory: Path, name: str) -> tuple[ssl.SSLContext, str]:
    """A server context with a fresh self-signed certificate for `name`, and the file to trust it by."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), _LOOPBACK]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, secret = directory / "cert.pem", directory / "key.pem"
    chain.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, secret)
    return context, str(chain)
