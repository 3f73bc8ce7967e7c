"""TLS reports (RFC 8460) without a socket: what is counted, the record of who wants to read it, and the report."""

import base64
import gzip
import json
import re
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

TALLY_MAX = 10_000  # kinds of sessions in memory
TARGETS_MAX = 5  # of one domain's report
DETAILS_MAX = 1000  # kinds of failure in one report

_TLSRPT = re.compile(rb"v=TLSRPTv1[ \t]*(?:;|$)")
_TARGET = re.compile(r"(?:mailto:|https://)[!-~]{1,500}")

PolicyType = Literal["sts", "tlsa", "no-policy-found"]

Result = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
"""What a session can fail by (RFC 8460 4.3)."""

HANDSHAKE_FAILED = "The TLS handshake failed"

# OpenSSL's X509_V_ERR_*, as SSLCertVerificationError.verify_code has them.
_EXPIRED = 10
_NAME = frozenset({62, 63, 64})  # host, mail address, IP address
_UNTRUSTED = frozenset({2, 7, 18, 19, 20, 21, 24, 25, 26, 27, 28, 79})


@dataclass(frozen=True, slots=True)
class Policy:
    """The policy of a recipient domain that a session was held to (RFC 8460 4.4)."""

    domain: str
    type: PolicyType = "no-policy-found"
    lines: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a host's TLS will not do: the kind, words that may be shown to anyone, and the cause for the log."""

    result: Result
    words: str
    cause: str = ""


def fault_of(error: Exception) -> Fault:
    """What a failed handshake comes to."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return Fault("validation-failure", HANDSHAKE_FAILED, repr(error))
    result: Result = "validation-failure"
    if error.verify_code == _EXPIRED:
        result = "certificate-expired"
    elif error.verify_code in _NAME:
        result = "certificate-host-mismatch"
    elif error.verify_code in _UNTRUSTED:
        result = "certificate-not-trusted"
    return Fault(result, "The host's certificate cannot be verified", repr(error))


# Counting


@dataclass(frozen=True, slots=True)
class Counted:
    """So many sessions of one kind on one day. `policy` is JSON: what `Policy` says beside the domain."""

    day: int  # since 1970, UTC
    domain: str
    policy: str
    result: str  # "" is success
    mx: str
    sender_ip: str
    mx_ip: str
    reason: str
    count: int


class Tally:
    """What was seen since the last `take`. Cheap: one step of a table for each connection."""

    def __init__(self, most: int = TALLY_MAX) -> None:
        self._most = most
        self._counts: dict[tuple[int, Policy, str, str, str, str, str], int] = {}

    def add(self, day: int, policy: Policy, mx: str, sender_ip: str, mx_ip: str, fault: Fault | None) -> None:
        key = (
            (day, policy, "", "", "", "", "")
            if fault is None
            else (day, policy, fault.result, mx, sender_ip, mx_ip, fault.words)
        )
        count = self._counts.get(key)
        if count is not None:
            self._counts[key] = count + 1
        elif len(self._counts) < self._most:
            self._counts[key] = 1

    def take(self) -> list[Counted]:
        counts, self._counts = self._counts, {}
        return [
            Counted(day, policy.domain, _json(policy), result, mx, sender_ip, mx_ip, reason, count)
            for (day, policy, result, mx, sender_ip, mx_ip, reason), count in counts.items()
        ]

    def put_back(self, counted: Iterable[Counted]) -> None:
        """They could not be kept: next time."""
        for one in counted:
            key = (one.day, _policy(one.domain, one.policy), one.result, one.mx, one.sender_ip, one.mx_ip, one.reason)
            if key in self._counts or len(self._counts) < self._most:
                self._counts[key] = self._counts.get(key, 0) + one.count


def _json(policy: Policy) -> str:
    return json.dumps([policy.type, policy.lines, policy.mx], separators=(",", ":"))


def _policy(domain: str, text: str) -> Policy:
    kind, lines, mx = json.loads(text)
    return Policy(domain, kind, tuple(lines), tuple(mx))


# Who wants to read it


def report_targets(records: Iterable[bytes]) -> tuple[str, ...]:
    """The "mailto:" and "https:" targets of the TXT records at _smtp._tls.DOMAIN, in their order; () when nobody asks,
    or in an unclear way (RFC 8460 3)."""
    ours = [record for record in records if _TLSRPT.match(record)]
    if len(ours) != 1:
        return ()
    try:
        fields = ours[0].decode("ascii").split(";")
    except UnicodeDecodeError:
        return ()
    for field in fields[1:]:
        name, _, value = field.strip(" \t").partition("=")
        if name.strip() == "rua":
            targets = [target.strip(" \t") for target in value.split(",")]
            return tuple(target for target in targets if _TARGET.fullmatch(target))[:TARGETS_MAX]
    return ()


# The report


@dataclass(frozen=True, slots=True)
class Report:
    """One domain's day."""

    id: str
    domain: str
    day: int
    organization: str
    contact: str
    octets: bytes  # JSON, gzipped

    @property
    def file(self) -> str:
        """RFC 8460 5.1."""
        start, end = self.day * 86400, self.day * 86400 + 86399
        return f"{self.organization}!{self.domain}!{start}!{end}!{self.id.partition('@')[0]}.json.gz"


