"""OpenDKIM's verdict on a mail: opendkim-testmsg with a resolver of our own, in namespaces of its own."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from peer_process import program

# opendkim-testmsg asks what /etc/resolv.conf names, at port 53. So it gets a file and a network of its own, and there a
# DNS server that knows the key.
INSIDE = """\
set -e
ip link set lo up
ip addr add 192.0.2.53/32 dev lo
mount --bind "$1/resolv.conf" /etc/resolv.conf
knotd -c "$1/knot.conf" >"$1/knot.log" 2>&1 &
knot=$!
trap 'kill $knot; wait $knot' EXIT
for n in $(seq 100); do
    kdig +short +timeout=1 @127.0.0.1 "$2" TXT 2>/dev/null | grep -q . && break
    sleep 0.05
done
for mail in "$1"/mails/*; do
    [ -f "$mail" ] || continue
    echo "== $(basename "$mail")"
    opendkim-testmsg -t "$1" <"$mail" 2>&1 || echo "exit $?"
done
[ ! -f "$1/key.pem" ] || opendkim-testkey -x "$1/opendkim.conf" -d "$3" -s "$4" -k "$1/key.pem" || echo "exit $?"
"""


def missing() -> str:
    absent = [
        name for name in ("opendkim-testmsg", "opendkim-testkey", "knotd", "kdig", "unshare", "ip") if not program(name)
    ]
    if absent:
        return f"{', '.join(absent)} not installed"
    if os.getuid() != 0:
        return "a network namespace needs root"
    probe = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False)
    return "" if probe.returncode == 0 else "network namespaces are not allowed here"


def complaint(base: Path, mail: bytes, name: str, record: str) -> str:
    """What opendkim-testmsg has against `mail` when `name` has the TXT `record`; "" when the signature verifies."""
    return complaints(base, [mail], name, record)[0]


def complaints(base: Path, mails: Sequence[bytes], name: str, record: str) -> list[str]:
    """The same of several mails."""
    said = _inside(base, mails, name, record)
    found = [part.partition("\n")[2].strip() for part in said.split("== ")[1:]]
    assert len(found) == len(mails), said
    return found


def key_complaint(base: Path, pem: bytes, name: str, record: str) -> str:
    """What opendkim-testkey has against a private key when `name` has the TXT `record`; "" when they match."""
    base.mkdir(parents=True, exist_ok=True)
    (base / "key.pem").write_bytes(pem)
    (base / "key.pem").chmod(0o600)
    (base / "opendkim.conf").write_text("Nameservers 192.0.2.53\n")  # libunbound asks nobody on loopback
    return _inside(base, [], name, record)


def _inside(base: Path, mails: Sequence[bytes], name: str, record: str) -> str:
    from peer_knot import SOA, txt
    from peer_process import SYSTEM_PATH

    base.mkdir(parents=True, exist_ok=True)
    selector, _, zone = name.partition("._domainkey.")
    (base / "run").mkdir(exist_ok=True)
    (base / "mails").mkdir(exist_ok=True)
    for number, mail in enumerate(mails):
        (base / "mails" / f"{number:04}").write_bytes(mail.replace(b"\r\n", b"\n"))  # it makes CRLF of LF
    (base / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:2\n")
    (base / f"{zone}.zone").write_text(SOA.format(zone=zone) + f"{name}. 60 TXT {txt(record)}\n")
    (base / "knot.conf").write_text(
        f"server:\n    rundir: {base / 'run'}\n    listen: [127.0.0.1@53, 192.0.2.53@53]\n"
        f"database:\n    storage: {base}\n"
        f'template:\n  - id: default\n    storage: {base}\n    file: "%s.zone"\n    journal-content: none\n'
        f"zone:\n  - domain: {zone}\n"
    )
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", INSIDE, "-", str(base), name, zone, selector],
        capture_output=True, env={"PATH": SYSTEM_PATH}, timeout=60, check=False,
    )  # fmt: skip
    said = (done.stdout + done.stderr).decode(errors="replace").strip()
    return said or ("" if done.returncode == 0 else f"exit {done.returncode}")
