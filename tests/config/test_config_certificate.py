"""The certificate and key of the settings, judged before anything listens."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tls"))

from tls_certificates import Pair, make

from mtad.config import Address, Config, ConfigErrors, load

DAY = 86400.0
NOW = 1_700_000_000.0


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make(tmp_path / "tls", start=NOW - DAY, end=NOW + 90 * DAY)


def read(root: Path, now: float = NOW, hostname: str = "mail.example.test") -> Config:
    (root / "mtad.toml").write_text(
        f'hostname = "{hostname}"\ndomains = ["example.test"]\n[tls]\ncert = "tls/cert.pem"\nkey = "tls/key.pem"\n'
    )
    return load(str(root), environ={}, uid=12345, clock=lambda: now)


def problem(root: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        read(root)
    [error] = caught.value.errors
    return str(error).replace(f"{root}/", "")


@pytest.mark.usefixtures("pair")
def test_a_good_pair_turns_submission_on(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config.warnings == ()
    assert config.tls.cert == f"{tmp_path}/tls/cert.pem"
    assert config.listen.submission == (Address("127.0.0.1", 2587),)
    assert config.listen.submissions == (Address("127.0.0.1", 2465),)


@pytest.mark.usefixtures("pair")
def test_expiry_and_names_are_warnings(tmp_path: Path) -> None:
    assert "expires in 6.5 days" in read(tmp_path, NOW + 83.5 * DAY).warnings[0]
    assert "has expired" in read(tmp_path, NOW + 91 * DAY).warnings[0]
    assert "is not for mx.other.test but for mail.example.test" in read(tmp_path, hostname="mx.other.test").warnings[0]


def test_a_key_that_everybody_reads_is_a_warning(tmp_path: Path, pair: Pair) -> None:
    pair.key.chmod(0o644)
    assert "open to everybody" in read(tmp_path).warnings[0]


def test_broken_pairs(tmp_path: Path, pair: Pair) -> None:
    good = pair.key.read_bytes()
    other = make(tmp_path / "other", start=NOW - DAY, end=NOW + DAY)
    pair.key.write_bytes(other.key.read_bytes())
    assert problem(tmp_path) == "tls.key: tls/key.pem does not belong to the certificate tls/cert.pem"
    pair.key.write_bytes(b"nonsense")
    assert problem(tmp_path).startswith("tls.key: tls/key.pem cannot be used: ")
    locked = make(tmp_path / "locked", start=NOW - DAY, end=NOW + DAY, password=b"geheim")
    pair.key.write_bytes(locked.key.read_bytes())
    assert problem(tmp_path).startswith("tls.key: tls/key.pem has a passphrase")
    pair.key.write_bytes(b"")
    assert problem(tmp_path) == "tls.key: tls/key.pem is empty"
    pair.key.write_bytes(good)
    pair.cert.write_bytes(good)
    assert problem(tmp_path) == "tls.cert: tls/cert.pem holds no PEM certificate"
    pair.cert.unlink()
    assert problem(tmp_path) == "tls.cert: tls/cert.pem cannot be read: No such file or directory"
