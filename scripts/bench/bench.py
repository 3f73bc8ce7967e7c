"""mtad against Postfix: the same work, the same machine, alternating, in one run. Only the ratios mean anything.

accept    smtp-source -s 20 -l 2048 until all have their 250; delivery stands still (Postfix: hold queue; mtad: its only
          worker waits for a server that never greets)
relay     the same, until smtp-sink behind the server has all of them
DKIM      the same with an RSA-2048 signature: mtad's own, Postfix's by OpenDKIM as a milter
sendmail  one mail, from start of the command to its exit
"""

import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hosts import SENDER_DOMAIN, Host, mtad, postfix
from peer_postfix import missing
from peer_process import Process, free_port, program

SESSIONS = 20
SIZE_BYTES = 2048
LEG_S = 60.0  # a leg that takes longer has failed
MAIL = f"From: a@{SENDER_DOMAIN}\nTo: b@remote.test\nSubject: bench\nDate: Sun, 22 Nov 2026 08:00:00 +0000\n\ntext\n"

Start = Callable[..., AbstractContextManager[Host]]


def inject(host: Host, messages: int) -> None:
    """Hand over `messages` mails; returns when each has its 250."""
    command = [
        program("smtp-source"), "-s", str(SESSIONS), "-l", str(SIZE_BYTES), "-m", str(messages), "-N",
        "-f", f"a@{SENDER_DOMAIN}", "-t", "b@remote.test", f"127.0.0.1:{host.port}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=LEG_S, check=False)
    if done.returncode or done.stderr:
        sys.exit(f"smtp-source against {host.name}: exit {done.returncode}: {done.stderr.strip()}")


@contextmanager
def tarpit() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield int(listener.getsockname()[1])


def sink(base: Path, port: int, messages: int, *words: str) -> Process:
    """smtp-sink that ends when it has `messages`."""
    user = ["-u", "nobody"] if os.getuid() == 0 else []
    command = [program("smtp-sink"), *user, *words, "-M", str(messages), f"127.0.0.1:{port}", "512"]
    return Process(command, base / f"sink-{port}.log")


def accept(start: Start, base: Path, messages: int) -> float:
    """Mails per second until the last 250, delivery standing still."""
    with tarpit() as nowhere, start(base, nowhere, held=True, dkim=False) as host:
        inject(host, 50)
        began = time.perf_counter()
        inject(host, messages)
        return messages / (time.perf_counter() - began)


def relay(start: Start, base: Path, messages: int, *, dkim: bool) -> float:
    """Mails per second from the first command to the sink's last mail."""
    port = free_port()
    with start(base, port, held=False, dkim=dkim) as host:
        _warm_up(host, base.parent, port, dkim)
        end = sink(base.parent, port, messages)
        try:
            end.ready("smtp-sink listens", lambda: _listens(port))
            began = time.perf_counter()
            inject(host, messages)
            _all_arrived(end, host)
            return messages / (time.perf_counter() - began)
        finally:
            end.stop()


def _warm_up(host: Host, base: Path, port: int, dkim: bool) -> None:
    """Some mails first; one of them is looked at: is it signed, is it not?"""
    kept = base / f"kept-{port}"
    kept.mkdir()
    kept.chmod(0o777)
    end = sink(base, port, 20, "-d", str(kept / "mail"))
    try:
        end.ready("smtp-sink listens", lambda: _listens(port))
        inject(host, 20)
        _all_arrived(end, host)
    finally:
        end.stop()
    signed = sum(b"\nDKIM-Signature:" in path.read_bytes() for path in kept.iterdir())
    if signed != (20 if dkim else 0):
        sys.exit(f"{host.name}: {signed} of 20 mails were signed")


def _all_arrived(end: Process, host: Host) -> None:
    try:
        end.wait(LEG_S)
    except subprocess.TimeoutExpired:
        sys.exit(f"{host.name}: not all mails arrived within {LEG_S:g} s; it runs below {host.environ}")


def _listens(port: int) -> bool:
    """Whether someone listens, without a connection that smtp-sink would count."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        return any(fields[1] == wanted and fields[3] == "0A" for fields in map(str.split, table))


def sendmail(base: Path, runs: int) -> dict[str, float]:
    """Median milliseconds from start to exit, the two taking turns."""
    times: dict[str, list[float]] = {"mtad": [], "Postfix": []}
    with (
        tarpit() as nowhere,
        mtad(base / "m", nowhere, held=True, dkim=False) as ours,
        postfix(base / "p", nowhere, held=True, dkim=False) as theirs,
    ):
        mail = base / "mail"
        mail.write_text(MAIL)
        for _ in range(runs):
            for host in (ours, theirs):
                times[host.name].append(_one(host, mail))
    return {name: statistics.median(values[5:]) * 1000 for name, values in times.items()}


def _one(host: Host, mail: Path) -> float:
    with mail.open("rb") as text:
        began = time.perf_counter()
        subprocess.run(
            [*host.sendmail, "-i", f"-fa@{SENDER_DOMAIN}", "b@remote.test"], stdin=text, env=host.environ, check=True
        )
        return time.perf_counter() - began


def main() -> int:
    if reason := missing() or next(
        (f"no {name}" for name in ("smtp-source", "smtp-sink", "opendkim") if not program(name)), ""
    ):
        print(f"nothing to compare with: {reason}", file=sys.stderr)
        return 69
    messages, rounds = int(os.environ.get("BENCH_MESSAGES", "2000")), int(os.environ.get("BENCH_ROUNDS", "3"))
    only = sys.argv[1:] or ["accept", "relay", "DKIM", "sendmail"]
    base = Path(tempfile.mkdtemp(prefix="mtad-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    base.chmod(0o755)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    print(
        f"{rounds} rounds of {messages} mails of {SIZE_BYTES} octets, {SESSIONS} sessions, {os.cpu_count()} processors;"
    )
    print("the median round counts. Postfix with Debian's defaults. Both queues on the same disk.\n")
    print(f"{'':10} {'mtad':>12} {'Postfix':>12} {'ratio':>7} {'target':>8}")
    try:
        legs: dict[str, tuple[Callable[[Start, Path], float], float, int]] = {
            "accept": (lambda start, at: accept(start, at, messages), 2.0, messages),
            "relay": (lambda start, at: relay(start, at, messages, dkim=False), 2.0, messages),
            "DKIM": (lambda start, at: relay(start, at, messages // 2, dkim=True), 4.0, messages // 2),
        }
        for name, (leg, target, _) in legs.items():
            if name in only:
                figures: dict[str, list[float]] = {"mtad": [], "Postfix": []}
                for number in range(rounds):
                    for who, start in (("mtad", mtad), ("Postfix", postfix)):
                        at = base / f"{name}-{who}-{number}"
                        figures[who].append(leg(start, at))
                        shutil.rmtree(at)
                ours, theirs = (statistics.median(figures[who]) for who in ("mtad", "Postfix"))
                _line(name, f"{ours:.0f}/s", f"{theirs:.0f}/s", ours / theirs, target, at_least=True)
        if "sendmail" in only:
            medians = sendmail(base, 60 * rounds)
            ours, theirs = medians["mtad"], medians["Postfix"]
            _line("sendmail", f"{ours:.1f} ms", f"{theirs:.1f} ms", ours / theirs, 1.3, at_least=False)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _line(name: str, ours: str, theirs: str, ratio: float, target: float, *, at_least: bool) -> None:
    good = ratio >= target if at_least else ratio <= target
    bound = f"{'>=' if at_least else '<='} {target:g}"
    print(
        f"{name:10} {ours:>12} {theirs:>12} {ratio:>7.2f} {bound:>8}  {'PASS' if good else 'short of it'}", flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
