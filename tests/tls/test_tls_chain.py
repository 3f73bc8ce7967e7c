"""What is said about a chain: whole, incomplete, in the wrong order, over, for another name, with another key."""

import datetime as dt
import time
from pathlib import Path

import pytest
from private_ca import DAY, Holder, make

from mtad.tls import chain

NAME = "mail.example.test"


@pytest.fixture(scope="module")
def root() -> Holder:
    return make("Test Root", ca=True, end=365 * DAY)


@pytest.fixture(scope="module")
def middle(root: Holder) -> Holder:
    return make("Test Intermediate", root, ca=True, end=365 * DAY)


@pytest.fixture(scope="module")
def leaf(middle: Holder) -> Holder:
    return make(NAME, middle, end=60 * DAY)


def examined(folder: Path, one: Holder, *more: Holder) -> chain.Examined:
    cert, key = one.write(folder, *more)
    return chain.examine(str(cert), str(key), NAME, time.time())


def test_a_certificate_without_a_subject_is_shown_by_its_names(root: Holder) -> None:
    """As authorities for all make them now: the names are in subjectAltName alone."""
    one = make("", root, names=(NAME, "mail.other.test"))
    assert [link.subject for link in chain.links([one.der])] == [f"{NAME}, mail.other.test"]


def test_a_whole_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Holder, middle: Holder, leaf: Holder
) -> None:
    (tmp_path / "ca.pem").write_bytes(root.pem())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    found = examined(tmp_path, leaf, middle)
    assert (found.matches, found.distrust, found.problems) == (True, "", ())
    assert [(link.subject, link.key) for link in found.links] == [
        (f"CN={NAME}", "EC secp256r1"),
        ("CN=Test Intermediate", "EC secp256r1"),
    ]
    found = examined(tmp_path, leaf)
    assert found.distrust == "unable to get local issuer certificate"
    assert found.problems[0].startswith("clients do not know CN=Test Intermediate: its certificate is missing")
    found = examined(tmp_path, leaf, root, middle)
    assert any("certificate 2 did not issue certificate 1" in problem for problem in found.problems)
    assert examined(tmp_path, leaf, middle, root).problems == ("the root CN=Test Root need not be sent",)


@pytest.mark.parametrize(
    ("names", "end", "said"),
    [
        ((NAME,), dt.timedelta(days=5), "it expires in 5.0 days"),
        ((NAME,), -dt.timedelta(hours=12), "it has expired 0.5 days ago"),
        (("other.test",), 60 * DAY, f"it is not for {NAME} but for other.test"),
        ((), 60 * DAY, f"it is not for {NAME} but for no name"),
        (("*.example.test",), 60 * DAY, ""),
    ],
)
def test_dates_and_names(tmp_path: Path, root: Holder, names: tuple[str, ...], end: dt.timedelta, said: str) -> None:
    one = make(NAME, root, names=names, end=end)
    found = chain.faults(chain.links([one.der]), NAME, time.time())
    assert found == [said] * bool(said)


def test_files_that_are_no_pair(tmp_path: Path, root: Holder, leaf: Holder) -> None:
    cert, _ = leaf.write(tmp_path / "a")
    _, key = root.write(tmp_path / "b")
    found = chain.examine(str(cert), str(key), NAME, time.time())
    assert (found.matches, found.problems[0]) == (False, f"{key} does not belong to the certificate {cert}")
    (tmp_path / "none.pem").write_bytes(b"\xff\x00 -----BEGIN CERTIFICATE----- x")
    found = chain.examine(str(tmp_path / "none.pem"), str(key), NAME, time.time())
    assert (found.links, found.matches) == ((), False)
    assert "cannot be read: No such file" in chain.examine("/nonexistent", str(key), NAME, 0).problems[0]
    found = examined(tmp_path, make(NAME, end=60 * DAY))
    assert found.problems == ("it is self-signed: mail programs warn, and servers that verify refuse it",)
