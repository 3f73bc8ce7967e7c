"""Order proof: what the kernel was asked between the last write of a mail and the word that it is safe."""

import asyncio
import random
import re
import signal
from pathlib import Path

from fault_host import BIN, REPOSITORY, Host
from fault_ledger import Ledger
from fault_load import Load
from fault_result import Result, Skipped
from fault_sink import Sink
from peer_process import program

CALLS = "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,unlink"
_CALL = re.compile(r"^(?:\d+ +)?(?:\d+\.\d+ )?(\w+)\((.*)$")


def unsynced(trace: str, word: str) -> list[str]:
    """Files and directories under `data` or `mail` with writes (or names) that were not flushed when `word` was
    written for the last time; [] is the proof. AssertionError: that was never written."""
    dirty: dict[str, str] = {}
    at_word: list[str] | None = None
    for line in _whole(trace):
        if not (found := _CALL.match(line)) or " = -1 " in line:
            continue
        call, rest = found.groups()
        path = _descriptor(rest)
        if call in ("pwrite64", "write", "writev") and _ours(path):
            dirty[path] = line
        elif call in ("fsync", "fdatasync"):
            dirty.pop(path, None)
        elif call.startswith("rename"):
            target = re.findall(r'"([^"]+)"', rest)[-1]
            names = re.findall(r"<([^>]+)>", rest)
            folder = target.rpartition("/")[0] or names[-1]
            if _ours(folder):
                source = re.findall(r'"([^"]+)"', rest)[0]
                for old in [one for one in dirty if one.endswith(f"/{source.rpartition('/')[2]}")]:
                    dirty[target] = dirty.pop(old)  # the file was renamed before it was flushed
                dirty[folder] = line
        if call in ("write", "writev", "sendto", "sendmsg") and word in line:
            at_word = [f"{name}: {how}" for name, how in dirty.items()]
    assert at_word is not None, f"{word!r} was never said\n{trace[-2000:]}"
    return at_word


def _whole(trace: str) -> list[str]:
    """Lines of calls, in the order in which they ended."""
    begun: dict[str, str] = {}
    lines: list[str] = []
    for line in trace.splitlines():
        pid = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            begun[pid] = line.removesuffix("<unfinished ...>")
        elif "resumed>" in line:
            lines.append(begun.pop(pid, f"{pid} ") + line.partition("resumed>")[2])
        else:
            lines.append(line)
    return lines


def _descriptor(rest: str) -> str:
    found = re.match(r"\d+<([^>]*)>", rest)
    return found[1] if found else ""


def _ours(path: str) -> bool:
    return ("/data" in path or "/mail" in path) and not path.endswith((".lock", "-shm")) and "__pycache__" not in path


async def order(root: Path, count: int, rng: random.Random) -> Result:
    """One mail on each way in, small and large, a report, and a delivery to a mailbox: all flushed before the word."""
    strace = program("strace")
    if not strace:
        raise Skipped("needs strace")
    ledger = Ledger()
    trace = root / "trace"
    async with Sink(ledger, rng, later=0.0, delay_s=0.0) as sink:
        host = Host(root, ledger, sink.port)
        try:
            await host.up([strace, "-f", "-y", "-s", "200", "-e", CALLS, "-o", str(trace)])
            proofs = 0
            for way, size in (("smtp", 300), ("smtp", 300_000), ("socket", 300), ("socket", 300_000))[:count]:
                load = Load(host, rng, sizes=(size,))
                mail, octets = load.mail(("a@sink.test", "u@box.test", "bad@sink.test"))
                await getattr(load, way)(mail, octets)
                assert mail.word == "yes", host.log
                left = unsynced(trace.read_text(errors="replace"), " queued")
                assert not left, left
                proofs += 1
                await host.drained()
            # The maildrop: sendmail's own flushes, then the daemon removes the file after its commit.
            await _maildrop(host, strace, root, ledger)
            left = unsynced(trace.read_text(errors="replace"), "status=sent (250 2.0.0 Delivered to the mailbox)")
            assert not left, left
            host.signal(signal.SIGTERM)
            await host.ended()
        finally:
            await host.end()
        ledger.mailbox(root / "mail", "box.test")
    return Result("flushed before the word (strace)", proofs + 2, ledger.verdict())


async def _maildrop(host: Host, strace: str, root: Path, ledger: Ledger) -> None:
    """sendmail while no daemon listens: the file and its directory are flushed before it ends with 0."""
    mail, octets = ledger.new(("a@sink.test",), 300)
    trace = root / "trace.sendmail"
    shelter = root / "shelter"
    (shelter / "data" / "maildrop").mkdir(parents=True)
    done = await asyncio.create_subprocess_exec(
        strace, "-f", "-y", "-s", "200", "-e", f"{CALLS},exit_group", "-o", str(trace), str(BIN / "python"), "-IS",
        str(REPOSITORY / "deploy" / "bin" / "mtad-sendmail"), "-i", "-fs@sink.test", *mail.recipients,
        stdin=asyncio.subprocess.PIPE, env={"MTA_ROOT": str(shelter), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    await done.communicate(octets)
    assert done.returncode == 0
    said = trace.read_text(errors="replace").replace("exit_group(0)", 'write(1<pipe>, "the end")')
    left = unsynced(said, "the end")
    assert not left, left
    (file,) = (shelter / "data" / "maildrop").glob("*.mail")
    file.rename(host.root / "data" / "maildrop" / file.name)
    ledger.word(mail, "yes", 0.0)
    await host.call("MaildropDrain")
    await host.drained()
