"""Rows of the store -> the timeline of a message, one row for each thing that happened. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtad.config import Delivery
from mtad.control.admin import Row
from mtad.control.handlers.rows import reason, seconds, word, words
from mtad.control.handlers.waiting import Around, advice, next_try, why
from mtad.mail.envelope import Attempt, Message, Recipient, State
from mtad.queue.audit import Action
from mtad.queue.history import Report

TARGETS_SHOWN = 20  # of an alias


def timeline(
    message: Message,
    recipients: Sequence[Recipient],
    tries: Sequence[Attempt],
    actions: Sequence[Action],
    reports: Sequence[Report],
    reports_on: str,
    now: float,
) -> Sequence[Row]:
    """Oldest first; how it stands now comes last."""
    rows = [*_came(message, recipients, reports_on), *_held(message, actions)]
    by_n = {recipient.n: recipient for recipient in recipients}
    rows += [_try(message, attempt, by_n[attempt.n]) for attempt in tries if attempt.n in by_n]
    rows += _operators(message, [one for one in actions if not _by_rule(message, one)], by_n)
    rows += [_report(message, report) for report in reports]
    rows.sort(key=lambda row: row["at"])  # stable: what has the same time stays in its order
    return rows


def standing(
    message: Message,
    recipients: Sequence[Recipient],
    actions: Sequence[Action],
    around: Mapping[int, Around],
    now: float,
) -> Iterator[Row]:
    """How it stands with each recipient, and why, in the words of `queue show`. `around` is by their numbers."""
    by_n: dict[int, list[Action]] = {}
    for action in actions:
        by_n.setdefault(action.n, []).append(action)
    for recipient in recipients:
        if recipient.domain or recipient.state is not State.DONE:  # an alias that was expanded is no mailbox
            yield _standing(message, recipient, by_n.get(recipient.n, ()), around[recipient.n], now)


def _row(message: Message, at: float, event: str, text: str, recipient: Recipient | None = None, **details: Any) -> Row:
    return {
        "queue_id": message.id,
        "at": round(at, 3),
        "event": event,
        "id": recipient.id if recipient else "",
        "to": recipient.address if recipient else "",
        "text": text,
        "details": details,
    }


def _came(message: Message, recipients: Sequence[Recipient], reports_on: str) -> Iterator[Row]:
    peer, at = message.peer, message.accepted_at
    client = f"{peer.ip}:{peer.port}" if peer.ip else f"uid={peer.uid}" if peer.uid >= 0 else "the daemon itself"
    said = [
        f"{peer.source} from {client}",
        f"helo {peer.helo}" if peer.helo else "",
        peer.tls or ("no TLS" if peer.ip else ""),
        f"signed in as {peer.user}" if peer.user else "not signed in" if peer.ip else "",
    ]
    if reports_on:
        said = [f"report about {reports_on}, written by the daemon"]
    yield _row(
        message, at, "session", ", ".join(filter(None, said)),
        source=peer.source, ip=peer.ip, port=peer.port, helo=peer.helo, tls=peer.tls, user=peer.user, uid=peer.uid,
        reports_on=reports_on,
    )  # fmt: skip
    originals: dict[str, list[str]] = {}
    for recipient in recipients:
        if recipient.domain:
            originals.setdefault(recipient.original or recipient.address, []).append(recipient.address)
    for original, targets in originals.items():
        if targets != [original]:
            more = f" and {len(targets) - TARGETS_SHOWN} more" if len(targets) > TARGETS_SHOWN else ""
            text = f"{original} is {', '.join(targets[:TARGETS_SHOWN])}{more}"
            yield _row(message, at, "alias", text, address=original, targets=targets[:TARGETS_SHOWN])
    if message.signed:
        signatures = [dict(zip("ds", key.split("/", 1), strict=True)) for key in message.signed.split(" ")]
        text = "; ".join(f"d={one['d']} s={one['s']}" for one in signatures)
        yield _row(message, at, "signed", text, signatures=signatures)
    count = sum(len(targets) for targets in originals.values())
    said = [
        f"safe on disk: from {message.sender or '<>'} to {count} recipient{'s' if count != 1 else ''}",
        f"{message.size_bytes} octets",
        f"subject {message.subject!r}" if message.subject else "",
        f"message-id {message.header_id}" if message.header_id else "",
    ]
    yield _row(
        message, at, "accepted", ", ".join(filter(None, said)),
        sender=message.sender, recipients=count, size=message.size_bytes, subject=message.subject,
        message_id=message.header_id,
    )  # fmt: skip


def _by_rule(message: Message, action: Action) -> bool:
    """Whether the message came in under a rule, so that its hold is older than itself."""
    return action.entry.at <= message.accepted_at


def _held(message: Message, actions: Sequence[Action]) -> Iterator[Row]:
    for number in sorted({one.entry.id for one in actions if _by_rule(message, one)}):
        entry = next(one.entry for one in actions if one.entry.id == number)
        why = f": {entry.reason}" if entry.reason else ""
        text = f"held by rule {number} of {entry.who or entry.uid}{why}"
        yield _row(message, message.accepted_at, "policy", text, rule=number, who=entry.who, reason=entry.reason)


def _try(message: Message, attempt: Attempt, recipient: Recipient) -> Row:
    reply = attempt.reply
    relay = f"{attempt.relay}{f' over {attempt.tls}' if attempt.tls else ''}" if attempt.relay else "no host was tried"
    said = words(reply)
    relay += " said" if reply.host else ":"
    kind = f" (class {attempt.error})" if attempt.error else ""
    cause = f", {reply.cause}" if reply.cause and reply.cause not in said else ""
    text = f"{recipient.address}: {relay} {said} after {attempt.took_s:.2f}s{kind}{cause}"
    return _row(
        message, attempt.started_at, "try", text, recipient,
        relay=attempt.relay, host=reply.host, tls=attempt.tls, code=reply.code, status=reply.status, reply=reply.text,
        stage=reply.stage, error=attempt.error, took_s=round(attempt.took_s, 3),
    )  # fmt: skip


def _operators(message: Message, actions: Sequence[Action], by_n: dict[int, Recipient]) -> Iterator[Row]:
    """One row for an operation, however many recipients of the message it changed."""
    for number in dict.fromkeys(action.entry.id for action in actions):
        touched = [action for action in actions if action.entry.id == number]
        entry, recipient = touched[0].entry, by_n.get(touched[0].n) if len(touched) == 1 else None
        whom = f" ({recipient.address})" if recipient else f" ({len(touched)} recipients)"
        why = f": {entry.reason}" if entry.reason else ""
        operation = entry.operation.replace(".", " ").replace("_", "-")
        text = f"{operation} by {entry.who or entry.uid}{whom}{why}"
        yield _row(
            message, entry.at, "operator", text, recipient,
            audit=number, who=entry.who, operation=entry.operation, selector=entry.selector, reason=entry.reason,
            recipients=len(touched),
        )  # fmt: skip


def _report(message: Message, report: Report) -> Row:
    if report.state == "forgotten":
        text = f"report {report.message_id}, of which no history is kept any more"
    else:
        said = f": {report.reply}" if report.reply else ""
        text = f"report {report.message_id} to {report.to} is {report.state}{said}"
    return _row(
        message, report.made_at or message.accepted_at, "report", text,
        report=report.message_id, address=report.to, state=report.state,
    )  # fmt: skip


def _standing(message: Message, recipient: Recipient, actions: Sequence[Action], around: Around, now: float) -> Row:
    state, said = word(recipient, now), reason(recipient.last)
    waits, again = why(message, recipient, actions, around, now), next_try(recipient, around.closed)
    shut = around.closed if state in {"ready", "deferred"} else None
    what = {"done": "delivered", "failed": "failed", "deferred": "deferred"}.get(state, waits.words)
    if shut is not None:
        what = f"{state}, not tried now: {waits.words}"
    elif state == "deferred" and not recipient.tries:
        what += f": {waits.words}"
    text = f"{recipient.address}: {what}"
    if said and said not in what and state != "done" and shut is None:  # else the tries have it
        text += f", {said}"
    return _row(
        message, now, "now", text, recipient,
        state=state, tries=recipient.tries, next=seconds(recipient.next_at) if state == "deferred" else None,
        not_before=seconds(again.at) or None if shut or state == "deferred" else None, then=again.then,
        error=recipient.error, advice=advice(recipient), next_step=waits.command,
        shut=waits.words if shut else "", shut_until=int(shut.until) or None if shut else None,
    )  # fmt: skip


def ends(message: Message, recipients: Sequence[Recipient], delivery: Delivery) -> Iterator[Row]:
    """When what is still tried is given up, and when its sender hears that it is late."""
    tried = [one for one in recipients if one.state in {State.READY, State.LEASED}]
    if not tried:
        return
    at = min(message.expires_at, message.by_at) if message.by_mode == "R" else message.expires_at
    told_at = max((one.warned_at for one in tried), default=0.0)
    wanted = message.sender and any(not one.warned_at and "DELAY" in (one.notify or "DELAY") for one in tried)
    notice_at = max(message.accepted_at, message.hold_until) + delivery.delay_warning_s
    due = wanted and delivery.delay_warning_s > 0 and notice_at < at
    yield _row(
        message, at, "ends", "given up", expires=seconds(at), notice=seconds(notice_at) if due else None,
        told=seconds(told_at) or None,
    )  # fmt: skip
