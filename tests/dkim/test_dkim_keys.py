import base64
import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from mtad.dkim import ledger
from mtad.dkim.keys import DkimKeyError, Keys, SigningKey, parse, record, strings
from mtad.dkim.rotation import KeyState, Stage

NOW = 1_700_000_000.0  # 2023-11-14


def pem(private: object, password: bytes = b"") -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    octets = private.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
    )
    assert isinstance(octets, bytes)
    return octets


def test_both_algorithms_and_what_lies_on_disk(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path / "dkim"))
    assert keys.load() == []
    made = keys.generate("Example.TEST", algorithm="both", now=NOW)
    assert [(key.selector, key.algorithm, key.bits) for key in made] == [
        ("s20231114", "rsa", 2048), ("s20231114-ed", "ed25519", 256),
    ]  # fmt: skip
    assert made[0].name == "s20231114._domainkey.example.test"
    assert keys.keys("example.test") == ()  # not before they are loaded
    assert keys.load() == []
    assert [key.algorithm for key in keys.keys("example.test")] == ["rsa", "ed25519"]
    assert keys.keys("other.test") == keys.keys("sub.example.test") == ()
    assert list(keys.list()) == made
    folder = tmp_path / "dkim" / "example.test"
    assert sorted(os.listdir(folder)) == ["s20231114-ed.pem", "s20231114.pem", "state.json"]
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o600"}
    assert {oct(path.stat().st_mode & 0o777) for path in (folder, folder.parent)} == {"0o700"}
    assert (folder / "s20231114.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert "PRIVATE" not in repr(keys.keys("example.test")[0])


def test_the_records(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "s", "both", NOW)
    keys.load()
    first, second = keys.keys("example.test")
    assert record(first).startswith("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA")
    public = second.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert record(second) == f"v=DKIM1; k=ed25519; p={base64.b64encode(public).decode()}"
    parts = strings(record(first))
    assert [len(part) for part in parts] == [255, len(record(first)) - 255]
    assert "".join(parts) == record(first)
    assert strings("x" * 255) == ["x" * 255]


def test_default_selectors_do_not_collide(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    names = [key.selector for _ in range(3) for key in keys.generate("example.test", algorithm="ed25519", now=NOW)]
    assert names == ["s20231114", "s20231114b", "s20231114c"]
    assert [key.selector for key in keys.generate("other.test", algorithm="ed25519", now=NOW)] == ["s20231114"]


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "s1", "ed25519", NOW)
    before = (tmp_path / "example.test" / "s1.pem").read_bytes()
    with pytest.raises(DkimKeyError, match="has a key at selector s1 already"):
        keys.generate("example.test", "S1", "rsa", NOW)
    assert (tmp_path / "example.test" / "s1.pem").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "example.test")) == ["s1.pem", "state.json"]


@pytest.mark.parametrize("selector", ["../k", "a/b", ".", "..", "-a", "a b", "a\0", "ä", "a" * 64, "a..b"])
def test_selectors_stay_in_their_directory(tmp_path: Path, selector: str) -> None:
    with pytest.raises(DkimKeyError, match="is no selector"):
        Keys(str(tmp_path / "dkim")).generate("example.test", selector, "ed25519", NOW)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("domain", ["../x", "a/b", "..", "", "a b", "[127.0.0.1]", "a\0.test", "-.test"])
def test_domains_stay_in_their_directory(tmp_path: Path, domain: str) -> None:
    with pytest.raises(DkimKeyError):
        Keys(str(tmp_path / "dkim")).generate(domain, "s", "ed25519", NOW)
    assert os.listdir(tmp_path) == []


def test_a_wide_domain_is_kept_as_a_labels(tmp_path: Path) -> None:
    [made] = Keys(str(tmp_path)).generate("bücher.test", "s", "ed25519", NOW)
    assert made.domain == "xn--bcher-kva.test"


def test_bad_files_are_reported_and_the_good_ones_sign(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "good", "ed25519", NOW)
    folder = tmp_path / "example.test"
    bad = {
        "empty": b"",
        "garbage": b"not a key",
        "curve": pem(ec.generate_private_key(ec.SECP256R1())),
        "locked": pem(ed25519.Ed25519PrivateKey.generate(), b"secret"),
        "huge": b"x" * 40_000,
        "Bad_Name": pem(ed25519.Ed25519PrivateKey.generate()),
    }
    for name, octets in bad.items():
        (folder / f"{name}.pem").write_bytes(octets)
        (folder / f"{name}.pem").chmod(0o600)
    (folder / "notes.txt").write_text("ignored")
    (tmp_path / "stray.pem").write_text("ignored")
    problems = keys.load()
    assert {Path(problem.partition(":")[0]).stem for problem in problems} == set(bad)
    assert [key.selector for key in keys.keys("example.test")] == ["good"]


