"""Graders of mail itself: DNS, certificates, listeners, keys, users, the queue, name servers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtad.config import Config
from mtad.config.certificate import EXPIRY_WARNING_S
from mtad.doctor.facts import Outward, Renewal, Resolving
from mtad.doctor.finding import Finding, Grade, error, note, ok, question, warning
from mtad.publish.shown import certbot
from mtad.tls.chain import Examined, faults, links
from mtad.tls.probe import Seen

DAY_S = 86400.0
MAILDROP_MAX_S = 60.0  # the daemon looks more often
KEY_MAX_S = 180 * DAY_S  # where there is no schedule
OVERDUE_S = 7 * DAY_S
LATENCY_MAX_S = 1.0
QUEUE_MAX, DEFERRED_MAX, FAILED_MAX = 1000, 0.5, 0.10
ENDED_MIN = 20  # recipients, before a share of them says anything
# Address lists refuse resolvers that the whole world uses, or lie to them.
PUBLIC_RESOLVERS: Mapping[str, str] = {
    "8.8.8.8": "Google", "8.8.4.4": "Google", "2001:4860:4860::8888": "Google", "2001:4860:4860::8844": "Google",
    "1.1.1.1": "Cloudflare", "1.0.0.1": "Cloudflare", "2606:4700:4700::1111": "Cloudflare",
    "2606:4700:4700::1001": "Cloudflare", "9.9.9.9": "Quad9", "149.112.112.112": "Quad9", "2620:fe::fe": "Quad9",
    "208.67.222.222": "OpenDNS", "208.67.220.220": "OpenDNS",
}  # fmt: skip

Row = Mapping[str, Any]


# --- DNS

_GRADES: Mapping[str, Grade] = {"error": "error", "warning": "warning", "info": "note"}


def dns(domain: str, rows: Sequence[Row]) -> Iterator[Finding]:
    """`rows` of dns.check."""
    for row in rows:
        for one in row["findings"]:
            grade = _GRADES.get(one["severity"], "warning")
            yield Finding(f"dns.{one['id']}", grade, f"{domain}: {one['what']}", one["why"], one["fix"])
        if not row["findings"]:
            yield ok("dns.check", ": ".join((domain, row["area"], *row["said"][:1])))


# --- certificates


def certificates(found: Sequence[Examined], hostname: str, now: float, renewal: Renewal) -> Iterator[Finding]:
    """The default first."""
    if not found:
        yield error("tls.certificate", "there is no certificate",
                    "Without one there is no STARTTLS and nobody can sign in.",
                    f"{certbot([hostname], '--standalone ')}\n"
                    'tls.cert = "tls/fullchain.pem"\ntls.key = "tls/privkey.pem"   (in mtad.toml)\n'
                    "systemctl restart mtad")  # fmt: skip
        return
    for one in found:
        serious = [problem for problem in one.problems if "expire" not in problem and "need not be sent" not in problem]
        if not one.links or not one.matches:
            yield error("tls.certificate", f"{one.cert}: {'; '.join(one.problems)}", "The daemon cannot use it.",
                        "mtactl tls show")  # fmt: skip
            continue
        if serious:
            yield warning("tls.certificate", f"{one.cert}: {'; '.join(serious)}",
                          "Mail programs warn, and servers that verify do not deliver.",
                          f"{certbot([hostname])}\nmtactl tls reload")  # fmt: skip
        else:
            yield ok("tls.certificate", f"{one.cert} is for {', '.join(one.links[0].names[:3])}, and trusted")
        left_s = one.links[0].expires_at - now
        told = f"{one.cert} {f'expires in {left_s / DAY_S:.1f} days' if left_s > 0 else 'has expired'}"
        if left_s <= 0:
            yield error(
                "tls.expiry", told, "Users cannot connect without a warning.", "certbot renew; mtactl tls reload"
            )
        elif left_s < EXPIRY_WARNING_S:
            yield warning("tls.expiry", told, "Then users cannot connect.", "certbot renew; mtactl tls reload")
        else:
            yield ok("tls.expiry", told)
    if renewal.program and renewal.schedule:
        yield ok("tls.renewal", f"{renewal.program} renews certificates here ({renewal.schedule})")
    elif renewal.program:
        yield warning("tls.renewal", f"{renewal.program} is here, but nothing runs it",
                      "A certificate that nobody renews ends within 90 days.",
                      "systemctl enable --now certbot.timer")  # fmt: skip
    else:
        yield question("tls.renewal", "What renews the certificate? Nothing was found that does.",
                       "A certificate that nobody renews ends within 90 days.",
                       "apt-get install certbot; the daemon takes a new one over within two minutes")  # fmt: skip


# --- listeners


def listeners(seen: Sequence[tuple[str, str, Seen]], config: Config, now: float) -> Iterator[Finding]:
    for kind, where, one in seen:
        yield _listener(kind, where, one, config, now)
    for kind in ("smtp", "submission", "submissions"):
        if not getattr(config.listen, kind):
            grade = note if kind != "smtp" else warning
            yield grade(f"listen.{kind}", f"listen.{kind} is empty",
                        "Nobody can send mail here." if kind == "smtp" else "Users need one of the two ports.",
                        f'[listen] {kind} = ["0.0.0.0:{_PORTS[kind]}", "[::]:{_PORTS[kind]}"]')  # fmt: skip


_PORTS = {"smtp": 25, "submission": 587, "submissions": 465}


def _listener(kind: str, where: str, seen: Seen, config: Config, now: float) -> Finding:
    check = f"listen.{kind}"
    if not seen.encrypted:
        if seen.greeting.startswith("220"):
            return error(check, f"{where} answers, but without TLS: {seen.problem}",
                         "Mail and passwords would go in the clear.", "mtactl tls show")  # fmt: skip
        return error(check, f"{where} does not answer: {seen.problem}", "Nobody can connect.",
                     "mtactl status; systemctl restart mtad")  # fmt: skip
    if seen.early_auth:
        return error(check, f"{where} offers sign-in before TLS", "Passwords can be overheard.", "mtactl tls test")
    if kind != "smtp" and not seen.auth:
        return error(check, f"{where} offers no sign-in", "Users cannot send.", "mtactl tls test")
    if seen.old:
        return warning(check, f"{where} takes {', '.join(seen.old)}", "These protocols are broken.",
                       "look at the OpenSSL settings of this host: /etc/ssl/openssl.cnf")  # fmt: skip
    wrong = [one for one in faults(links(seen.chain), config.hostname, now) if "need not be sent" not in one]
    if wrong:
        return warning(check, f"{where} shows a certificate with a problem: {wrong[0]}",
                       "Mail programs warn.", "mtactl tls test; mtactl tls reload")  # fmt: skip
    return ok(check, f"{where} answers, {seen.protocol}" + (f", {' '.join(seen.auth)}" if seen.auth else ""))


def outward(facts: Outward) -> Iterator[Finding]:
    if not facts.asked:
        yield question("listen.out", "Can port 25 of other hosts be reached?", "Many providers close it.",
                       "mtactl doctor --only listen.out, without --offline")  # fmt: skip
    elif facts.problem:
        yield error("listen.out", f"{facts.target}: {facts.problem}",
                    "Without port 25 outwards no mail leaves; many providers open it on request only.",
                    "ask your provider to open port 25, or send through a smarthost: [[delivery.route]]")  # fmt: skip
    else:
        yield ok("listen.out", f"{facts.target} answers: {facts.greeting}")


# --- keys and users


def dkim(rows: Sequence[Row], statuses: Sequence[Row], domains: Sequence[str], now: float) -> Iterator[Finding]:
    """`rows` of dkim.list, `statuses` of dkim.status."""
    for domain in domains:
        signing = [row for row in rows if row["domain"] == domain and row.get("stage") == "active"]
        if not signing:
            yield error("dkim.keys", f"nothing signs mail of {domain}", "Large receivers refuse unsigned mail.",
                        f"mtactl dkim generate {domain}")  # fmt: skip
            continue
        weak = [row["selector"] for row in signing if row.get("algorithm") == "rsa" and row.get("bits", 2048) < 2048]
        if weak:
            yield warning("dkim.keys", f"{domain}: {', '.join(weak)} has less than 2048 bits",
                          "Such keys can be broken, and some receivers ignore them.",
                          f"mtactl dkim rotate {domain}")  # fmt: skip
        else:
            names = ", ".join(f"{row['selector']} ({row['algorithm']})" for row in signing)
            yield ok("dkim.keys", f"{domain} is signed by {names}")
        yield from _age(domain, [row for row in statuses if row["domain"] == domain], now)
    for row in statuses:
        if row.get("waits_for"):
            yield note("dkim.rotation", f"{row['selector']}._domainkey.{row['domain']} waits for {row['waits_for']}",
                       "", f"mtactl dkim status {row['domain']}")  # fmt: skip
    if not any(row.get("waits_for") for row in statuses):
        yield ok("dkim.rotation", "no key waits for anybody")


def _age(domain: str, keys: Sequence[Row], now: float) -> Iterator[Finding]:
    active = [row for row in keys if row.get("stage") == "active" and row.get("since")]
    if not active:
        return
    oldest_s = now - min(row["since"] for row in active)
    due = min((row["next_rotation"] for row in active if row.get("next_rotation")), default=0)
    told = f"the keys of {domain} sign for {oldest_s / DAY_S:.0f} days"
    if (due and now - due > OVERDUE_S) or (not due and oldest_s > KEY_MAX_S):
        yield warning(
            "dkim.age",
            told,
            "A key that is used for long has had long to leak.",
            f"mtactl dkim rotate {domain}" if due else f"mtactl dkim rotate {domain} --schedule 30d",
        )
    else:  # fmt: skip
        yield ok("dkim.age", told + (f"; new ones follow in {max(due - now, 0) / DAY_S:.0f} days" if due else ""))


def users(rows: Sequence[Row]) -> Iterator[Finding]:
    """`rows` of user.show."""
    free = [row["name"] for row in rows if not row["disabled"] and not row["messages_per_day"]]
    old = [row["name"] for row in rows if not row["disabled"] and not row["receive_only"] and not row.get("scram")]
    count = f"{len(rows)} {'user' if len(rows) == 1 else 'users'}"
    if free:
        fix = f"mtactl user limit {free[0]} --messages-per-day 1000"
        told = f"without a daily limit: {_listed(free)}"
        yield warning("users.limits", told, "A stolen password sends without end.", fix)
    else:
        yield ok("users.limits", f"{count}, each with a daily limit" if rows else "there are no users")
    if old:
        yield note("users.passwords", f"{_listed(old)} cannot sign in by SCRAM",
                   "The password was taken over from elsewhere; it goes on to work.",
                   f"mtactl user passwd {old[0]}")  # fmt: skip
    else:
        yield ok("users.passwords", "every password is kept hashed, with keys for SCRAM" if rows else "none")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# --- the queue


def queue(stats: Row, config: Config, now: float) -> Iterator[Finding]:
    """`stats` of queue.stats."""
    messages, deferred = stats["messages"], stats["deferred"]
    open_now = sum(stats.get(name) or 0 for name in ("active", "ready", "deferred"))
    if messages > QUEUE_MAX:
        yield warning(
            "queue.size",
            f"{messages} messages wait",
            "Something does not take our mail, or somebody sends too much.",
            "mtactl queue list --group-by error; mtactl queue list --group-by user",
        )
    else:  # fmt: skip
        yield ok("queue.size", f"{messages} messages in the queue")
    oldest = stats.get("oldest")
    limit_s = config.delivery.delay_warning_s or 4 * 3600.0
    if oldest is not None and now - oldest > limit_s:
        yield warning("queue.age", f"the oldest mail is {(now - oldest) / 3600:.0f} hours old",
                      "Its sender has been told that it is late, or soon will be.",
                      f"mtactl queue list --older {limit_s / 3600:.0f}h")  # fmt: skip
    else:
        yield ok("queue.age", "nothing waits for long")
    share = deferred / open_now if open_now else 0.0
    if open_now >= ENDED_MIN and share > DEFERRED_MAX:
        yield warning("queue.deferred", f"{share:.0%} of {open_now} recipients were put off at least once",
                      "The others see a problem with us, or one large host does not answer.",
                      "mtactl queue stats --by error")  # fmt: skip
    else:
        yield ok("queue.deferred", f"{deferred} of {open_now} open recipients were put off")
    ended = (stats.get("done") or 0) + (stats.get("failed") or 0)
    failed = (stats.get("failed") or 0) / ended if ended else 0.0
    if ended >= ENDED_MIN and failed > FAILED_MAX:
        yield warning("queue.failed", f"{failed:.0%} of {ended} recipients could not be delivered to",
                      "Receivers count it: more than 5% looks like bought addresses.",
                      "mtactl queue stats --by error")  # fmt: skip
    else:
        yield ok("queue.failed", f"{failed:.0%} of {ended} finished recipients failed")


def maildrop(folder: str, found: tuple[int, float] | None, now: float, *, runs: bool) -> Iterator[Finding]:
    """`found`: how many files, and when the oldest was written; None: they may not be seen."""
    count, oldest_at = found or (0, 0.0)
    if found is None:
        yield note("queue.maildrop", f"not seen: {folder}", "Run the doctor as root to see all.")
    elif count and (not runs or now - oldest_at > MAILDROP_MAX_S):
        words = f"{count} mails wait" if count > 1 else "1 mail waits"
        yield warning("queue.maildrop", f"{words} in {folder}, the oldest for {(now - oldest_at) / 60:.0f} minutes",
                      "Programs of this host were told that it is sent.",
                      "mtactl maildrop drain; journalctl -u mtad" if runs else "systemctl start mtad")  # fmt: skip
    else:
        yield ok("queue.maildrop", "nothing waits in the maildrop")


def integrity(rows: Sequence[Row] | None) -> Iterator[Finding]:
    """`rows` of check; None: it was not made."""
    why = "A mail that is not what was accepted must not be sent."
    if rows is None:
        yield note("queue.integrity", "the queue was not read as a whole: it is long, or the daemon is down", why,
                   "mtactl check")  # fmt: skip
        return
    found = [row for row in rows if row["level"] in ("error", "warning")]
    for row in found:
        grade = error if row["level"] == "error" else warning
        yield grade("queue.integrity", row["what"], why, row["fix"] or "mtactl check --repair")
    if not found:
        yield ok("queue.integrity", rows[-1]["what"] if rows else "nothing to read")


# --- name servers


def resolver(facts: Resolving) -> Iterator[Finding]:
    shown = ", ".join(facts.servers) or "none"
    public = [f"{one} ({PUBLIC_RESOLVERS[one]})" for one in facts.servers if one in PUBLIC_RESOLVERS]
    local = 'apt-get install unbound; then dns.servers = ["127.0.0.1"]'
    if not facts.asked:
        yield question("resolver.answers", f"Do the name servers answer ({shown})?", "Mail cannot leave without them.",
                       "mtactl doctor --only resolver, without --offline")  # fmt: skip
    elif facts.problem:
        yield error("resolver.answers", f"{shown}: {facts.problem}", "Mail can neither be delivered nor judged.", local)
        return
    elif facts.latency_s > LATENCY_MAX_S:
        yield warning("resolver.answers", f"{shown}: an answer took {facts.latency_s:.1f} s",
                      "Each mail waits for several of them.", local)  # fmt: skip
    else:
        yield ok("resolver.answers", f"{shown}: an answer took {facts.latency_s * 1000:.0f} ms")
    if facts.asked:
        if facts.distrust:
            yield note("resolver.dnssec", facts.distrust, "Without DNSSEC there is no DANE: TLS to others can be"
                       " switched off by an attacker.", local)  # fmt: skip
        else:
            yield ok("resolver.dnssec", "answers are validated with DNSSEC")
    if public:
        yield warning(
            "resolver.lists",
            f"public name servers: {', '.join(public)}",
            "Address lists refuse them, or answer them wrongly; and limits are shared with the world.",
            local,
        )
    elif facts.asked and facts.lists:  # fmt: skip
        yield note("resolver.lists", f"the test entry of an address list is answered with {facts.lists}",
                   "Checks against address lists say nothing then.", local)  # fmt: skip
    elif facts.asked:
        yield ok("resolver.lists", "address lists answer")
