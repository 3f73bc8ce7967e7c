"""The control socket: anyone may connect; what they may do follows from the kernel's word on who they are."""

import asyncio
import contextlib
import grp
import os
import socket
import stat
import struct
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace

from mtad import __version__
from mtad.control import idl, wire
from mtad.control.admin import Admin, Caller, Failed, Lines, Row
from mtad.control.login import login
from mtad.control.operation import Access, Operation, UsageError
from mtad.control.operations import BY_NAME
from mtad.control.run import perform
from mtad.mail.text import clean

IDLE_S = 60.0
CONNECTIONS_MAX = 500
CONNECTIONS_PER_UID = 50
READ_BYTES = 64 * 1024
PAGE_BYTES = 64 * 1024  # rows are written that many octets at a time
BACKLOG = 128
LINES_MAX = 200  # of an error's text

METHODS: Mapping[str, Operation] = {wire.method_name(name): operation for name, operation in BY_NAME.items()}

_SO_PEERGROUPS = 59  # socket(7) of Linux 4.13; Python has no name for it
_GROUPS_MAX = 256


class ControlServer:
    """Listens on `path`. `admin` is what operations work with; a reload replaces it, running operations keep theirs."""

    def __init__(self, admin: Admin, path: str, group: str, *, idle_s: float = IDLE_S) -> None:
        self.admin = admin
        self.idle_s = idle_s
        self._path = path
        self._admin_gid = _gid(group)
        self._server: asyncio.Server | None = None
        self._inode = (0, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[_Connection] = set()
        self._per_uid: Counter[int] = Counter()

    def update(self, admin: Admin) -> None:
        """The settings changed: operations that begin from now on see `admin`."""
        self.admin = admin
        self._admin_gid = _gid(admin.config.access.admin_group)

    async def start(self) -> None:
        """Bind and listen. The caller holds the store's lock, so a socket that lies there is dead. Raises OSError."""
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.lstat(self._path).st_mode):
                os.unlink(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self._path)
            os.chmod(self._path, 0o666)  # noqa: S103  (who may what is decided by SO_PEERCRED)
            listener.setblocking(False)
            self._inode = _inode(self._path)
            self._server = await asyncio.start_unix_server(
                self._connected, sock=listener, limit=READ_BYTES, backlog=BACKLOG
            )
        except BaseException:
            listener.close()
            raise

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take no more requests, let running operations end for `grace_s`, close."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        # A daemon that replaced us may have its own socket there by now.
        with contextlib.suppress(FileNotFoundError):
            if _inode(self._path) == self._inode:
                os.unlink(self._path)
        for connection in self._connections:
            connection.finish()
        if self._tasks:
            _, running = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first octet to its last."""
        if writer.transport.is_closing():  # gone already: its descriptor may be another's by now
            return
        try:
            caller = self._identify(writer.get_extra_info("socket"))
        except Exception as error:  # noqa: BLE001  (who it is cannot be told: nothing is done for it)
            self.admin.events.internal_error("control", error)
            writer.close()
            return
        self._per_uid[caller.uid] += 1
        connection = _Connection(self, caller, reader, writer)
        self._connections.add(connection)
        try:
            if self._crowded(caller):
                await connection.send(wire.error("Busy", "too many connections at this moment, try again"))
            else:
                await connection.run()
        except _Gone:
            pass
        except Exception as error:  # noqa: BLE001  (no connection may end the daemon)
            self.admin.events.internal_error("control", error)
        finally:
            self._connections.discard(connection)
            self._per_uid[caller.uid] -= 1
            if not self._per_uid[caller.uid]:
                del self._per_uid[caller.uid]
            writer.close()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    def _crowded(self, caller: Caller) -> bool:
        if caller.access >= Access.OPERATOR:
            return False  # whoever must stop a flood gets in
        return len(self._tasks) > CONNECTIONS_MAX or self._per_uid[caller.uid] > CONNECTIONS_PER_UID

    def _identify(self, peer: socket.socket) -> Caller:
        pid, uid, gid = struct.unpack("iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid in {0, os.geteuid()} or self._admin_gid in {gid, *_groups(peer)}:
            return Caller(uid, Access.ADMIN, login(uid, pid))
        return Caller(uid, Access.ANYONE)


class _Gone(Exception):  # noqa: N818
    """The peer went away, or takes nothing."""


class _Connection:
    """One peer's requests, one after the other."""

    def __init__(
        self, server: ControlServer, caller: Caller, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._caller = caller
        self._reader = reader
        self._writer = writer
        self._finishing = False
        self._waiting: asyncio.Timeout | None = None  # for a request
        self._following: asyncio.Task[None] | None = None  # the task, while it sends what comes

    def finish(self) -> None:
        """End after what is being done now; at once when that is nothing."""
        self._finishing = True
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())
        if self._following is not None:
            self._following.cancel()

    async def run(self) -> None:
        decoder = wire.Decoder()
        while octets := await self._read():
            try:
                for frame in decoder.feed(octets):
                    await self._answer(wire.request(frame))
                    if self._finishing:
                        return
            except wire.WireError as error:
                await self.send(wire.error("Usage", str(error)))
                return

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(0.0 if self._finishing else self._server.idle_s) as self._waiting:
                return await self._reader.read(READ_BYTES)
        except (ConnectionError, TimeoutError):
            raise _Gone from None
        finally:
            self._waiting = None

    async def send(self, octets: bytes) -> None:
        """Write and wait until the peer takes it. _Gone when it does not."""
        if self._writer.transport.is_closing():  # uvloop would raise a RuntimeError
            raise _Gone
        self._writer.write(octets)
        try:
            async with asyncio.timeout(self._server.idle_s):
                await self._writer.drain()
        except (ConnectionError, TimeoutError):
            self._writer.transport.abort()
            raise _Gone from None

    async def _answer(self, request: wire.Request) -> None:
        """Do what is asked. Exactly one reply without "continues" ends the answer; a oneway request gets none."""
        operation = METHODS.get(request.method)
        if operation is None:
            last = _service(request)
        else:
            last = await self._perform(operation, request)
        if not request.oneway:
            await self.send(last)

    async def _perform(self, operation: Operation, request: wire.Request) -> bytes:
        """Send all rows but the last, in pages; return what is left to send. A row waits for the next one: only the
        last must not say "continues"."""
        admin = replace(self._server.admin, caller=self._caller)
        if operation.live:
            return await self._follow(admin, operation, request)
        page, held = bytearray(), b""
        try:
            async with aclosing(perform(admin, operation, request.parameters)) as rows:
                async for found in rows:
                    if isinstance(found, dict) and "of" in found:  # how far it is: no part of the answer
                        if request.more and not request.oneway:
                            await self.send(bytes(page) + wire.replies(wire.line(found), continues=True))
                            page.clear()
                        continue
                    lines = held + b"\n" + _lines(found) if held else _lines(found)
                    ready, _, held = lines.rpartition(b"\n")
                    if ready and not request.more:
                        return wire.service_error("ExpectedMore")
                    if ready and not request.oneway:
                        page += wire.replies(ready, continues=True)
                        if len(page) >= PAGE_BYTES:
                            await self.send(bytes(page))
                            page.clear()
            return bytes(page) + wire.replies(held or b"{}", continues=False)
        except _Gone:
            raise
        except Exception as error:  # noqa: BLE001  (a defect of one operation must not end the others)
            last = _failure(admin, operation, error)
        if held and request.more:
            page += wire.replies(held, continues=True)
        return bytes(page) + last

    async def _follow(self, admin: Admin, operation: Operation, request: wire.Request) -> bytes:
        """As `_perform`, with rows that go out as they come. The end of the daemon is the end of them."""
        if not request.more:
            return wire.service_error("ExpectedMore")
        try:
            async with aclosing(perform(admin, operation, request.parameters)) as rows:
                self._following = asyncio.current_task()
                async for found in rows:
                    await self.send(wire.replies(_lines(found), continues=True))
                    if self._finishing:
                        break
            return wire.reply({})
        except _Gone:
            raise
        except Exception as error:  # noqa: BLE001  (as above)
            return _failure(admin, operation, error)
        finally:
            self._following = None


