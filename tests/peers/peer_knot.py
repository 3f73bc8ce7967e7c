"""A Knot DNS server of our own, on a high loopback port, with the zones it is given as text."""

import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path

from peer_process import Process, free_port, program

SOA = "@ 60 SOA ns.{zone}. hostmaster.{zone}. 1 3600 600 86400 60\n@ 60 NS ns.{zone}.\nns 60 A 127.0.0.1\n"


def missing() -> str:
    return "" if program("knotd") else "knot is not installed"


class Knot:
    """`zones`: origin without the final dot -> records in zone file form, without SOA and NS. It signs those of
    `signed` (DNSSEC)."""

    def __init__(self, base: Path, zones: Mapping[str, str], signed: Collection[str] = ()) -> None:
        self.port = free_port()
        self._base = base
        (base / "run").mkdir(parents=True, exist_ok=True)
        for zone, records in zones.items():
            (base / f"{zone}.zone").write_text(SOA.format(zone=zone) + records)
        text = [
            f"server:\n    rundir: {base / 'run'}\n    listen: 127.0.0.1@{self.port}\n",
            "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n",
            f"database:\n    storage: {base}\n",
            "log:\n  - target: stderr\n    any: warning\n",
            f'template:\n  - id: default\n    storage: {base}\n    file: "%s.zone"\n    journal-content: none\n',
            "zone:\n",
            *(
                f"  - domain: {zone}\n" + ("    dnssec-signing: on\n    zonefile-sync: -1\n" if zone in signed else "")
                for zone in zones
            ),
        ]
        (base / "knot.conf").write_text("".join(text))
        self._process: Process | None = None

    def start(self) -> "Knot":
        import dns.exception
        import dns.message
        import dns.query

        self._process = Process([program("knotd"), "-c", str(self._base / "knot.conf")], self._base / "knot.log")
        zone = next(path.name.removesuffix(".zone") for path in self._base.glob("*.zone"))

        def answered() -> bool:
            try:
                reply = dns.query.udp(dns.message.make_query(zone, "SOA"), "127.0.0.1", port=self.port, timeout=0.5)
            except (OSError, dns.exception.DNSException):
                return False
            return bool(reply.answer)

        self._process.ready("knot answers", answered)
        return self

    def ds(self, zone: str) -> str:
        """The DS record of a signed zone: what a resolver trusts it by."""
        command = [program("keymgr"), "-c", str(self._base / "knot.conf"), zone, "ds"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return next(line for line in done.stdout.splitlines() if " 2 " in line)

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()


def txt(record: str) -> str:
    """A TXT value as quoted strings of at most 255 octets."""
    return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255))
