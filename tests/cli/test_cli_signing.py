"""Keys of other programs and mails in files, on a stopped daemon's data; rotations through a running one."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cli_run import Run
from control_daemon import Daemon

from mtad.dkim import ledger
from mtad.dkim.verify import verify

MAIL = "From: Alice <alice@example.test>\nTo: bob@example.net\nSubject: hi\n\ntext\n"


@pytest.fixture
def root(short_dir: Path) -> Path:
    (short_dir / "mtad.toml").write_text(
        'hostname = "mail.example.test"\ndomains = ["example.test"]\n[listen]\nsmtp = []\n'
        '[dns]\nservers = ["127.0.0.1:9"]\ntimeout = "0.2s"\n'
    )
    return short_dir


def openssl(path: Path, bits: int) -> Path:
    """A key as the checklist makes it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", "genrsa", "-out", str(path), str(bits)], check=True, capture_output=True)
    return path


def test_a_key_of_openssl(here: Run, root: Path) -> None:
    key = openssl(root / "default.private", 2048)
    done = here("dkim", "import", "example.test", str(key))
    assert done.returncode == 0, done.stderr
    [row] = [json.loads(line) for line in here("dkim", "list", "--json").stdout.splitlines()]
    assert (row["selector"], row["bits"], row["stage"]) == ("default", 2048, "active")
    copy = root / "data" / "dkim" / "example.test" / "default.pem"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert here("dkim", "export", "example.test").stdout == copy.read_text()
    assert here("dkim", "import", "example.test", str(key)).returncode == 73  # the selector is taken
    # Signed here, and good by its record; what cannot be looked up is no pass.
    signed = here("dkim", "sign", "-", stdin=MAIL)
    assert signed.stdout.endswith(MAIL), signed.stderr
    octets = signed.stdout.replace("\n", "\r\n").encode()
    assert [one.result for one in verify(octets, lambda _: [row["record"]], 2e9)] == ["pass"]
    judged = here("dkim", "verify", "-", stdin=signed.stdout)
    assert judged.returncode == 1
    assert judged.stdout.startswith("temperror  default._domainkey.example.test")
    assert here("dkim", "verify", "-", stdin=MAIL).returncode == 1
    assert here("dkim", "sign", "-", stdin=MAIL.replace("example.test", "elsewhere.test")).returncode == 1
    assert here("dkim", "sign", "-", stdin="Subject: x\n\n").returncode == 65


def test_keys_that_are_refused(here: Run, root: Path) -> None:
    weak = openssl(root / "weak.private", 512)
    done = here("dkim", "import", "example.test", str(weak))
    assert (done.returncode, "512 bits are too few" in done.stderr) == (73, True)
    done = here("dkim", "import", "example.test", str(openssl(root / "small.private", 1024)))
    assert (done.returncode, "1024 bits are few: rotate soon" in done.stdout) == (0, True)
    assert here("dkim", "import", "example.test", str(root / "mtad.toml")).returncode == 64
    assert here("dkim", "import", "example.test", "/nonexistent").returncode == 65
    assert here("dkim", "import", "example.test", str(weak), "--selector", "../x").returncode in (64, 73)


def test_the_tables_of_opendkim(here: Run, root: Path) -> None:
    key = openssl(root / "od.private", 2048)
    (root / "KeyTable").write_text(f"main example.test:od:{key}\ngone example.test:x:{root}/nothing\n")
    (root / "SigningTable").write_text("*@example.test main\n*.sub.example.test main\n")
    done = here("dkim", "import-opendkim", str(root / "KeyTable"), "--signing-table", str(root / "SigningTable"))
    assert done.returncode == 65  # one of them is not there
    assert f"{root}/nothing: No such file" in done.stderr.replace("mtactl: ", "")
    assert "od._domainkey.example.test: signs from now on" in done.stdout
    assert '[[dkim.sign]]\nmatch = "*.sub.example.test"\nby = "example.test"' in done.stdout
    assert here("dkim", "import-opendkim", str(root / "mtad.toml")).returncode == 65


def test_a_rotation_by_words(here: Run, daemon: Daemon) -> None:
    assert here("dkim", "rotate", "example.test").returncode == 73  # there is no key
    here("dkim", "generate", "example.test", "--selector", "one", "--algorithm", "ed25519")
    done = here("dkim", "rotate", "example.test", "--selector", "two")
    assert (done.returncode, "switches by itself" in done.stderr) == (0, True)
    assert "two._domainkey.example.test. 3600 IN TXT" in done.stdout
    assert here("dkim", "rotate", "example.test").returncode == 73  # one at a time
    table = here("dkim", "status", "example.test").stdout.splitlines()
    assert [line.split()[1:4] for line in table[1:]] == [
        ["one", "ed25519", "active"],
        ["two", "ed25519", "pending"],
    ]
    assert here("dkim", "rotate", "example.test", "--abort", "--now").returncode == 64
    assert "two given up" in here("dkim", "rotate", "example.test", "--abort").stdout
    assert here("dkim", "rotate", "example.test", "--abort").returncode == 1
    assert here("dkim", "rotate", "example.test", "--schedule", "1h").returncode == 64
    assert "by itself from" in here("dkim", "rotate", "example.test", "--schedule", "30d").stdout
    assert here("dkim", "retire", "example.test", "--selector", "one").returncode == 1  # the only one
    done = here("dkim", "rotate", "example.test", "--now", "--selector", "three")
    assert "; three signs from now on" in done.stdout
    assert "one signs no more; keep its record until" in done.stdout
    assert [key.selector for key in daemon.bench.keys.keys("example.test")] == ["three"]
    assert here("dkim", "retire", "example.test", "--selector", "one").returncode == 1  # mail may carry it
    assert "destroyed" in here("dkim", "retire", "example.test", "--selector", "one", "--now").stdout
    assert here("dns", "push").returncode == 78
    assert here("dkim", "status", "nowhere.test").returncode == 1


def test_without_the_daemon_nobody_knows_what_mail_is_on_its_way(here: Run, root: Path) -> None:
    here("dkim", "generate", "example.test", "--selector", "one", "--algorithm", "ed25519")
    here("dkim", "rotate", "example.test", "--now", "--selector", "two")
    folder = str(root / "data" / "dkim")
    ring = ledger.read(folder, "example.test")
    assert ring is not None
    ledger.write(folder, replace(ring, keys=tuple(replace(key, until=1.0, since=1.0) for key in ring.keys)))
    [row] = [line for line in here("dkim", "status", "example.test").stdout.splitlines() if " one " in line]
    assert row.endswith("the daemon, which is not running")
    done = here("dkim", "retire", "example.test", "--selector", "one")
    assert (done.returncode, "mail on its way may carry the signature of one" in done.stderr) == (1, True)
    assert "destroyed" in here("dkim", "retire", "example.test", "--selector", "one", "--now").stdout