def _lines(found: Row | Lines) -> bytes:
    return wire.lines(found.text) if isinstance(found, Lines) else wire.line(found)


def _failure(admin: Admin, operation: Operation, error: Exception) -> bytes:
    """The reply for an operation that could not be done."""
    match error:
        case UsageError():
            return wire.error("Usage", clean(str(error)), parameter=clean(error.param))
        case Failed():
            return wire.error(error.name, _words(error.text))
        case _:
            number = admin.events.internal_error(operation.name, error)
            return wire.error("Internal", f"internal error; the daemon's log has the details under {number}")


def _service(request: wire.Request) -> bytes:
    """What every varlink service answers, and what is no method of ours."""
    match request.method:
        case "org.varlink.service.GetInfo":
            return wire.reply(
                {
                    "vendor": "mtad",
                    "product": "mtad",
                    "version": __version__,
                    "url": "",
                    "interfaces": [wire.SERVICE, wire.INTERFACE],
                }
            )
        case "org.varlink.service.GetInterfaceDescription":
            match request.parameters.get("interface"):
                case wire.INTERFACE:
                    return wire.reply({"description": idl.description()})
                case wire.SERVICE:
                    return wire.reply({"description": idl.SERVICE_DESCRIPTION})
                case str() as name:
                    return wire.service_error("InterfaceNotFound", interface=clean(name))
                case _:
                    return wire.service_error("InvalidParameter", parameter="interface")
    interface, _, _ = request.method.rpartition(".")
    if interface in {wire.INTERFACE, wire.SERVICE}:
        return wire.service_error("MethodNotFound", method=clean(request.method))
    return wire.service_error("InterfaceNotFound", interface=clean(interface))


def _words(text: str) -> str:
    """Words that may have several lines, each safe to show."""
    return "\n".join(clean(line) for line in text.split("\n")[:LINES_MAX])


def _inode(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _gid(group: str) -> int | None:
    try:
        return grp.getgrnam(group).gr_gid if group else None
    except KeyError:
        return None


def _groups(peer: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the peer's process. None where the kernel does not tell."""
    try:
        octets = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _GROUPS_MAX)
    except OSError:
        return ()
    return struct.unpack(f"{len(octets) // 4}I", octets)
