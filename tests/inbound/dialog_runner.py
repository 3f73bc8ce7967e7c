"""Scripted dialogues over real sockets, in the format that chasquid's tests use (and a few words of our own).

c tcp_connect smtp           connect (a listener of ours, or a port of the suite)
c tls_connect submissions    the same with TLS from the first octet
c -> EHLO client.test        say a line
c ~> ("x" * 900 + "\\r\\n") * 3  say octets, written as an expression of Python
c <~ 250                     the next reply: a regular expression that its lines begin with
c <- 250 2.0.0 OK            the next reply, as it is
c <... 250 HELP              the next reply, with that code
c starttls                   upgrade (ours)
c close                      hang up
c <closed                    nothing more comes: the server has ended it (ours)
stored 2                     so many mails were taken so far (ours)
# ...                        a remark
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inbound_house import House, codes

from mtad.inbound.server import Inbound

PATIENCE_S = 30.0
PORTS = {"localhost:1025": "smtp", "localhost:1587": "submission", "localhost:1465": "submissions"}


@dataclass(frozen=True)
class Step:
    number: int  # of the line
    verb: str
    text: str


class DialogError(AssertionError):
    """The server said something else."""


def parse(path: Path) -> list[Step]:
    steps = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.removeprefix("c ").removeprefix(" ")
        if not line.strip() or line.startswith("#"):
            continue
        verb, _, text = words.partition(" ")
        steps.append(Step(number, verb, text))
    return steps


class Dialog:
    """One run. `expected` replaces what a line of a file expects, by the number of the line; `say` rewrites
    lines; `codes_only`: the three digits count."""

    def __init__(
        self,
        house: House,
        inbound: Inbound,
        *,
        expected: Mapping[int, str] | None = None,
        say: Callable[[str], str] = str,
        codes_only: bool = False,
    ) -> None:
        self._house = house
        self._inbound = inbound
        self._expected = expected or {}
        self._say = say
        self._codes_only = codes_only
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def run(self, path: Path) -> None:
        try:
            for step in parse(path):
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        await self._step(step)
                except (DialogError, TimeoutError, OSError) as error:
                    raise DialogError(f"{path.name}:{step.number}: {step.verb} {step.text}: {error!r}") from None
        finally:
            self._close()

    async def _step(self, step: Step) -> None:
        text = self._expected.get(step.number, step.text)
        match step.verb:
            case "tcp_connect" | "tls_connect":
                self._close()
                (place,) = self._inbound.addresses(PORTS.get(text, text))  # type: ignore[arg-type]
                context = trusting() if step.verb == "tls_connect" else None
                if isinstance(place, str):
                    self._reader, self._writer = await asyncio.open_unix_connection(place)
                else:
                    self._reader, self._writer = await asyncio.open_connection(*place, ssl=context)
            case "->":
                self._write(self._say(text).encode() + b"\r\n")
            case "~>":
                said = eval(text, {"__builtins__": {}})
                self._write(said if isinstance(said, bytes) else said.encode())
            case "<~" | "<-" if self._codes_only:
                reply = await self._reply()
                _hold(reply[:3] == text[:3], reply)
            case "<~":
                reply = await self._reply()
                _hold(re.match(text, reply, re.DOTALL), reply)
            case "<-":
                reply = await self._reply()
                _hold(reply == text, reply)
            case "<...":
                reply = await self._reply()
                _hold(reply.startswith(text[:3]), reply)
            case "<closed":
                rest = await self._reader.read()
                _hold(not rest, rest.decode())
            case "starttls":
                assert self._writer is not None
                await self._writer.start_tls(trusting(), server_hostname="mx.example.test")
            case "close":
                self._close()
            case "stored":
                mails = {row.message.id for row in await self._house.rows()}
                _hold(len(mails) == int(text), f"{len(mails)} mails")
            case _:
                raise DialogError(f"unknown word {step.verb}")

    async def _reply(self) -> str:
        lines = []
        while line := await self._reader.readline():
            lines.append(line.decode().rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        reply = "\n".join(lines)
        assert codes("".join(f"{line}\r\n" for line in lines).encode()) or not lines
        return reply

    def _write(self, octets: bytes) -> None:
        assert self._writer is not None
        self._writer.write(octets)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


def _hold(right: object, said: str) -> None:
    if not right:
        raise DialogError(said)


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
