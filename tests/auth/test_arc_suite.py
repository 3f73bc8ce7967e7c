"""Chains of ARC: the shared suite of the protocol's authors."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtad.auth import arc

SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "arc-valimail" / "arc-draft-validation-tests.yml"


def cases() -> list[Any]:
    if not SUITE.is_file():
        return [pytest.param({}, {}, marks=pytest.mark.skip(reason="the shared suites are not here"))]
    found = []
    for scenario in yaml.safe_load_all(SUITE.read_text()):
        records = scenario.get("txt-records") or scenario.get("txt_records") or {}
        found += [pytest.param(case, records, id=name) for name, case in scenario["tests"].items()]
    return found


@pytest.mark.parametrize(("case", "records"), cases())
def test_the_suite(case: Mapping[str, Any], records: Mapping[str, str]) -> None:
    message = (case["message"] or "").replace("\n", "\r\n").encode()
    result = arc.verify(message, lambda name: [records[name]] if name in records else [])
    # Where the suite leaves it open the newest seal says cv=fail, or an older one does: broken (RFC 8617 5.2).
    expected = "none" if case["cv"] == "None" else str(case["cv"]).strip().lower() or "fail"
    assert result.verdict == expected, result


CHAIN = (
    b"ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=s; b=AAAA\r\n"
    b"ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s; h=from; bh=AAAA; b=AAAA\r\n"
    b"ARC-Authentication-Results: i=1; example.org; none\r\n"
)
MAIL = b"From: a@example.org\r\n\r\ntext\r\n"


@given(st.integers(0, len(CHAIN)), st.binary(max_size=20))
def test_garbage_is_a_broken_chain(at: int, noise: bytes) -> None:
    result = arc.verify(CHAIN[:at] + noise + CHAIN[at:] + MAIL, lambda name: ["v=DKIM1; p=AAAA"])
    assert result.verdict in ("fail", "none")
    assert result.reason.isprintable()


def test_a_lookup_that_fails_is_temporary() -> None:
    body = base64.b64encode(hashlib.sha256(b"text\r\n").digest())

    def lookup(name: str) -> list[str]:
        raise TimeoutError

    result = arc.verify(CHAIN.replace(b"bh=AAAA", b"bh=" + body) + MAIL, lookup)
    assert (result.verdict, result.sealers) == ("temperror", ("example.org",))
