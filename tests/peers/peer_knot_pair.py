"""Two Knot servers of one zone: a primary that takes updates, and a secondary that is as far behind as a test wants."""

import subprocess
from pathlib import Path

from peer_process import Process, free_port, program, wait_for

SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldCE="
KEY = "update.key.test"
HOSTS = ("127.0.0.1", "127.0.0.2")
ZONE = "@ 1 SOA ns1 hostmaster 1 86400 86400 864000 1\n@ 1 NS ns1\n@ 1 NS ns2\nns1 1 A 127.0.0.1\nns2 1 A 127.0.0.2\n"


def missing() -> str:
    absent = [name for name in ("knotd", "knotc") if not program(name)]
    return f"{', '.join(absent)} not installed" if absent else ""


class KnotPair:
    """Both at one port, of 127.0.0.1 and 127.0.0.2. Updates need the TSIG key, but for `open_updates`."""

    def __init__(self, base: Path, zone: str, records: str = "", *, open_updates: bool = True) -> None:
        self.port = free_port()
        self.zone = zone
        self._base = base
        self._processes: list[Process] = []
        for number, host in enumerate(HOSTS):
            place = base / f"{number}"
            (place / "run").mkdir(parents=True)
            acl = (
                "acl:\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n"
                "  - id: signed\n    key: " + KEY + "\n    action: update\n"
                "  - id: open\n    address: 127.0.0.0/8\n    action: update\n"
            )
            if number == 0:
                (place / f"{zone}.zone").write_text(f"$ORIGIN {zone}.\n{ZONE}{records}")
                role = f"    acl: [transfer, signed{', open' if open_updates else ''}]\n"
            else:
                role = "    master: primary\n"
            (place / "knot.conf").write_text(
                f"server:\n    rundir: {place / 'run'}\n    listen: {host}@{self.port}\n"
                "    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n"
                f"database:\n    storage: {place}\nlog:\n  - target: stderr\n    any: warning\n"
                f"key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {SECRET}\n"
                f"remote:\n  - id: primary\n    address: {HOSTS[0]}@{self.port}\n"
                f'{acl}template:\n  - id: default\n    storage: {place}\n    file: "%s.zone"\n'
                f"zone:\n  - domain: {zone}\n{role}"
            )

    def start(self) -> "KnotPair":
        for number, host in enumerate(HOSTS):
            place = self._base / f"{number}"
            self._processes.append(Process([program("knotd"), "-c", str(place / "knot.conf")], place / "knot.log"))
            self._processes[-1].ready(f"{host} answers", lambda host=host: self.serial(host) > 0)  # type: ignore[misc]
        return self

    def stop(self) -> None:
        for process in self._processes:
            process.stop()

    def serial(self, host: str) -> int:
        import dns.exception
        import dns.message
        import dns.query

        try:
            reply = dns.query.udp(dns.message.make_query(self.zone, "SOA"), host, port=self.port, timeout=0.5)
        except (OSError, dns.exception.DNSException):
            return 0
        return reply.answer[0][0].serial if reply.answer else 0  # type: ignore[no-any-return,attr-defined]

    def txt(self, host: str, name: str) -> list[str]:
        """What one of them serves, as a receiver would ask."""
        import dns.message
        import dns.query
        import dns.rdatatype

        reply = dns.query.udp(dns.message.make_query(name, "TXT", use_edns=0), host, port=self.port, timeout=5)
        return [
            b"".join(rdata.strings).decode() for rrset in reply.answer if rrset.rdtype == dns.rdatatype.TXT
            for rdata in rrset
        ]  # fmt: skip

    def publish(self, name: str, text: str) -> None:
        """What an operator does by hand, at the primary; with "" the record goes."""
        import dns.query
        import dns.rcode
        import dns.update

        change = dns.update.UpdateMessage(self.zone)
        at = name.removesuffix(f".{self.zone}")
        change.delete(at, "TXT")
        if text:
            change.add(at, 1, "TXT", " ".join(f'"{text[cut : cut + 255]}"' for cut in range(0, len(text), 255)))
        reply = dns.query.tcp(change, HOSTS[0], port=self.port, timeout=5)
        assert reply.rcode() == dns.rcode.NOERROR, reply

    def catch_up(self) -> None:
        """Let the secondary fetch what the primary has."""
        subprocess.run(
            [program("knotc"), "-s", str(self._base / "1" / "run" / "knot.sock"), "-b", "zone-refresh", self.zone],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        wait_for("the secondary has caught up", lambda: self.serial(HOSTS[0]) == self.serial(HOSTS[1]))