def report(domain: str, day: int, counted: Sequence[Counted], organization: str, contact: str) -> Report:
    """The report of a day (RFC 8460 4.4). The same day gives the same id, so that a copy is known as one."""
    report_id = f"{_text(day * 86400)[:10]}.{domain}@{organization}"
    by_policy: dict[str, list[Counted]] = {}
    for one in counted:
        by_policy.setdefault(one.policy, []).append(one)
    body = {
        "organization-name": organization,
        "date-range": {"start-datetime": _text(day * 86400), "end-datetime": _text(day * 86400 + 86399)},
        "contact-info": contact,
        "report-id": report_id,
        "policies": [_about(_policy(domain, policy), sessions) for policy, sessions in by_policy.items()],
    }
    octets = gzip.compress(json.dumps(body, indent=1).encode(), mtime=0)
    return Report(report_id, domain, day, organization, contact, octets)


def _about(policy: Policy, sessions: Sequence[Counted]) -> dict[str, object]:
    described: dict[str, object] = {"policy-type": policy.type, "policy-domain": policy.domain}
    if policy.lines:
        described["policy-string"] = list(policy.lines)
    if policy.mx:
        described["mx-host"] = list(policy.mx)
    failures = [one for one in sessions if one.result]
    failed = sum(one.count for one in failures)
    about: dict[str, object] = {
        "policy": described,
        "summary": {
            "total-successful-session-count": sum(one.count for one in sessions) - failed,
            "total-failure-session-count": failed,
        },
    }
    if failures:
        about["failure-details"] = [
            {name: value for name, value in _details(one).items() if value != ""}
            for one in sorted(failures, key=lambda one: -one.count)[:DETAILS_MAX]
        ]
    return about


def _details(one: Counted) -> dict[str, str | int]:
    return {
        "result-type": one.result,
        "sending-mta-ip": one.sender_ip,
        "receiving-mx-hostname": one.mx,
        "receiving-ip": one.mx_ip,
        "failed-session-count": one.count,
        "failure-reason-code": one.reason,
    }


def mail(made: Report, to: Sequence[str], sender: str, date: str) -> tuple[bytes, bytes]:
    """The report as a mail, (header block, body), not yet signed (RFC 8460 5.3)."""
    boundary = f"=_tlsrpt_{made.day}"
    day = _text(made.day * 86400)[:10]
    head = [
        f"Date: {date}",
        f"From: <{sender}>",
        f"To: {', '.join(f'<{address}>' for address in to)}",
        f"Subject: Report Domain: {made.domain}",
        f" Submitter: {made.organization}",
        f" Report-ID: <{made.id}>",
        f"Message-ID: <tlsrpt.{made.day}.{made.domain}@{made.organization}>",
        f"TLS-Report-Domain: {made.domain}",
        f"TLS-Report-Submitter: {made.organization}",
        "TLS-Required: No",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        'Content-Type: multipart/report; report-type="tlsrpt";',
        f'\tboundary="{boundary}"',
    ]
    body = [
        f"--{boundary}",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"This is a report on the TLS connections of {made.organization}",
        f"to the mail servers of {made.domain} on {day} (UTC), RFC 8460.",
        "",
        f"--{boundary}",
        "Content-Type: application/tlsrpt+gzip",
        "Content-Transfer-Encoding: base64",
        "Content-Disposition: attachment;",
        f'\tfilename="{made.file}"',
        "",
        base64.encodebytes(made.octets).decode().rstrip("\n").replace("\n", "\r\n"),
        f"--{boundary}--",
        "",
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii"), "\r\n".join(body).encode("ascii")


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
