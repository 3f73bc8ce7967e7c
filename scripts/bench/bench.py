"""mtad against Postfix: the same work, the same machine, alternating, in one run. Only the ratios mean anything.

accept    smtp-source -s 20 -l 2048 until all have their 250; delivery stands still (Postfix: hold queue; mtad: its only
          worker waits for a server that never greets)
relay     the same, until smtp-sink behind the server has all of them
DKIM      the same with an RSA-2048 signature: mtad's own, Postfix's by OpenDKIM as a milter
sendmail  one mail, from start of the command to its exit
sites     mtad alone: 1,000 domains, 10 % dead and 10 % slow: seconds until the other 80 % have all their mail (first
          column), and in a run in which all are well (second column)
"""

import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import queues
import sites
from hosts import SENDER_DOMAIN, Host, mtad, postfix
from peer_postfix import missing
from peer_process import Process, free_port, program

SESSIONS = 20
SIZE_BYTES = 2048
QUEUED = 20_000  # messages in the queue that the operator works on
LEGS = ["accept", "relay", "DKIM", "sendmail", "queue", "sites"]
LEG_S = 60.0  # a leg that takes longer has failed
MAIL = f"From: a@{SENDER_DOMAIN}\nTo: b@remote.test\nSubject: bench\nDate: Sun, 22 Nov 2026 08:00:00 +0000\n\ntext\n"

Start = Callable[..., AbstractContextManager[Host]]


class Result(NamedTuple):
    """What one leg of one server gave."""

    rate: float  # mails per second
    cpu_us: float  # processor time of the daemon per mail; 0 where many processes share the work


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


def accept(start: Start, base: Path, messages: int) -> Result:
    """Until the last 250, delivery standing still."""
    with tarpit() as nowhere, start(base, nowhere, held=True, dkim=False) as host:
        inject(host, 50)
        began, spent_s = time.perf_counter(), host.cpu_s()
        inject(host, messages)
        return _result(messages, began, spent_s, host)


def relay(start: Start, base: Path, messages: int, *, dkim: bool) -> Result:
    """From the first command to the sink's last mail."""
    port = free_port()
    with start(base, port, held=False, dkim=dkim) as host:
        _warm_up(host, base.parent, port, dkim)
        end = sink(base.parent, port, messages)
        try:
            end.ready("smtp-sink listens", lambda: _listens(port))
            began, spent_s = time.perf_counter(), host.cpu_s()
            inject(host, messages)
            _all_arrived(end, host)
            return _result(messages, began, spent_s, host)
        finally:
            end.stop()


def _result(messages: int, began: float, spent_s: float, host: Host) -> Result:
    took_s = time.perf_counter() - began
    return Result(messages / took_s, (host.cpu_s() - spent_s) / messages * 1e6)


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
        sys.exit(f"{host.name}: not all mails arrived within {LEG_S:g} s")


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
    """The legs named on the command line, or all. What was started is ended whatever comes, and that is one line."""
    try:
        return compare()
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip() or "nothing was said"
        cause = f"{Path(error.cmd[0]).name}: exit {error.returncode}: {said.splitlines()[-1]}"
    except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
    except KeyboardInterrupt:
        cause = "interrupted"
    print(f"bench.sh: {cause}", file=sys.stderr)
    return 70


