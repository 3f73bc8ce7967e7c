"""`mtactl verify`: verdicts, the field, and exit codes, with DNS from a scripted server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_run import Run
from dns_thread import dns_thread

from mtad.dkim.keys import Keys
from mtad.dkim.sign import BodyHash, sign_all

MAIL = b"From: Alice <alice@example.test>\r\nTo: bob@example.net\r\nSubject: hi\r\n\r\ntext\r\n"


@pytest.fixture
def signed(short_dir: Path) -> Iterator[Path]:
    """A signed mail in a file, and a DNS server that has what it takes."""
    keys = Keys(str(short_dir / "keys"))
    keys.generate("example.test", "s1", "ed25519", 1.0)
    keys.load()
    [key] = keys.list()
    zone = (
        'example.test. TXT "v=spf1 ip4:192.0.2.1 -all"\n_dmarc.example.test. TXT "v=DMARC1; p=reject"\n'
        f'{key.name}. TXT "{key.record}"\nopen.test. TXT "v=spf1 ip4:192.0.2.1 -all"\n'
    )
    body = BodyHash()
    body.update(b"text\r\n")
    head = MAIL.removesuffix(b"text\r\n")
    path = short_dir / "mail.eml"
    path.write_bytes(sign_all(keys.keys("example.test"), head, body.digest(), 1) + MAIL)
    with dns_thread(zone) as server:
        (short_dir / "mtad.toml").write_text(
            'hostname = "mx.example.test"\ndomains = ["example.test"]\n[listen]\nsmtp = []\n'
            f'[dns]\nservers = ["127.0.0.1:{server.port}"]\ntimeout = "2s"\n'
        )
        yield path


def test_a_good_mail(here: Run, signed: Path) -> None:
    words = (
        "verify",
        str(signed),
        "--ip",
        "192.0.2.1",
        "--helo",
        "a.example.test",
        "--mail-from",
        "alice@example.test",
    )
    done = here(*words)
    assert done.returncode == 0, done.stderr
    assert (
        "Authentication-Results: mx.example.test;\n\tspf=pass smtp.mailfrom=alice@example.test;\n\tdkim=pass"
        in done.stdout
    )
    assert done.stdout.endswith("dmarc=pass (p=reject) header.from=example.test\n")
    row = json.loads(here(*words, "--json").stdout)
    assert row["spf"]["result"] == "pass"
    assert [one["result"] for one in row["dkim"]] == ["pass"]
    assert (row["dmarc"]["result"], row["dmarc"]["policy"]) == ("pass", "reject")
    assert row["dmarc"]["aligned_dkim"] == ["example.test"]
    assert row["arc"]["result"] == "none"


def test_a_forged_mail(here: Run, signed: Path) -> None:
    signed.write_bytes(signed.read_bytes().replace(b"text", b"other text"))
    words = ("verify", str(signed), "--ip", "203.0.113.9", "--mail-from", "alice@example.test", "--json")
    done = here(*words)
    assert done.returncode == 1
    row = json.loads(done.stdout)
    assert (row["spf"]["result"], row["dkim"][0]["result"], row["dmarc"]["result"]) == ("fail", "fail", "fail")


def test_a_domain_without_dmarc(here: Run, signed: Path) -> None:
    signed.write_bytes(b"From: a@open.test\n\ntext\n")
    assert here("verify", str(signed), "--ip", "192.0.2.1", "--mail-from", "a@open.test").returncode == 0
    assert here("verify", str(signed), "--ip", "192.0.2.2", "--mail-from", "a@open.test").returncode == 1
    assert here("verify", str(signed)).returncode == 1


@pytest.mark.parametrize(
    ("mail", "reason"),
    [
        ("To: b@example.net\n\ntext\n", "no From"),
        ("From: a@example.test\nFrom: b@example.test\n\ntext\n", "2 From fields"),
        ("From: a@example.test, b@other.test\n\ntext\n", "several domains"),
        ("From: nobody\n\ntext\n", "the address in From is none"),
        ("From: a@example.test," + "\n " * 40_000 + "b@other.test\n\ntext\n", "From is too long"),
    ],
)
def test_an_author_that_is_none(here: Run, signed: Path, mail: str, reason: str) -> None:
    done = here("verify", "-", "--json", stdin=mail)
    assert done.returncode == 1
    row = json.loads(done.stdout)
    assert row["dmarc"]["result"] == "permerror"
    assert reason in row["dmarc"]["reason"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--ip", "1.2.3"), "--ip: '1.2.3' is no IP address"),
        (("--mail-from", "a\nb@x"), "--mail-from: 'a\\nb@x' cannot stand there"),
        (("--helo", "a b"), "--helo: 'a b' cannot stand there"),
    ],
)
def test_bad_input(here: Run, signed: Path, words: tuple[str, ...], told: str) -> None:
    done = here("verify", str(signed), *words)
    assert (done.returncode, done.stderr) == (65, f"mtactl: {told}\n")


def test_names_that_the_mail_chooses_do_not_move_the_other_lines(here: Run, signed: Path) -> None:
    octets = signed.read_bytes().replace(b"d=example.test", b"d=" + b"a." * 120 + b"test").replace(b"text", b"other")
    done = here("verify", "-", stdin=(b"DKIM-Signature: odd; x\r\n" + octets).decode())
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [
        ["dkim", "permerror", "-._domainkey.-"],
        ["dkim", "permerror", "s1._domainkey." + "a." * 120 + "test"],
    ]
    assert max(len(line) for line in lines if line.startswith(("spf", "dmarc"))) < 160


def test_no_mail(here: Run, signed: Path) -> None:
    assert here("verify", "/nowhere").returncode == 65
    assert here("verify", "-", stdin=" \n").returncode == 65
