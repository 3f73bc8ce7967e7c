"""Store rows -> the objects that go to the operator: the members of `postqueue -j`, and ours added to them. Pure."""

from collections.abc import Sequence

from mtad.control.admin import Row
from mtad.mail.envelope import TIME_MAX, Attempt, Recipient, State
from mtad.mail.errorclass import CLASSES
from mtad.mail.reply import Reply
from mtad.queue import store as queue
from mtad.queue.audit import Action
from mtad.queue.history import TALLIED, Tally
from mtad.queue.lines import COMMANDS, QUEUE_NAMES, REASON_MAX, STATES

_ATTEMPTS_MAX = 1000
DAY_S, PERIOD_S, PERIODS = 86400, 1800, 48


def word(recipient: Recipient, now: float) -> str:
    """The display word of a recipient's state."""
    match recipient.state:
        case State.READY:
            return "ready" if recipient.next_at <= now else "deferred"
        case State.LEASED:
            return "active"
        case state:
            return state.name.lower()


def words(reply: Reply) -> str:
    """What was said, in one line: without a code where nobody sent one, so that it does not look like a reply."""
    return (str(reply) if reply.host else reply.text).replace("\n", " ")[:REASON_MAX]


def reason(reply: Reply | None) -> str:
    """Why it is still here, in Postfix's words."""
    if reply is None:
        return ""
    said = words(reply)
    stage = f" (in reply to {COMMANDS[reply.stage]})" if reply.host and reply.stage in COMMANDS else ""
    return f"host {reply.host} said: {said}{stage}" if reply.host else said


def seconds(at: float) -> int:
    """A time, whole; 0 for what no clock can say: the row is damaged."""
    return int(at) if abs(at) < TIME_MAX else 0


def moment(at: float) -> float:
    """The same, to the millisecond."""
    return round(at, 3) if abs(at) < TIME_MAX else 0.0


def _recipient(recipient: Recipient, now: float) -> Row:
    last = recipient.last
    state = word(recipient, now)
    return {
        "address": recipient.address,
        "orig_address": recipient.original,
        "delay_reason": reason(last),
        "id": recipient.id,
        "state": state,
        "tries": recipient.tries,
        "next_attempt": seconds(recipient.next_at) if state in {"ready", "deferred"} else None,
        "not_before": seconds(recipient.next_at) if state in {"ready", "deferred"} else None,
        "code": last.code if last else None,
        "status": last.status if last else "",
        "error": recipient.error,
    }


def message(together: Sequence[queue.Row], now: float) -> Row:
    """One message with those of its recipients that were selected."""
    what = together[0].message
    recipients = [_recipient(row.recipient, now) for row in together]
    state = min((recipient["state"] for recipient in recipients), key=STATES.index)
    return {
        "queue_name": QUEUE_NAMES.get(state, state),  # what Postfix does not know keeps its word
        "queue_id": what.id,
        "arrival_time": seconds(what.accepted_at),
        "message_size": what.size_bytes,
        "forced_expire": False,
        "sender": what.sender,
        "recipients": recipients,
        "state": state,
        "next_attempt": min((r["next_attempt"] for r in recipients if r["next_attempt"] is not None), default=None),
        "expires": seconds(what.expires_at),
        "tries": max(recipient["tries"] for recipient in recipients),
        "domains": sorted({row.recipient.domain for row in together}),
        "source": what.peer.source,
        "user": what.peer.user,
        "uid": what.peer.uid if what.peer.uid >= 0 else None,
        "client_ip": what.peer.ip,
        "message_id": what.header_id,
        "subject": what.subject,
    }


def detail(together: Sequence[queue.Row], tries: Sequence[Attempt], actions: Sequence[Action], now: float) -> Row:
    """All about one message. Of the tries, the newest ones of the selected recipients."""
    what, selected = together[0].message, {row.recipient.n for row in together}
    tries = [attempt for attempt in tries if attempt.n in selected][-_ATTEMPTS_MAX:]
    return {
        **message(together, now),
        "helo": what.peer.helo,
        "tls": what.peer.tls,
        "body": what.body,
        "smtputf8": what.smtputf8,
        "requiretls": what.requiretls,
        "priority": what.priority,
        "ret": what.ret,
        "envid": what.envid,
        "hold_until": seconds(what.hold_until) or None,
        "deliver_by": seconds(what.by_at) or None,
        "attempts": [_attempt(what.id, attempt) for attempt in tries],
        "actions": [_action(what.id, action) for action in actions if action.n in selected],
    }


def _action(message_id: str, action: Action) -> Row:
    entry = action.entry
    return {
        "id": f"{message_id}.{action.n}",
        "at": moment(entry.at),
        "audit": entry.id,
        "who": entry.who,
        "operation": entry.operation,
        "selector": entry.selector,
        "reason": entry.reason,
        "before": "waiting" if action.before is State.READY else action.before.name.lower(),
        "address_before": action.address,
    }


def _attempt(message_id: str, attempt: Attempt) -> Row:
    return {
        "id": f"{message_id}.{attempt.n}",
        "started": round(attempt.started_at, 3),
        "took_s": round(attempt.took_s, 3),
        "relay": attempt.relay,
        "tls": attempt.tls,
        "code": attempt.reply.code,
        "status": attempt.reply.status,
        "text": attempt.reply.text[:REASON_MAX],
        "error": attempt.error,
    }


def group(by: str, one: queue.Group) -> Row:
    return {
        by: one.key,
        "open": one.open,
        "failed": one.failed,
        "oldest": None if one.oldest_at is None else seconds(one.oldest_at),
        **({"advice": CLASSES[one.key].operator if one.key in CLASSES else ""} if by == "error" else {}),
    }


def last_day(tallies: Sequence[Tally], now: float) -> list[Row]:
    """How much there was in each half hour of the last day, the current one last."""
    first = int(now) // PERIOD_S - PERIODS + 1
    found = []
    for name in TALLIED[:4]:
        counted = [0] * PERIODS
        for tally in tallies:
            index = tally.at // PERIOD_S - first
            if 0 <= index < PERIODS:
                counted[index] += getattr(tally, name)
        found.append({"name": name, "total": sum(counted), "half_hours": counted})
    return found


def counts(stats: queue.Stats) -> Row:
    """The queue in numbers."""
    return {
        "messages": stats.messages,
        "size_bytes": stats.size_bytes,
        "active": stats.active,
        "ready": stats.ready,
        "deferred": stats.deferred,
        "held": stats.held,
        "trashed": stats.trashed,
        "oldest": None if stats.oldest_at is None else seconds(stats.oldest_at),
    }