def compare() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without ending what was started
    messages, rounds = _number("BENCH_MESSAGES", 2000), _number("BENCH_ROUNDS", 3)
    only = sys.argv[1:] or LEGS
    if wrong := [name for name in only if name not in LEGS]:
        print(f"bench.sh: there is no {wrong[0]}; there are: {' '.join(LEGS)}", file=sys.stderr)
        return 64
    if reason := missing() or next(
        (f"no {name}" for name in ("smtp-source", "smtp-sink", "opendkim") if not program(name)), ""
    ):
        print(f"nothing to compare with: {reason}", file=sys.stderr)
        return 69
    base = Path(tempfile.mkdtemp(prefix="mtad-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    base.chmod(0o755)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    print(
        f"{rounds} rounds of {messages} mails of {SIZE_BYTES} octets, {SESSIONS} sessions, {os.cpu_count()} processors;"
    )
    print("the ratio is the median of the rounds', each of two neighbouring runs, the first of them in turn.")
    print("Postfix with Debian's defaults. Both queues on the same disk. CPU: the daemon's processor time per mail.\n")
    print(f"{'':10} {'mtad':>10} {'Postfix':>10} {'ratio':>7} {'rounds':>13} {'target':>8}  {'CPU':>8}")
    try:
        legs: dict[str, tuple[Callable[[Start, Path], Result], float]] = {
            "accept": (lambda start, at: accept(start, at, messages), 2.0),
            "relay": (lambda start, at: relay(start, at, messages, dkim=False), 2.0),
            "DKIM": (lambda start, at: relay(start, at, messages // 2, dkim=True), 4.0),
        }
        for name, (leg, target) in legs.items():
            if name in only:
                ours, theirs = _rounds(name, leg, base, rounds)
                ratios = [mine.rate / other.rate for mine, other in zip(ours, theirs, strict=True)]
                rates = [f"{statistics.median(one.rate for one in found):.0f}/s" for found in (ours, theirs)]
                cpu = f"{statistics.median(one.cpu_us for one in ours):.0f} us"
                _line(name, *rates, ratios, target, cpu, at_least=True)
        if "sendmail" in only:
            medians = sendmail(base, 60 * rounds)
            mine_ms, other_ms = medians["mtad"], medians["Postfix"]
            _line("sendmail", f"{mine_ms:.1f} ms", f"{other_ms:.1f} ms", [mine_ms / other_ms], 1.3, "", at_least=False)
        if "queue" in only:
            with tarpit() as nowhere:
                for one in queues.measure(base / "queue", nowhere, QUEUED, rounds, inject):
                    ratios = [mine / other for mine, other in zip(one.ours, one.theirs, strict=True)]
                    took = [f"{statistics.median(found) * 1000:.0f} ms" for found in (one.ours, one.theirs)]
                    _line(one.name, *took, ratios, 0.5, "", at_least=False)
        if "sites" in only:
            each = max(messages // 500, 1)
            well = sites.run(base / "well", each, troubled=False)
            troubled = sites.run(base / "troubled", each, troubled=True)
            _line("sites", f"{troubled:.1f} s", f"{well:.1f} s", [well / troubled], 0.9, "", at_least=True)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _number(name: str, default: int) -> int:
    """A setting from the environment, at least 1."""
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        print(f"bench.sh: {name}={text}: give a whole number, 1 or more", file=sys.stderr)
        sys.exit(64)
    return int(text)


def _rounds(
    name: str, leg: Callable[[Start, Path], Result], base: Path, rounds: int
) -> tuple[list[Result], list[Result]]:
    """Ours and theirs, round by round. What else the machine does changes within seconds: only neighbours compare."""
    found: dict[str, list[Result]] = {"mtad": [], "Postfix": []}
    for number in range(rounds):
        pair = (("mtad", mtad), ("Postfix", postfix))
        for who, start in pair if number % 2 == 0 else pair[::-1]:
            at = base / f"{name}-{who}-{number}"
            found[who].append(leg(start, at))
            shutil.rmtree(at)
    return found["mtad"], found["Postfix"]


def _line(
    name: str, ours: str, theirs: str, ratios: Sequence[float], target: float, cpu: str, *, at_least: bool
) -> None:
    ratio = statistics.median(ratios)
    good = ratio >= target if at_least else ratio <= target
    bound = f"{'>=' if at_least else '<='} {target:g}"
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else ""
    verdict = "PASS" if good else "short of it"
    print(f"{name:10} {ours:>10} {theirs:>10} {ratio:>7.2f} {spread:>13} {bound:>8}  {cpu:>8}  {verdict}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
