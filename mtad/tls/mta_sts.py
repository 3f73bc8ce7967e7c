"""MTA-STS (RFC 8461) without a socket: the TXT record, the policy, and what they mean for a host.

Parsing is strict where the RFC has a grammar: what breaks it is no policy, for a policy that was misread would either
stop mail or protect nothing.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

POLICY_MAX_BYTES = 64 * 1024
MAX_AGE_MAX_S = 31_557_600  # a year (RFC 8461 3.2)
SHOWN_MAX = 20  # of them in a report
MX_MAX = 100  # patterns of one policy
LIFE_MIN_S = 300.0  # a fetch for each mail is nothing that a max_age may ask for (RFC 8461 3.3)
REFRESH_S = 86_400.0  # a policy in use is fetched again after this long, or after half of its life if that is less

Mode = Literal["enforce", "testing", "none"]

_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_RECORD_VALUE = re.compile(r"[!-:<>-~]+")
_VERSION = re.compile(rb"v=STSv1[ \t]*(?:;|$)")
_MAX_AGE = re.compile(r"[0-9]{1,10}")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


class Malformed(ValueError):  # noqa: N818  (it is what the text is)
    """It breaks the grammar. The words say where and hold nothing of the text itself."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain says of its MX hosts. `mx`: names in lower case, "*.example.org" stands for one label."""

    mode: Mode
    mx: tuple[str, ...]
    max_age_s: int


@dataclass(frozen=True, slots=True)
class Known:
    """A policy that was fetched, as it is kept."""

    domain: str
    id: str  # of the TXT record that led to it
    policy: Policy
    fetched_at: float
    used_at: float = 0.0  # when mail last asked for it

    @property
    def life_s(self) -> float:
        return max(float(self.policy.max_age_s), LIFE_MIN_S)

    def holds(self, now: float) -> bool:
        return self.fetched_at <= now < self.fetched_at + self.life_s

    def stale(self, now: float) -> bool:
        """Time to fetch it again, long before it ends."""
        return now >= self.fetched_at + min(REFRESH_S, self.life_s / 2)


def record_id(records: Iterable[bytes]) -> str:
    """The policy id that the TXT records at _mta-sts.DOMAIN announce; "" for none.

    Records of something else do not count; none or several of this kind is no policy (RFC 8461 3.1). Malformed.
    """
    ours = [record for record in records if _VERSION.match(record)]
    if not ours:
        return ""
    if len(ours) > 1:
        raise Malformed("several records")
    return parse_record(ours[0])


def parse_record(record: bytes) -> str:
    """The id of one record "v=STSv1; id=...;" (RFC 8461 3.1). Malformed."""
    try:
        text = record.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("not ASCII") from None
    fields = text.split(";")
    if fields[-1].strip(" \t") == "" and len(fields) > 1:
        fields.pop()
    if fields[0].rstrip(" \t") != "v=STSv1":
        raise Malformed("version")
    found: str | None = None
    for field in fields[1:]:
        name, equals, value = field.strip(" \t").partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise Malformed("field name")
        if name == "id":
            if found is None and not _ID.fullmatch(value):
                raise Malformed("id")
            found = value if found is None else found
        elif not _RECORD_VALUE.fullmatch(value):
            raise Malformed("field value")
    if found is None:
        raise Malformed("no id")
    return found


def parse_policy(octets: bytes) -> Policy:
    """The policy of a policy file (RFC 8461 3.2). Of any key but mx that occurs twice, the first counts. Malformed."""
    if len(octets) > POLICY_MAX_BYTES:
        raise Malformed("too long")
    try:
        lines = octets.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    if lines[-1] == "":
        lines.pop()
    values: dict[str, str] = {}
    mx: list[str] = []
    for line in lines:
        name, colon, value = line.partition(":")
        value = value.strip(" \t")
        if not colon or not _NAME.fullmatch(name):
            raise Malformed("field name")
        if not value or any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise Malformed(f"value of {name}" if name in ("version", "mode", "max_age", "mx") else "field value")
        if name == "mx":
            mx.append(_pattern(value))
        else:
            values.setdefault(name, value)
    if values.get("version") != "STSv1":
        raise Malformed("version")
    mode, age = values.get("mode", ""), values.get("max_age", "")
    if mode not in ("enforce", "testing", "none"):
        raise Malformed("mode")
    if not _MAX_AGE.fullmatch(age):
        raise Malformed("max_age")
    if mode != "none" and not mx:
        raise Malformed("no mx")
    if len(mx) > MX_MAX:
        raise Malformed("too many mx")
    return Policy(cast("Mode", mode), tuple(mx), min(int(age), MAX_AGE_MAX_S))


def _pattern(value: str) -> str:
    """One mx: a name, or a wildcard in place of its first label. U-labels are not of the grammar, so they are made
    A-labels here: else a policy written with them would stop all mail."""
    from mtad.mail.address import AddressError, to_ascii

    wild = value.startswith("*.")
    name = value.removeprefix("*.").removesuffix(".")
    try:
        name = to_ascii(name).lower()
    except AddressError:
        raise Malformed("mx") from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise Malformed("mx")
    return f"*.{name}" if wild else name


def matches(patterns: Sequence[str], host: str) -> bool:
    """Whether a host is one of those named (RFC 8461 4.1): `host` as A-labels; a wildcard covers exactly one label."""
    name = host.lower().removesuffix(".")
    _, dot, rest = name.partition(".")
    return name in patterns or bool(dot and f"*.{rest}" in patterns)


def lines(policy: Policy) -> tuple[str, ...]:
    """The policy as a report shows it (RFC 8460 4.4)."""
    return (
        "version: STSv1",
        f"mode: {policy.mode}",
        *(f"mx: {pattern}" for pattern in policy.mx[:SHOWN_MAX]),
        f"max_age: {policy.max_age_s}",
    )
