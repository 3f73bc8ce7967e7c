"""1,000 domains, of which 10 % are dead and 10 % slow: what the other 80 % get, against a run in which all are well.

Each domain has an MX of its own name, so each is a site. Dead ones take no connection (their backlog is full), slow
ones wait a second before each answer. Both runs send the same mails; the time is that until the 80 % have theirs.
"""

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from hosts import BIN, ROOT, SENDER_DOMAIN
from peer_process import Process, answers, free_port

DOMAINS = 1000
SESSIONS = 20
SLOW_S = 1.0
LEG_S = 240.0
WELL, SLOW, DEAD = "127.0.1.1", "127.0.1.2", "127.0.1.3"


def kind(number: int, troubled: bool) -> str:
    """The address of a domain's server: of ten, the first is dead and the second slow."""
    return WELL if not troubled or number % 10 > 1 else DEAD if number % 10 == 0 else SLOW


def run(base: Path, each: int, *, troubled: bool) -> float:
    """Seconds until the 80 % have their mails."""
    base.mkdir()
    port, dns_port, mail_port, told = free_port(), free_port(), free_port(), base / "arrived"
    (base / "mtad.toml").write_text(
        f'hostname = "mail.{SENDER_DOMAIN}"\ndomains = ["{SENDER_DOMAIN}"]\n'
        f'[listen]\nsmtp = ["127.0.0.1:{mail_port}"]\nsubmission = []\nsubmissions = []\n'
        "[limits]\nmessage_rate = 0\nrecipient_rate = 0\nconnection_rate = 0\n"
        f'[dns]\nservers = ["127.0.0.1:{dns_port}"]\n'
        f"[delivery]\nallow_private_addresses = true\nport = {port}\nmta_sts = false\ndane = false\n"
    )
    command = [sys.executable, __file__, str(port), str(dns_port), str(each), str(int(troubled)), str(told)]
    world = Process(command, base / "world.log")
    try:
        world.ready("the servers listen", (base / "arrived.ready").exists)
        daemon = Process([str(BIN / "mtad"), "run", "--root", str(base)], base / "mtad.log")
        try:
            daemon.ready("mtad listens", lambda: answers(mail_port))
            began = time.perf_counter()
            _inject(mail_port, each)
            world.wait(LEG_S)
            return time.perf_counter() - began
        except subprocess.TimeoutExpired:
            sys.exit(f"sites: not all mails arrived within {LEG_S:g} s")
        finally:
            daemon.stop()
    finally:
        world.stop()


def _inject(port: int, each: int) -> None:
    """All mails, over SESSIONS connections, in an order that chance made."""
    numbers = [number for number in range(DOMAINS) for _ in range(each)]
    random.Random(1).shuffle(numbers)
    with ThreadPoolExecutor(SESSIONS) as threads:
        for sent in [threads.submit(_session, port, numbers[start::SESSIONS]) for start in range(SESSIONS)]:
            sent.result()


def _session(port: int, numbers: list[int]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection, connection.makefile("rb") as replies:
        replies.readline()
        connection.sendall(b"EHLO bench\r\n")
        while replies.readline()[3:4] == b"-":
            pass
        for number in numbers:
            connection.sendall(f"MAIL FROM:<a@{SENDER_DOMAIN}>\r\nRCPT TO:<b@d{number}.test>\r\nDATA\r\n".encode())
            if [replies.readline()[:1] for _ in range(3)] != [b"2", b"2", b"3"]:
                sys.exit("sites: mtad does not take the mails")
            connection.sendall(b"Subject: bench\r\n\r\ntext\r\n.\r\n")
            if replies.readline()[:1] != b"2":
                sys.exit("sites: mtad does not take a mail")


@contextmanager
def full(port: int) -> Iterator[None]:
    """A listener that takes no more connections."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((DEAD, port))
        listener.listen(0)
        queued = []
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                with suppress(BlockingIOError):
                    one.connect((DEAD, port))
                queued.append(one)
            yield
        finally:
            for one in queued:
                one.close()


async def world(port: int, dns_port: int, each: int, troubled: bool, told: Path) -> None:
    """DNS and the servers; returns when the 80 % have all their mails."""
    sys.path.append(str(ROOT / "tests" / "dns"))
    from dns_server import serving

    left = sum(number % 10 > 1 for number in range(DOMAINS)) * each
    done = asyncio.Event()
    lines = ["@ 60 IN SOA ns.test. h.test. 1 60 60 60 60", "@ 60 IN NS ns.test."]
    for number in range(DOMAINS):
        lines += [f"d{number} 60 IN MX 10 mx.d{number}", f"mx.d{number} 60 IN A {kind(number, troubled)}"]
    zone = "$ORIGIN test.\n" + "\n".join(lines)

    def session(wait_s: float):  # type: ignore[no-untyped-def]
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal left
            well = False
            try:
                writer.write(b"220 sink ESMTP\r\n")
                while line := await reader.readline():
                    if wait_s:
                        await asyncio.sleep(wait_s)
                    verb = line[:4].upper()
                    if verb == b"EHLO":
                        writer.write(b"250-sink\r\n250 PIPELINING\r\n")
                    elif verb == b"RCPT":
                        number = int(line.partition(b"@d")[2].partition(b".")[0])
                        well = number % 10 > 1
                        writer.write(b"250 ok\r\n")
                    elif verb == b"DATA":
                        writer.write(b"354 go\r\n")
                        await reader.readuntil(b"\r\n.\r\n")
                        left -= well
                        writer.write(b"250 ok\r\n")
                        if left == 0:
                            done.set()
                    else:
                        writer.write(b"250 ok\r\n")
                        if verb == b"QUIT":
                            return
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        return serve

    with full(port):
        async with (
            serving(zone, "127.0.0.1", dns_port),
            await asyncio.start_server(session(0.0), WELL, port, backlog=512),
            await asyncio.start_server(session(SLOW_S), SLOW, port, backlog=512),
        ):
            told.with_name("arrived.ready").touch()
            await done.wait()
            os._exit(0)


if __name__ == "__main__":
    asyncio.run(world(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1", Path(sys.argv[5])))
