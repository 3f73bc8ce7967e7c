"""TLSA records against the certificates of a host (RFC 7671, 7672)."""

import datetime as dt
import hashlib
import os
import ssl
import time

import private_ca
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.tls import dane
from mtad.tls.dane import Tlsa
from mtad.tls.requirement import Requirement

NAMES = ("mx.example.org", "example.org")


class Pki:
    def __init__(self) -> None:
        self.root = private_ca.make("root", ca=True)
        self.middle = private_ca.make("middle", self.root, ca=True, path_length=0)
        self.leaf = private_ca.make("mx.example.org", self.middle)
        self.other = private_ca.make("other", ca=True)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def record(usage: int, selector: int, matching: int, holder) -> Tlsa:
    octets = holder.spki if selector else holder.der
    digest = {0: lambda data: data, 1: lambda d: hashlib.sha256(d).digest(), 2: lambda d: hashlib.sha512(d).digest()}
    return Tlsa(usage, selector, matching, digest[matching](octets))


def verify(chain, *records, names=NAMES, now=None) -> str:
    """The kind of what is wrong."""
    der = [holder.der for holder in chain]
    fault = dane.verify(der, dane.usable(records), names, time.time() if now is None else now)
    return fault.result if fault else ""


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_3_asks_for_the_very_certificate_and_nothing_else(pki, selector, matching):
    old = private_ca.make("elsewhere.example", start=dt.timedelta(-9), end=dt.timedelta(-3))
    assert verify([old], record(3, selector, matching, old)) == ""
    assert verify([pki.leaf, pki.middle], record(3, selector, matching, old)) == "validation-failure"
    # One of several is enough, and the one of tomorrow may be among them.
    assert verify([old], record(3, 1, 1, pki.leaf), record(3, selector, matching, old)) == ""
    # An authority is no certificate of the host.
    assert verify([pki.leaf, pki.middle], record(3, selector, matching, pki.middle)) == "validation-failure"


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_usage_2_asks_for_a_path_to_the_authority(pki, selector, matching):
    whole = [pki.leaf, pki.middle, pki.root]
    assert verify(whole, record(2, selector, matching, pki.root)) == ""
    assert verify(whole[:2], record(2, selector, matching, pki.middle)) == ""
    assert verify(reversed_tail(whole), record(2, selector, matching, pki.root)) == ""
    assert verify(whole, record(2, selector, matching, pki.other)) == "certificate-not-trusted"
    # Sent along, but it signed nothing here.
    assert verify([pki.leaf, pki.other], record(2, selector, matching, pki.other)) == "certificate-not-trusted"
    # The host's own certificate is no authority.
    assert verify([pki.leaf], record(2, selector, matching, pki.leaf)) == "certificate-not-trusted"


def reversed_tail(chain):
    return [chain[0], *reversed(chain[1:])]


def test_an_authority_that_the_record_holds_in_full_need_not_be_sent(pki):
    assert verify([pki.leaf], record(2, 0, 0, pki.middle)) == ""
    assert verify([pki.leaf], record(2, 1, 0, pki.middle)) == ""
    assert verify([pki.leaf, pki.middle], record(2, 1, 0, pki.root)) == ""
    assert verify([pki.leaf], record(2, 1, 0, pki.other)) == "certificate-not-trusted"
    assert verify([pki.leaf], record(2, 0, 1, pki.middle)) == "certificate-not-trusted"


def test_usage_2_minds_names_and_dates(pki):
    trust = record(2, 1, 1, pki.middle)
    chain = [pki.leaf, pki.middle]
    assert verify(chain, trust, names=("mx.other.example",)) == "certificate-host-mismatch"
    assert verify(chain, trust, names=("mx.other.example", "mx.example.org")) == ""
    assert verify(chain, trust, now=time.time() + 3 * 86400) == "certificate-expired"
    assert verify(chain, trust, now=time.time() - 3 * 86400) == "certificate-expired"
    wild = private_ca.make("x", pki.middle, names=("*.example.org",))
    assert verify([wild, pki.middle], trust) == ""
    assert verify([wild, pki.middle], trust, names=("a.b.example.org",)) == "certificate-host-mismatch"
    bare = private_ca.make("mx.example.org", pki.middle, names=())
    assert verify([bare, pki.middle], trust) == ""


