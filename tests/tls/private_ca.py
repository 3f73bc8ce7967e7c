"""A private certification authority for tests: authorities, certificates of hosts, server contexts, an HTTPS server."""

import asyncio
import datetime as dt
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Holder:
    """A certificate, its key, and who issued it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuer: "Holder | None" = None

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def spki(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def pem(self, *more: "Holder") -> bytes:
        return b"".join(one.certificate.public_bytes(serialization.Encoding.PEM) for one in (self, *more))

    def write(self, folder: Path, *chain: "Holder") -> tuple[Path, Path]:
        """Certificate (with what follows it) and key as files."""
        folder.mkdir(parents=True, exist_ok=True)
        cert, key = folder / "chain.pem", folder / "key.pem"
        cert.write_bytes(self.pem(*chain))
        key.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert, key

    def context(self, folder: Path, *chain: "Holder") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.write(folder, *chain))
        return context


def make(
    name: str,
    issuer: Holder | None = None,
    *,
    names: tuple[str, ...] | None = None,
    ca: bool = False,
    path_length: int | None = None,
    start: dt.timedelta = -DAY,
    end: dt.timedelta = DAY,
    signs: bool = True,
) -> Holder:
    """`names`: DNS names, `name` if not given; a `name` of "" is no subject. `start` and `end` count from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((issuer.key if issuer else key).public_key()), False
        )
    )
    if ca:
        usage = x509.KeyUsage(not signs, False, False, False, False, signs, signs, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        listed = [x509.DNSName(one) for one in (names if names is not None else (name,))]
        if listed:
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    return Holder(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key, issuer)


@dataclass
class Web:
    """An HTTPS server that answers every request with `octets`, and what it was asked."""

    octets: bytes = b""
    asked: list[bytes] = field(default_factory=list)
    port: int = 0
    gate: asyncio.Event | None = None

    def says(self, body: bytes, status: str = "200 OK", media_type: str = "text/plain", extra: str = "") -> "Web":
        head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        self.octets = head.encode() + body
        return self

    async def serve(self, reader, writer) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            self.asked.append(head + await reader.readexactly(int(length.partition(b":")[2])))
            if self.gate is not None:
                await self.gate.wait()
            writer.write(self.octets)
            await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(web: Web, context: ssl.SSLContext, address: str = "127.0.0.1", port: int = 0):
    server = await asyncio.start_server(web.serve, address, port, ssl=context)
    web.port = server.sockets[0].getsockname()[1]
    try:
        yield web
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
