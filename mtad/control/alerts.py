"""The six alerts that a mail server should have, judged here, and as rules for Prometheus. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtad.queue.history import STEP_S, Tally

MESSAGES_MAX = 1000
FAILING_MAX = 0.10
BOUNCING_MAX = 0.05
DISK_MAX = 0.80
CERTIFICATE_DAYS = 7
TRIES_MIN = 20  # fewer say nothing about a rate
SIGN_INS_MIN = 20  # failed ones that are no spike yet
SPIKE_TIMES = 5  # as many as usual
SPIKE_S = 2 * STEP_S
DAY_S, HOUR_S = 86400, 3600

_TRIES = "mtad_delivery_attempts_total"
_VAIN = 'mtad_delivery_attempts_total{result=~"deferred|failed"}'
_ENDED = 'mtad_delivery_attempts_total{result=~"delivered|failed"}'
_FAILED = 'mtad_delivery_attempts_total{result="failed"}'
_FAILED_SIGN_INS = 'mtad_auth_total{result="failed"}'


@dataclass(frozen=True, slots=True)
class Facts:
    """What the alerts are judged by. None is not known."""

    messages: int
    tallies: Sequence[Tally]  # of the last day
    disk_used: float | None  # of 1
    certificate_ends_at: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    title: str
    advice: str
    expression: str  # of Prometheus
    for_: str = "5m"


@dataclass(frozen=True, slots=True)
class Judged:
    alert: Alert
    firing: bool
    value: float | None
    limit: float
    text: str


def _increase(series: str, over: str) -> str:
    return f"sum(increase({series}[{over}]))"


QUEUE = Alert(
    "MtadQueueLong",
    f"More than {MESSAGES_MAX} messages in the queue",
    "mtactl queue stats --by error",
    f"mtad_queue_messages > {MESSAGES_MAX}",
)
FAILING = Alert(
    "MtadDeliveryFailing",
    f"More than {FAILING_MAX:.0%} of the tries of the last hour were in vain",
    "mtactl queue stats --by error",
    f"{_increase(_VAIN, '1h')} / {_increase(_TRIES, '1h')} > {FAILING_MAX}"
    f" and {_increase(_TRIES, '1h')} >= {TRIES_MIN}",
)
SIGN_INS = Alert(
    "MtadSignInFailures",
    f"More failed sign-ins than usual, {SPIKE_TIMES} times as many",
    "mtactl log --kind sign-in-failed --since 1h",
    f"{_increase(_FAILED_SIGN_INS, '20m')} >= {SIGN_INS_MIN} and {_increase(_FAILED_SIGN_INS, '20m')}"
    f" > {SPIKE_TIMES} * {_increase(_FAILED_SIGN_INS, '1d')} / {DAY_S // SPIKE_S}",
    "0m",
)
DISK = Alert(
    "MtadDiskFull",
    f"The disk of the queue is more than {DISK_MAX:.0%} full",
    "mtactl status; make room, or mail is refused for now (452)",
    f"1 - mtad_disk_free_bytes / mtad_disk_size_bytes > {DISK_MAX}",
)
CERTIFICATE = Alert(
    "MtadCertificateEnds",
    f"A certificate ends in less than {CERTIFICATE_DAYS} days",
    "mtactl tls show",
    f"mtad_tls_cert_expiry_timestamp_seconds - time() < {CERTIFICATE_DAYS} * {DAY_S}",
)
BOUNCING = Alert(
    "MtadBouncing",
    f"More than {BOUNCING_MAX:.0%} of what ended within a day failed",
    "mtactl queue stats --by error; mtactl queue stats --by user",
    f"{_increase(_FAILED, '1d')} / {_increase(_ENDED, '1d')} > {BOUNCING_MAX}"
    f" and {_increase(_ENDED, '1d')} >= {TRIES_MIN}",
)
ALERTS = (QUEUE, FAILING, SIGN_INS, DISK, CERTIFICATE, BOUNCING)


def judge(facts: Facts, now: float) -> Sequence[Judged]:
    """Each of ALERTS, in their order."""
    hour = [tally for tally in facts.tallies if tally.at > now - HOUR_S - STEP_S]
    tries = sum(tally.delivered + tally.deferred + tally.failed for tally in hour)
    vain = sum(tally.deferred + tally.failed for tally in hour)
    ended = sum(tally.delivered + tally.failed for tally in facts.tallies)
    failed = sum(tally.failed for tally in facts.tallies)
    return (
        Judged(
            QUEUE,
            facts.messages > MESSAGES_MAX,
            facts.messages,
            MESSAGES_MAX,
            f"{facts.messages} messages in the queue",
        ),
        _rate(FAILING, vain, tries, FAILING_MAX, "of the last hour's tries in vain"),
        _sign_ins(facts.tallies, now),
        _disk(facts.disk_used),
        _certificate(facts.certificate_ends_at, now),
        _rate(BOUNCING, failed, ended, BOUNCING_MAX, "of what ended within a day failed"),
    )


def _rate(alert: Alert, part: int, whole: int, limit: float, words: str) -> Judged:
    if whole < TRIES_MIN:
        return Judged(alert, False, None, limit, f"{part} of {whole} {words}: too few to judge")
    return Judged(alert, part / whole > limit, part / whole, limit, f"{part} of {whole} {words}: {part / whole:.1%}")


def _sign_ins(tallies: Sequence[Tally], now: float) -> Judged:
    """The last steps against what the day before them had in as many."""
    new = sum(tally.sign_in_failed for tally in tallies if tally.at > now - SPIKE_S)
    before = sum(tally.sign_in_failed for tally in tallies if tally.at <= now - SPIKE_S)
    usual = before * SPIKE_S / DAY_S
    limit = max(SIGN_INS_MIN, SPIKE_TIMES * usual)
    words = f"{new} sign-ins failed within {SPIKE_S // 60} minutes, where {usual:.1f} are usual"
    return Judged(SIGN_INS, new >= SIGN_INS_MIN and new > SPIKE_TIMES * usual, new, limit, words)


def _disk(used: float | None) -> Judged:
    if used is None:
        return Judged(DISK, False, None, DISK_MAX, "how full the disk is cannot be told")
    return Judged(DISK, used > DISK_MAX, used, DISK_MAX, f"the disk is {used:.0%} full")


def _certificate(ends_at: float | None, now: float) -> Judged:
    if ends_at is None:
        return Judged(CERTIFICATE, False, None, CERTIFICATE_DAYS, "there is no certificate")
    days = (ends_at - now) / DAY_S
    words = f"the first certificate ends in {days:.0f} days" if days >= 0 else "a certificate has ended"
    return Judged(CERTIFICATE, days < CERTIFICATE_DAYS, days, CERTIFICATE_DAYS, words)


def rules() -> str:
    """A file of alerting rules for Prometheus."""
    lines = ["groups:", "  - name: mtad", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {_quoted(alert.expression)}",
            f"        for: {alert.for_}",
            "        labels:",
            "          severity: warning",
            "        annotations:",
            f"          summary: {_quoted(alert.title)}",
            f"          description: {_quoted(alert.advice)}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def rows(judged: Sequence[Judged]) -> list[Mapping[str, object]]:
    return [
        {
            "name": one.alert.name,
            "firing": one.firing,
            "value": None if one.value is None else round(one.value, 4),
            "limit": round(one.limit, 4),
            "text": one.text,
            "advice": one.alert.advice,
        }
        for one in judged
    ]