def test_who_may_not_sign_is_no_authority(pki):
    no_ca = private_ca.make("no authority", pki.root)
    below = private_ca.make("mx.example.org", no_ca)
    assert verify([below, no_ca, pki.root], record(2, 1, 1, pki.root)) == "certificate-not-trusted"
    mute = private_ca.make("mute", pki.root, ca=True, signs=False)
    assert verify([private_ca.make("mx.example.org", mute), mute], record(2, 1, 1, mute)) == "certificate-not-trusted"
    deep = private_ca.make("too deep", pki.middle, ca=True)
    chain = [private_ca.make("mx.example.org", deep), deep, pki.middle, pki.root]
    assert verify(chain, record(2, 1, 1, pki.root)) == "certificate-not-trusted"  # pathlen 0 of the one in between
    assert verify(chain, record(2, 1, 1, deep)) == ""


@pytest.mark.parametrize(
    ("tlsa", "good"),
    [
        (Tlsa(3, 1, 1, bytes(32)), True),
        (Tlsa(2, 0, 2, bytes(64)), True),
        (Tlsa(3, 0, 0, b"x"), True),
        (Tlsa(0, 1, 1, bytes(32)), False),
        (Tlsa(1, 1, 1, bytes(32)), False),
        (Tlsa(255, 1, 1, bytes(32)), False),
        (Tlsa(3, 2, 1, bytes(32)), False),
        (Tlsa(3, 1, 3, bytes(32)), False),
        (Tlsa(3, 1, 1, bytes(31)), False),
        (Tlsa(3, 1, 2, bytes(32)), False),
        (Tlsa(3, 1, 0, b""), False),
    ],
)
def test_which_records_count(tlsa, good):
    assert dane.usable([tlsa]) == ((tlsa,) if good else ())


def test_pins_are_of_keys(pki):
    assert dane.key_digest(pki.leaf.der) == hashlib.sha256(pki.leaf.spki).digest()


@given(st.lists(st.binary(max_size=80), max_size=3), st.lists(st.binary(max_size=64), max_size=3))
def test_garbage_is_a_fault(chain, data):
    records = [Tlsa(usage, selector, 0, octets) for octets in data for usage in (2, 3) for selector in (0, 1)]
    assert dane.verify(chain, dane.usable(records), NAMES, 0) is not None


def test_a_cut_certificate_is_a_fault(pki):
    for _ in range(50):
        octets = bytearray(pki.leaf.der)
        octets[os.urandom(1)[0] % len(octets)] ^= 1 << os.urandom(1)[0] % 8
        dane.verify([bytes(octets), pki.middle.der], [record(2, 1, 1, pki.middle)], NAMES, time.time())


def test_the_whole_chain_of_a_peer_is_seen(pki, tmp_path):
    """On this Python, whichever way it has to the certificates that were sent."""
    server = pki.leaf.context(tmp_path, pki.middle)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert dane.peer_chain(ours) == (pki.leaf.der, pki.middle.der)


def test_a_key_of_a_kind_that_nobody_knows_is_no_error_of_ours(pki: Pki) -> None:
    """Another host may be tried; and in between it does not hide a path that is good."""
    curve, unknown = (bytes.fromhex(one) for one in ("2a8648ce3d030107", "2a8648ce3d03010f"))
    odd_root, odd_leaf = (one.der.replace(curve, unknown) for one in (pki.other, pki.leaf))
    anchor = record(2, 0, 1, pki.root)
    chain = (pki.leaf.der, odd_root, pki.middle.der, pki.root.der)
    assert dane.verify(chain, (anchor,), NAMES, time.time()) is None
    shown = dane.verify((odd_leaf,), (record(3, 1, 1, pki.leaf),), NAMES, time.time())
    assert shown is not None
    assert shown.result == "validation-failure"
    pinned = Requirement("pinned", pins=("00",))
    fault = pinned.check((odd_leaf,), "mx.example.org", time.time())
    assert fault is not None
    assert fault.result == "validation-failure"