def test_short_keys() -> None:
    with pytest.raises(DkimKeyError, match="512 bits are too few"):
        parse("example.test", "s", "x", small_rsa())
    weak = rsa.generate_private_key(65537, 1024)
    assert parse("example.test", "s", "x", pem(weak)).bits == 1024


def small_rsa() -> bytes:
    """`cryptography` makes no such key any more; the openssl command still does."""
    done = subprocess.run(["openssl", "genrsa", "512"], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("openssl is not there, or makes no 512-bit key")
    return done.stdout


def test_a_weak_or_open_key_signs_but_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "example.test").mkdir()
    path = tmp_path / "example.test" / "old.pem"
    path.write_bytes(pem(rsa.generate_private_key(65537, 1024)))
    path.chmod(0o644)
    keys = Keys(str(tmp_path))
    problems = keys.load()
    assert [problem.removeprefix(f"{path}: ") for problem in problems] == [
        "is open to others than its owner (chmod 600)",
        "1024 bits are few; make a new key of 2048",
    ]
    assert len(keys.keys("example.test")) == 1


def test_load_reads_only_what_changed(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "a", "ed25519", NOW)
    keys.load()
    [before] = keys.keys("example.test")
    keys.generate("example.test", "b", "ed25519", NOW, at_once=True)
    keys.load()
    after = {key.selector: key for key in keys.keys("example.test")}
    assert after["a"].private is before.private
    (tmp_path / "example.test" / "a.pem").unlink()
    keys.load()
    assert [key.selector for key in keys.keys("example.test")] == ["b"]


def test_a_key_signs(tmp_path: Path) -> None:
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "s", "both", NOW)
    keys.load()
    for key in keys.keys("example.test"):
        assert isinstance(key, SigningKey)
        assert len(key.sign(b"octets")) == (256 if key.algorithm == "rsa" else 64)


def test_a_directory_that_cannot_be_listed_holds_no_fewer_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process is out of descriptors for a moment: the rotation must not be taken for half made."""
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "s1", "ed25519", NOW)
    keys.rotate("example.test", "s2", now=NOW)
    keys.load()
    before = (tmp_path / "example.test" / "state.json").read_bytes()
    listdir = os.listdir

    def broken(folder: str) -> list[str]:
        if folder.endswith("example.test"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", broken)
    with pytest.raises(DkimKeyError, match=r"example.test: cannot be read: Too many open files$"):
        keys.change("example.test", lambda ring: (ring, []))
    monkeypatch.undo()
    assert (tmp_path / "example.test" / "state.json").read_bytes() == before
    keys.change("example.test", lambda ring: (ring, []))
    assert [(key.selector, key.replaces) for key in keys.ring("example.test").keys] == [("s1", ()), ("s2", ("s1",))]


def test_what_a_crash_left_of_a_key_does_not_stop_the_next(tmp_path: Path) -> None:
    """In a container the process has the same number every time."""
    (tmp_path / "example.test").mkdir()
    left = tmp_path / "example.test" / f".s1.pem.{os.getpid()}.tmp"
    left.write_text("half a key")
    Keys(str(tmp_path)).generate("example.test", "s1", "ed25519", NOW)
    assert not left.exists()


def test_keys_that_nobody_removes_from_dns_do_not_add_up_without_end(tmp_path: Path) -> None:
    """The state with all of them must stay one that can be read: without it, every key signs."""
    keys = Keys(str(tmp_path))
    keys.generate("example.test", "s0", "ed25519", NOW)
    ring = ledger.read(str(tmp_path), "example.test")
    assert ring is not None
    old = [KeyState(f"s{n}", "rsa", Stage.RETIRING, NOW, NOW, "x" * 400, until=NOW) for n in range(1, 200)]
    ledger.write(str(tmp_path), replace(ring, keys=(*ring.keys, *old)))
    with pytest.raises(DkimKeyError, match=r"^example.test has 200 keys, 199 of which wait for the removal of their"):
        keys.rotate("example.test", "s200", now=NOW)
    assert keys.load() == []
    assert [key.selector for key in keys.keys("example.test")] == ["s0"]
