"""An Unbound of our own as validating resolver, on a high loopback port, for zones of one name server."""

from collections.abc import Collection
from pathlib import Path

from peer_process import Process, free_port, program


def missing() -> str:
    return "" if program("unbound") else "unbound is not installed"


class Unbound:
    """Asks the server at `dns_port` for `zones`; `anchors` are DS records of those that must be signed."""

    def __init__(self, base: Path, dns_port: int, zones: Collection[str], anchors: Collection[str]) -> None:
        base.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._zones = tuple(zones)
        self._base = base
        self._process: Process | None = None
        lines = [
            "server:",
            f'  directory: "{base}"',
            '  username: ""',
            '  chroot: ""',
            '  pidfile: ""',
            "  use-syslog: no",
            "  verbosity: 1",
            f"  interface: 127.0.0.1@{self.port}",
            "  do-not-query-localhost: no",
            "  do-daemonize: no",
            "  num-threads: 1",
            '  module-config: "validator iterator"',
            '  local-zone: "test." nodefault',
            "  val-log-level: 1",
            *(f'  trust-anchor: "{anchor}"' for anchor in anchors),
            "remote-control:",
            "  control-enable: no",
        ]
        for zone in zones:
            lines += ["stub-zone:", f'  name: "{zone}"', f"  stub-addr: 127.0.0.1@{dns_port}"]
        (base / "unbound.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> "Unbound":
        import dns.exception
        import dns.message
        import dns.query

        self._process = Process(
            [program("unbound"), "-d", "-c", str(self._base / "unbound.conf")], self._base / "unbound.log"
        )

        def answered() -> bool:
            query = dns.message.make_query(self._zones[0], "SOA")
            try:
                return bool(dns.query.udp(query, "127.0.0.1", port=self.port, timeout=0.5).answer)
            except (OSError, dns.exception.DNSException):
                return False

        self._process.ready("Unbound answers", answered)
        return self

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()
