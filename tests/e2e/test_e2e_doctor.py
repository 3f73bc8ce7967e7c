"""The doctor on a host that runs and on one that does not; test mails that are followed to their end."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from peer_knot import Knot, txt
from peer_mtad import BIN, Make, Mtad
from peer_postfix import Postfix

from mtad.doctor.finding import CHECKS

sys.path.append(str(Path(__file__).resolve().parents[1] / "tls"))

import tls_certificates

pytestmark = pytest.mark.peer

TLS = '[tls]\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\n'
OURS = "192.0.2.10"


def examined(host: Mtad, *words: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and what `doctor --json` says, by id."""
    done = host.mtactl("doctor", "--json", *words, check=False)
    assert done.stderr == "", done.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for row in map(json.loads, done.stdout.splitlines()):
        assert set(row) == {"id", "grade", "what", "why", "fix"}
        assert row["id"] in CHECKS or row["id"].startswith(("dns.", "ask.")), row
        found.setdefault(row["id"], []).append(row)
    return done.returncode, found


def grades(found: dict[str, list[dict[str, str]]], *checks: str) -> dict[str, str]:
    return {check: " ".join(dict.fromkeys(row["grade"] for row in found[check])) for check in checks}


def test_a_host_that_runs(mtad: Make, short_dir: Path, tmp_path: Path) -> None:
    host = mtad(listeners=("smtp", "submission", "submissions"), extra=TLS)
    tls_certificates.make(host.root / "tls", start=time.time() - 60, end=time.time() + 5.01 * 86400)
    host.mtactl("dkim", "generate", "example.test")
    host.start()
    host.mtactl("user", "add", "alice", text="a long enough password\n")
    subprocess.run(
        [Path(__file__).resolve().parents[2] / "scripts" / "backup.sh", tmp_path],
        env={"PATH": os.environ["PATH"], "MTA_ROOT": str(host.root), "MTACTL": str(BIN / "mtactl")},
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    code, found = examined(host, "--offline", "--self-mail", "--user", "alice", "--backups", str(tmp_path))
    assert code == int(any(row["grade"] == "error" for rows in found.values() for row in rows))
    assert grades(
        found, "mail.smtp", "mail.local", "mail.submission", "mail.submissions", "mail.dkim", "dkim.keys", "queue.size",
        "backup.age", "backup.verified", "listen.owner", "users.limits", "version.daemon", "files.keys",
    ) == dict.fromkeys(
        ("mail.smtp", "mail.local", "mail.submission", "mail.submissions", "mail.dkim", "dkim.keys", "queue.size",
         "backup.age", "backup.verified", "listen.owner", "users.limits", "version.daemon", "files.keys"), "ok",
    )  # fmt: skip
    assert grades(found, "tls.certificate", "tls.expiry", "listen.smtp") == dict.fromkeys(
        ("tls.certificate", "tls.expiry", "listen.smtp"), "warning"
    )
    assert grades(found, "dns.check", "listen.out", "resolver.answers") == dict.fromkeys(
        ("dns.check", "listen.out", "resolver.answers"), "question"
    )
    assert found["tls.expiry"][0]["what"].endswith("expires in 5.0 days")
    assert not host.rows("user", "app-password", "list", "alice")
    assert len(host.mails("postmaster", 4)) == 4
    # The text: problems with their fix, and how much is fine.
    shown = host.mtactl("doctor", "--only", "tls", "--only", "dkim.keys", check=False)
    assert "  warning  tls.expiry" in shown.stdout
    assert "-> certbot renew; mtactl --root" in shown.stdout
    assert "  ok       dkim.keys" in shown.stdout
    assert shown.returncode == 0


def test_a_host_that_does_not_run(mtad: Make) -> None:
    host = mtad(listeners=("smtp",))
    code, found = examined(host, "--offline")
    assert code == 1
    [row] = examined(host, "--only", "mail", "--self-mail", "--user", "alice")[1]["mail.local"]
    assert row["grade"] == "error"
    assert grades(found, "service.running", "listen.smtp", "tls.certificate", "dkim.keys") == dict.fromkeys(
        ("service.running", "listen.smtp", "tls.certificate", "dkim.keys"), "error"
    )
    assert host.mtactl("doctor", "--only", "tls.expire", check=False).returncode == 64
    assert (
        "there is no check 'tls.expire'; tls.expiry?"
        in host.mtactl("doctor", "--only", "tls.expire", check=False).stderr
    )


@pytest.fixture
def signing(mtad: Make, knot: Callable[[str], Knot], postfix: Postfix) -> Mtad:
    """A host whose DNS is as it should be, and Postfix as the MX of remote.test."""
    host = mtad(mx_port=postfix.port)
    keys = host.rows("dkim", "generate", "example.test")
    records = "".join(f"{key['name'].removesuffix('.example.test')} 60 TXT {txt(key['record'])}\n" for key in keys)
    server = knot(
        f"@ 60 MX 10 mail\nmail 60 A {OURS}\n@ 60 TXT {txt(f'v=spf1 ip4:{OURS} -all')}\n"
        f"_dmarc 60 TXT {txt('v=DMARC1; p=reject')}\n{records}"
    )
    settings = host.root / "mtad.toml"
    place = f'["127.0.0.1:{server.port}"]'
    settings.write_text(
        settings.read_text().replace('["127.0.0.1:9"]', f'{place}\nauthorities = {place}\naddresses = ["{OURS}"]')
    )
    return host.start()


def test_a_mail_is_judged_and_followed(signing: Mtad, postfix: Postfix) -> None:
    done = signing.mtactl("send-test", "bob@remote.test", "--json", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == ["accepted", "head", "verdicts", "attempt", "outcome"]
    verdicts = [(one["check"], one["result"]) for one in rows[2]["verdicts"]]
    assert verdicts == [("SPF", "pass"), ("DKIM", "pass"), ("DKIM", "pass"), ("DMARC", "pass")]
    assert rows[2]["good"] is True
    assert rows[2]["verdicts"][-1]["why"] == "example.test by SPF and DKIM, policy reject of example.test"
    assert (rows[3]["code"], rows[4]["outcome"]) == (250, "delivered")
    (mail,) = postfix.mails()
    assert rows[0]["message_id"].encode() in mail
    assert rows[1]["head"].count("DKIM-Signature:") == 2
    # What that host offers, and what is asked of it.
    [row] = signing.rows("tls", "test", "remote.test")
    assert (row["where"], row["needs"]) == (f"mx.remote.test:{postfix.port}", "may (opportunistic)")
    assert row["problems"] == []
    assert row["result"] == ("mail goes encrypted" if row["protocol"] else "mail goes in the clear")
    gone = signing.mtactl("tls", "test", "null.test", check=False)
    assert (gone.returncode, "556 5.1.10" in gone.stderr) == (1, True)
    # Mails that do not arrive.
    failed = signing.mtactl("send-test", "bob@null.test", check=False)
    assert failed.returncode == 69, failed.stdout + failed.stderr
    assert "\nfailed: The domain accepts no mail" in failed.stdout
    assert "  DMARC  pass" in failed.stdout
    waits = signing.mtactl("send-test", "bob@dangling.test", "--timeout", "1s", check=False)
    assert waits.returncode in (69, 75), waits.stdout + waits.stderr
    refused = signing.mtactl("send-test", "nobody@example.test", check=False)
    assert (refused.returncode, "550 5.1.1" in refused.stderr) == (69, True)
    signing.stop()
    assert signing.mtactl("send-test", "a@b.test", check=False).returncode == 69
