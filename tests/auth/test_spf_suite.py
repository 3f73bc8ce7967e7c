"""The published test suite of RFC 7208, both editions, against our evaluator."""

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtad.auth import spf
from mtad.dns.resolver import DnsTemporary, NoData, NoSuchName

SUITES = Path(__file__).resolve().parents[3] / "shared" / "suites" / "spf-rfc7208"
FILES = ("rfc7208-tests.yml", "rfc7208-tests-2014.05-official.yml")


class Zone:
    """The zone of a scenario; TXT stands for SPF where none is given (the suite's own rule)."""

    def __init__(self, data: Mapping[str, Sequence[Any]]) -> None:
        self._data = {str(name).lower(): records for name, records in data.items()}

    def _records(self, name: str, kind: str, depth: int = 0) -> list[Any]:
        name = name.lower().removesuffix(".")
        if depth > 8:
            raise DnsTemporary(f"{name}: a loop of aliases")
        if name not in self._data:
            raise NoSuchName(name)
        found: list[Any] = []
        stated = any(isinstance(record, dict) and "TXT" in record for record in self._data[name])
        silent = False
        for record in self._data[name]:
            if record == "TIMEOUT":
                silent = True
                continue
            for its, value in record.items():
                if its == kind or (its == "SPF" and kind == "TXT" and not stated):
                    if value == "TIMEOUT":
                        raise DnsTemporary(name)
                    if value != "NONE":
                        found.append(value)
                elif its == "CNAME":
                    return self._records(value, kind, depth + 1)
        if found:
            return found
        if silent:
            raise DnsTemporary(name)
        raise NoData(name)

    async def txt(self, name: str) -> list[bytes]:
        records = self._records(name, "TXT")
        return [("".join(one) if isinstance(one, list) else str(one)).encode("utf-8") for one in records]

    async def mx_names(self, name: str) -> list[str]:
        return [str(host) for _, host in self._records(name, "MX")]

    async def addresses_of(self, name: str, version: int) -> list[str]:
        return [str(one) for one in self._records(name, "A" if version == 4 else "AAAA")]

    async def names_of(self, ip: str) -> list[str]:
        return [str(one) for one in self._records(ip_address(ip).reverse_pointer, "PTR")]


def cases() -> Iterator[Any]:
    for file in FILES:
        if not (SUITES / file).exists():
            yield pytest.param({}, {}, marks=pytest.mark.skip(reason=f"{file} is not there"), id=file)
            continue
        for document in yaml.safe_load_all((SUITES / file).read_text()):
            for name, case in (document or {}).get("tests", {}).items():
                yield pytest.param(case, document["zonedata"], id=f"{file.split('.')[0][-12:]}-{name}")


@pytest.mark.parametrize(("case", "zone"), list(cases()))
async def test_the_suite(case: Mapping[str, Any], zone: Mapping[str, Any]) -> None:
    got = await spf.check(
        Zone(zone),
        str(case["host"]),
        str(case.get("mailfrom") or ""),
        str(case.get("helo") or ""),
        0.0,
        "receiver.test",
    )
    wanted = case["result"] if isinstance(case["result"], list) else [case["result"]]
    assert got.verdict in wanted, got
    if "explanation" in case and case["explanation"] != "DEFAULT" and got.verdict == wanted[0]:
        assert got.explanation == case["explanation"], got
