"""The two that are compared, each ready to take mail on a port: mtad and Postfix, queues on the same disk."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "peers"))

from peer_postfix import Postfix  # noqa: E402
from peer_process import Process, answers, free_port, program  # noqa: E402

BIN = ROOT / ".venv" / "bin"
SENDER_DOMAIN = "sender.test"


@dataclass(frozen=True, slots=True)
class Host:
    """A server that takes mail on `port`. `sendmail` is the command with its environment; `pid` is the one process that
    does all the work, 0 where there are many."""

    name: str
    port: int
    sendmail: tuple[str, ...]
    environ: dict[str, str]
    pid: int = 0

    def cpu_s(self) -> float:
        """Processor time of the process until now."""
        if not self.pid:
            return 0.0
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def mtad(
    base: Path, sink_port: int, *, held: bool, dkim: bool, fill: Callable[[Path], None] | None = None
) -> Iterator[Host]:
    """mtad relaying everything to `sink_port`. `held`: to a server that never greets, with one worker. `fill` puts mail
    into its queue before it starts."""
    base.mkdir()
    port = free_port()
    (base / "mtad.toml").write_text(
        f'hostname = "mail.{SENDER_DOMAIN}"\ndomains = ["{SENDER_DOMAIN}"]\n'
        f'[listen]\nsmtp = ["127.0.0.1:{port}"]\nsubmission = []\nsubmissions = []\n'
        f"[delivery]\nallow_private_addresses = true\n{'workers = 1' if held else ''}\n"
        f'[[delivery.route]]\nmatch = "*"\nto = "smtp://127.0.0.1:{sink_port}"\n'
    )
    if dkim:
        words = ["dkim", "generate", SENDER_DOMAIN, "--selector", "bench", "--algorithm", "rsa"]
        command = [BIN / "mtactl", "--root", base, *words]
        subprocess.run(command, check=True, capture_output=True)
    if fill is not None:
        fill(base)
    process = Process([str(BIN / "mtad"), "run", "--root", str(base)], base.with_suffix(".log"))
    try:
        process.ready("mtad listens", lambda: answers(port))
        environ = {"MTA_ROOT": str(base), "PATH": os.environ["PATH"]}
        yield Host("mtad", port, (str(BIN / "mtad-sendmail"),), environ, process.pid)
    finally:
        process.stop()


@contextmanager
def postfix(base: Path, sink_port: int, *, held: bool, dkim: bool) -> Iterator[Host]:
    """Postfix with Debian's defaults, relaying everything to `sink_port`. `held`: into its hold queue."""
    settings = {"relayhost": f"[127.0.0.1]:{sink_port}"}
    if held:
        settings["smtpd_client_restrictions"] = "check_client_access static:HOLD"
    milter = None
    if dkim:
        milter_port = free_port()
        milter = _opendkim(base.with_name(f"{base.name}-dkim"), milter_port)
        settings |= {"smtpd_milters": f"inet:127.0.0.1:{milter_port}", "milter_default_action": "tempfail"}
    server = Postfix(base, settings)
    try:
        server.start()
        environ = {"MAIL_CONFIG": str(server.config), "PATH": os.environ["PATH"]}
        yield Host("Postfix", server.port, (program("sendmail"),), environ)
    finally:
        server.stop()
        if milter is not None:
            milter.stop()


def _opendkim(base: Path, port: int) -> Process:
    """OpenDKIM signing for the sender's domain with RSA-2048."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    base.mkdir()
    key = base / "key.pem"
    key.touch(0o600)
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    key.write_bytes(pem)
    config = base / "opendkim.conf"
    config.write_text(
        f"Mode s\nSocket inet:{port}@127.0.0.1\nDomain {SENDER_DOMAIN}\nSelector bench\nKeyFile {key}\n"
        "Canonicalization relaxed/relaxed\nSignatureAlgorithm rsa-sha256\nInternalHosts 127.0.0.1\nSyslog no\n"
        "OversignHeaders From\nRequireSafeKeys no\n"
    )
    process = Process([program("opendkim"), "-f", "-x", str(config)], base / "log")
    process.ready("OpenDKIM listens", lambda: answers(port))
    return process
