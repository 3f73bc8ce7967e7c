"""What an account or a client did: what left, what can still be stopped, and how."""

import shlex
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.mail.event import Wanted
from mtad.queue.history import Sent, Sought
from mtad.queue.store import Bundle, Selector

SINCE_S = 86400.0
STEP = 5000
SHOWN = 10
EVENTS_MAX = 10_000
SUBJECTS_MAX = 10_000
PURGES = 5


@dataclass(slots=True)
class _Sum:
    """What the messages come to, one after the other."""

    messages: int = 0
    size_bytes: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    domains: set[str] = field(default_factory=set)
    clients: Counter[str] = field(default_factory=Counter)
    users: Counter[str] = field(default_factory=Counter)
    senders: Counter[str] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)  # state word -> how many recipients of a subject

    def add(self, one: Sent) -> None:
        self.messages += 1
        self.size_bytes += one.size_bytes
        self.first_at = min(self.first_at or one.accepted_at, one.accepted_at)
        self.last_at = max(self.last_at, one.accepted_at)
        self.states.update(one.states)
        self.domains.update(one.domains)
        self.clients[one.ip or one.source] += 1
        self.users[one.user] += 1
        self.senders[one.sender] += 1
        if one.subject:
            self.subjects[one.subject] += 1
            for state, count in one.states.items():
                self.outcomes.setdefault(state, Counter())[one.subject] += count

    def of_subjects(self) -> list[Row]:
        """The busiest, with what became of them."""
        words = {"delivered": "done", "failed": "failed", "waiting": "waiting", "held": "held", "trashed": "trashed"}
        return [
            {"subject": subject, "messages": count}
            | {name: self.outcomes.get(state, Counter[str]())[subject] for name, state in words.items()}
            for subject, count in self.subjects.most_common(SHOWN)
        ]


async def incident_report(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user, ip = args["user"] or "", args["ip"] or ""
    if not user and not ip:
        raise Failed("Usage", "say whom it is about: --user or --ip")
    account = admin.users.get(user) if user else None
    user = account.name if account else user
    since_at = admin.clock() - (SINCE_S if args["since"] is None else args["since"])
    total = _Sum()
    before = 0
    while True:
        found, before = await admin.store.sent(Sought(user=user, ip=ip, since_at=since_at), before, STEP)
        for one in found:
            total.add(one)
        if not before:
            break
    signed_in = await _sign_ins(admin, "sign-in", user, ip, since_at)
    refused = await _sign_ins(admin, "sign-in-failed", user, ip, since_at)
    profile = account.profile if account else None
    here = await admin.store.bundles(Selector(user=user, ip="" if user else ip), "subject", admin.clock(), SUBJECTS_MAX)
    yield {
        "user": user,
        "ip": ip,
        "since": int(since_at),
        "disabled": account.disabled if account else "",
        "messages": total.messages,
        "size_bytes": total.size_bytes,
        "recipients": total.states.total(),
        "domains": len(total.domains),
        "first": int(total.first_at) or None,
        "last": int(total.last_at) or None,
        "delivered": total.states["done"],
        "failed": total.states["failed"],
        "waiting": total.states["waiting"],
        "held": total.states["held"],
        "trashed": total.states["trashed"],
        "clients": _most(total.clients, "ip"),
        "users": _most(total.users, "user") if not user else [],
        "senders": _most(total.senders, "sender"),
        "subjects": total.of_subjects(),
        "sign_ins": signed_in,
        "sign_ins_failed": refused,
        "app_passwords": [
            {"label": one.label, "used": int(one.used_at) or None} for one in (profile.app_passwords if profile else ())
        ],
        "certificates": list(profile.certificates if profile else ()),
        "known": account is not None,
        "next": _next(user, ip, total, here, frozen=bool(account and account.disabled), known=account is not None)
        if account or total.messages or signed_in or refused
        else [],
    }


def _most(counter: Counter[str], name: str) -> list[Row]:
    return [{name: key, "messages": count} for key, count in counter.most_common(SHOWN)]


async def _sign_ins(admin: Admin, kind: str, user: str, ip: str, since_at: float) -> int:
    wanted = Wanted(frozenset({kind}), user=user, ip=ip, since_at=since_at)
    kept = await admin.store.other_events(wanted, EVENTS_MAX)
    return len(kept) + sum(1 for event in admin.events.unkept() if wanted.meets(event))


def _next(user: str, ip: str, total: _Sum, here: Sequence[Bundle], *, frozen: bool, known: bool) -> list[str]:
    """The commands that stop it, as they are typed."""
    commands: list[str] = []
    selector = f"--user {shlex.quote(user)}" if user else f"--ip {shlex.quote(ip)}"
    if user and known and not frozen:
        commands.append(f"mtactl user freeze {shlex.quote(user)} --reason 'stolen password, call us'")
    if ip and not any(sign in ip for sign in "*?"):
        commands.append(f"mtactl block add {shlex.quote(ip)} --reason 'spam'")
    if not user and (total.states["waiting"] or not total.messages):
        commands.append(f"mtactl queue hold {selector}")
    commands += [
        f"mtactl user freeze {shlex.quote(name)}" for name, _ in total.users.most_common(3) if name and not user
    ]
    if here:
        count = sum(one.recipients for one in here)
        commands.append(f"mtactl queue list {selector} --group-by subject   # {count} still here")
        commands += _purges(selector, here)
        if total.states["held"]:
            commands.append(f"mtactl queue release {selector}   # what is held, when the spam is gone")
    if total.states["done"]:
        commands.append(f"mtactl queue list {selector} --state done   # {total.states['done']} that got it")
    if frozen:
        commands.append(f"mtactl user thaw {shlex.quote(user)}")
    return commands


def _purges(selector: str, here: Sequence[Bundle]) -> list[str]:
    """For each of the busiest subjects the command that takes away what is here of it. What stands alone may be what
    the owner of the account wrote. A subject is a part of others: the count is of all that the command takes."""
    commands = []
    for one in here[:PURGES]:
        if not one.key.strip() or (one.recipients < 2 and len(here) > 1):
            continue
        part = one.key.encode().lower()  # in ASCII, as the condition compares
        count = sum(other.recipients for other in here if part in other.key.encode().lower())
        more = f", {count - one.recipients} of them with more in the subject" if count > one.recipients else ""
        quoted = shlex.quote(one.key)
        subject = f"--subject={quoted}" if one.key.startswith("-") else f"--subject {quoted}"
        commands.append(f"mtactl queue purge {selector} {subject}   # {count}{more}")
    return commands


HANDLERS: Mapping[str, Handler] = {"incident.report": incident_report}
