"""What carries a session: who is at the other end of a transport, whether it spoke already, and TLS over it."""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from dataclasses import dataclass
from typing import Any

from mtad.mail.envelope import Peer, Source
from mtad.tls.binding import exporter


class TlsLayer(SSLProtocol):
    """The TLS layer of asyncio with a smaller buffer: each connection has one, from its handshake to its end."""

    max_size = 32 * 1024  # octets; else 256 KiB


@dataclass(frozen=True, slots=True)
class Secured:
    """What a handshake came to; b"" stands for what there is none of."""

    words: str  # "TLSv1.3 TLS_AES_256_GCM_SHA384"
    ours: bytes  # our certificate in DER
    theirs: bytes  # the peer's, verified
    exported: bytes  # the tls-exporter binding


def peer_of(transport: asyncio.Transport, source: Source) -> Peer:
    """Who connected: an address, or by the word of the kernel a user of this host."""
    if source == "local":
        sock = transport.get_extra_info("socket")
        _pid, uid, _gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return Peer("local", uid=uid)
    name = transport.get_extra_info("peername") or ("", 0)
    return Peer(source, ip=name[0], port=name[1])


def has_spoken(transport: asyncio.Transport) -> bool:
    """Whether octets wait in the socket; they stay there."""
    with (
        contextlib.suppress(OSError),
        socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as twin,
    ):
        return bool(twin.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    return False


def put_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    early: bytes,
    timeout_s: int,
) -> "asyncio.Future[None]":
    """Give a transport to the TLS layer, at once and with what came `early`: `loop.start_tls` leaves a moment in which
    clear text, or the client's first words, come to `protocol`. That is told of the connection that TLS makes, and of
    one that is lost on the way only the future that is returned."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    layer = TlsLayer(loop, protocol, context, ended, server_side=True, ssl_handshake_timeout=timeout_s)
    transport.set_protocol(layer)
    layer.connection_made(transport)
    while early:
        into = layer.get_buffer(len(early))
        size = min(len(into), len(early))
        into[:size] = early[:size]
        layer.buffer_updated(size)
        early = early[size:]
    return ended


def secured(transport: asyncio.Transport) -> Secured:
    """Of a transport that TLS made."""
    tls: Any = transport.get_extra_info("ssl_object")
    cipher = tls.cipher()
    return Secured(
        f"{tls.version()} {cipher[0] if cipher else ''}",
        getattr(tls.context, "leaf", b""),
        tls.getpeercert(binary_form=True) or b"",
        exporter(tls),
    )
