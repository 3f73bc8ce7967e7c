"""What kind of trouble a reply is: a table over its code, its enhanced status and its words. Pure.

Servers put everything into 550 5.7.1, so the words come first: those that mean one thing wherever they stand. Then
the status (RFC 3463, the IANA registry, and what large receivers do with it), then words that are vaguer, then the
code alone. Addresses and links are taken out of the words before: they hold anybody's.

The time is linear in the text, of which the first TEXT_MAX characters are read.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from mtad.mail.errorclass import CLASSES
from mtad.mail.reply import Reply

TEXT_MAX = 1000

STAGE_OPERATOR = "operator"
"""The stage of a reply of ours by which an operator ended a delivery."""

STAGE_SUPPRESSED = "suppressed"
"""The stage of a reply of ours about an address that is not tried for this user."""

Rule = tuple[str, str, tuple[str, ...]]
"""(class, first digit of the code or "" for any, phrases). A phrase begins where a word begins and may end within one;
all but a-z and 0-9 is a blank."""

# What is looked for in everything, also in links and addresses: the names of lists.
_LISTS = (
    "spamhaus", "spamcop", "barracudacentral", "sorbs net", "surriel", "uceprotect", "senderscore", "abuseat",
    "spamrats", "mailspike", "invaluement", "senderbase", "talosintelligence", "ipcheck proofpoint", "cloudmark",
    "s25r", "dnswl",
)  # fmt: skip

_SURE: tuple[Rule, ...] = (
    ("greylist", "4", ("greylist", "graylist", "grey list", "gray list", "greylisted", "postgrey", "early retry")),
    ("tls", "", ("over a tls", "starttls command first", "starttls first", "tls required", "requires tls")),
    ("loop", "", (
        "mail loop", "loop detected", "loops back", "routing loop", "too many hops", "hop count", "hopcount",
        "too many received", "message looping", "mail for the domain loops", "forwarding loop", "maximum hops",
    )),
    ("dmarc", "", (
        "dmarc", "spf ", "dkim", "sender policy framework", "unauthenticated", "sender is unauthenticated",
        "unauthenticated email", "pass authentication checks", "email authentication", "sender id",
        "not authorized to use the mail from", "is not allowed to send mail from", "not a designated",
    )),
    ("rdns", "", (
        "reverse dns", "ptr record", "no ptr", "ptr", "rdns", "fcrdns", "reverse hostname", "reverse lookup",
        "cannot find your hostname", "cannot find your reverse", "unable to resolve your", "helo command rejected",
        "ehlo command rejected", "helo name", "invalid helo", "bad helo", "forward confirmed", "reverse address",
        "host name does not match", "hostname does not",
    )),
    ("rate-limit", "", (
        "rate limit", "ratelimit", "rate control", "exceeded the rate", "exceeds the rate", "unusual rate", "at a rate",
        "sending rate", "too many messages", "too many connections", "too many concurrent", "too many sessions",
        "too many recipients", "too many rcpt", "too many emails", "too many mails", "too many requests",
        "too much mail", "too fast", "too quickly", "throttl", "unexpected volume", "concurrent connections",
        "connection limit", "connections limit", "connection rate", "message limit", "sending limit",
        "recipient limit", "per hour", "per minute", "per day", "hourly", "daily limit", "daily quota", "slow down",
        "excessive", "exceeded the allowed", "message rate", "limit for this", "mail flood",
    )),
    ("reputation", "", (
        "blocklist", "block list", "blocked list", "blacklist", "black list", "denylist", "deny list", "blocked using",
        "listed in", "listed by", "listed at", "listed on", "is listed", "rbl", "dnsbl", "xbl", "pbl ", "sbl ",
        "reputation", "poor score", "bad score", "sender score", "banned sending ip", "banned sender",
        "client host rejected banned", "your ip", "ip address is blocked", "ip has been blocked", "ip is blocked",
        "ip blocked", "blocked ip", "blocked by our", "spam source", "spam abuse", "sending ip", "ip address has been",
        "ts03", "permanently deferred", "abusive", "user complaints", "dynamic ip", "dynamic address",
        "residential", "known spammer", "network is on our",
        "not accepted from this ip", "part of their network", "access denied banned",
        "temporarily blocked because", "your host is", "your server is", "your mail server",
    )),
    ("mailbox-full", "", (
        "mailbox full", "mailbox is full", "mail box full", "box is full", "inbox is full", "inbox full",
        "folder is full", "mailfolder is full", "over quota", "overquota", "over the quota", "quota exceed",
        "exceeds quota", "exceeded quota", "exceed quota", "exceeded storage", "exceeded its storage",
        "exceeds storage", "exceeds allowed storage", "out of storage", "storage limit", "storage quota",
        "not enough storage", "no storage", "mailbox quota", "mailbox has exceeded", "mailbox limit",
        "mailbox size limit", "mailbox exceeds", "user is over", "over their", "quota violation", "quota",
        "mailbox would exceed", "insufficient mailbox", "maildir over", "diskquota", "mailstore full",
        "postfach voll", "postfach ist voll", "speicherplatz", "buzon lleno", "casella piena", "skrzynka pelna",
    )),
    ("content", "", (
        "virus", "malware", "infected", "phish", "spam", "unsolicited", "content rejected", "message content",
        "content filter", "contains a", "attachment", "executable", "dangerous", "suspicious", "junk", "bulk mail",
        "objectionable", "banned content", "prohibited content", "surbl", "uribl", "bad url", "blocked url",
        "malicious", "potentially harmful", "rejected for content", "does not meet our content",
    )),
    ("mailbox-disabled", "", (
        "mailbox disabled", "mailbox is disabled", "mailbox has been disabled", "account disabled",
        "account is disabled", "account has been disabled", "user disabled", "user is disabled",
        "reach is disabled", "recipient is disabled", "address disabled", "inactive", "is not active", "not active",
        "deactivated", "suspended", "account closed", "account has been closed", "account is closed",
        "discontinued", "account is locked", "account locked", "mailbox locked", "mailbox is locked", "expired user",
        "account expired", "account has expired", "mailbox frozen", "no longer active", "has been terminated",
    )),
    ("relay-denied", "", (
        "relaying", "relay access", "to relay", "relay denied", "relay not", "relay is not", "no relay", "not relay",
        "relay prohibited", "tenantattribution", "domain isn t in my list", "domain is not in my list",
        "not a local domain", "not hosted here", "domain not hosted", "not an open relay", "non local recipient",
        "doesn t handle mail for", "does not handle mail for", "not a gateway", "in non accepted domain",
        "is not an accepted domain", "rcpthosts",
    )),
    ("bad-sender", "", (
        "sender address rejected", "sender rejected", "sender denied", "sender address", "sender domain",
        "domain of sender", "sender verify", "sender verification", "verify sender", "invalid sender", "bad sender",
        "unknown sender", "sender not", "sender unknown", "sender does not", "from domain", "envelope from",
        "return path", "sender s domain", "backscatter", "null sender", "from address",
    )),
    ("bad-domain", "", (
        "domain does not exist", "domain not found", "domain doesn t exist", "no such domain", "unknown domain",
        "domain unknown", "host unknown", "unknown host", "host not found", "domain name not found", "null mx",
        "nullmx", "accepts no mail", "does not accept mail", "doesn t accept mail", "does not accept any mail",
        "domain is not accepting", "domain not exist", "domain expired", "domain has expired", "nxdomain",
        "domain must resolve", "no mail is accepted", "invalid domain", "bad destination system",
    )),
    ("unknown-user", "5", (
        "mailbox unavailable", "mailbox not available", "5 4 1 recipient address rejected access denied",
    )),
    ("unknown-user", "", (
        "user unknown", "unknown user", "no such user", "no such recipient", "no such mailbox", "no such address",
        "no such account", "no such person", "no such local", "no mailbox", "mailbox not found", "mailbox unknown",
        "mailbox does not", "mailbox doesn t", "invalid mailbox", "unknown mailbox", "does not exist",
        "doesn t exist", "not exist", "didn t exist", "invalid recipient", "invalid address", "invalid user",
        "bad destination mailbox", "recipient not found", "recipientnotfound", "recipient unknown",
        "unknown recipient", "unknown address", "address unknown", "unknown local", "unknown account",
        "unknown in virtual", "unknown in local", "unknown in relay", "unknown or illegal", "unknown alias",
        "alias unknown", "address not found", "user not found", "account not found", "no account", "unrouteable",
        "unroutable", "not found by smtp address lookup", "is not a valid mailbox", "not a valid mailbox",
        "not a valid user", "not a valid recipient", "no valid recipient", "not a known user", "not known here",
        "not our customer", "doesn t have a", "does not have a", "nobody here", "no one here", "not here",
        "is unknown", "isn t a valid", "addressee unknown", "bad address", "not listed in", "user doesn t",
        "no longer valid", "no longer available", "no longer in use", "no longer accept", "has moved", "user invalid",
        "empfaenger unbekannt", "benutzer unbekannt", "destinatario",
        "destinataire", "adresse d au moins un", "utente sconosciuto", "relais inconnu", "no match for",
        "unknown e mail", "unknown email",
    )),
    ("size", "", (
        "too large", "too big", "size limit", "exceeds size", "message size", "size exceeds", "size exceeded",
        "exceeds the maximum", "exceeds maximum", "maximum message", "maximum size", "max message", "larger than",
        "message exceeds", "exceeds fixed limit", "message length", "message too long",
    )),
    ("tls", "", (
        "starttls", "tls", "encryption", "encrypted", "certificate", "requires ssl", "secure connection", "requiretls",
        "dane", "tlsa", "mta sts",
    )),
    ("auth", "", (
        "authentication required", "authentication is required", "authentication failed", "authentication unsuccessful",
        "authentication credentials", "authentication needed", "credentials", "must authenticate", "not authenticated",
        "must be authenticated", "login", "log in", "password", "smtp auth", "auth failed", "auth required",
        "authenticate", "client was not authenticated", "sasl",
    )),
    ("unsupported", "", (
        "smtputf8", "8bitmime", "8 bit", "internationalized", "non ascii", "binarymime", "parameters not recognized",
        "unsupported parameter", "unsupported option",
    )),
)  # fmt: skip

_VAGUE: tuple[Rule, ...] = (
    ("timeout", "", ("timed out", "timeout", "time out", "in time", "took too long")),
    ("protocol", "", (
        "syntax error", "bad sequence", "command not recogni", "unrecognized command", "command unrecognized",
        "unknown command", "command not implemented", "protocol error", "bare lf", "bare newline", "pipelining",
        "line too long", "out of sequence", "command out", "invalid command", "malformed",
    )),
    ("policy", "", (
        "policy", "not allowed", "not authorized", "not authorised", "not permitted", "permission", "prohibited",
        "access denied", "administrative", "forbidden", "restricted", "restriction", "blocked", "denied",
        "only accepts", "moderated", "rejected by", "transport rule", "rules",
    )),
    ("remote", "", (
        "local error", "resources", "server busy", "system busy", "too busy", "is busy", "service not available",
        "service unavailable", "service is unavailable", "service currently", "temporary failure",
        "temporarily unavailable", "temporary error", "temporary problem", "temporary lookup", "lookup failure",
        "insufficient system", "insufficient disk", "insufficient space", "disk full", "out of memory",
        "shutting down", "closing transmission", "maintenance", "system not accepting", "not accepting messages",
        "overload", "load average", "high load", "backend", "internal error", "internal server", "queue file",
        "system error", "system problem", "server error", "configuration error", "try again", "try later",
        "could not complete", "cannot process", "unable to process", "unable to deliver", "transaction failed",
    )),
)  # fmt: skip

# Subject and detail of a status that somebody meant. x.0.0 is in no table: it says nothing.
_STATUS: Mapping[str, str] = {
    "1.0": "unknown-user", "1.1": "unknown-user", "1.2": "bad-domain", "1.3": "bad-address", "1.4": "bad-address",
    "1.6": "unknown-user", "1.7": "bad-sender", "1.8": "bad-sender", "1.9": "relay-denied", "1.10": "bad-domain",
    "2.0": "remote", "2.1": "mailbox-disabled", "2.2": "mailbox-full", "2.3": "size", "2.4": "remote",
    "3.0": "remote", "3.1": "remote", "3.2": "remote", "3.3": "unsupported", "3.4": "size", "3.5": "remote",
    "4.0": "network", "4.1": "network", "4.2": "network", "4.3": "dns", "4.4": "dns", "4.5": "remote", "4.6": "loop",
    "4.7": "expired",
    "5.0": "protocol", "5.1": "protocol", "5.2": "protocol", "5.3": "rate-limit", "5.4": "protocol", "5.5": "protocol",
    "5.6": "protocol",
    "7.4": "tls", "7.5": "tls", "7.6": "tls", "7.7": "tls", "7.8": "auth", "7.10": "tls", "7.11": "tls",
    "7.12": "auth", "7.13": "auth", "7.14": "auth", "7.15": "policy", "7.16": "rate-limit", "7.17": "unknown-user",
    "7.18": "unknown-user", "7.20": "dmarc", "7.21": "dmarc", "7.22": "dmarc", "7.23": "dmarc", "7.24": "dmarc",
    "7.25": "rdns", "7.26": "dmarc", "7.27": "bad-sender", "7.28": "rate-limit", "7.29": "dmarc", "7.30": "tls",
}  # fmt: skip
_WEAK = frozenset(
    {"7.0", "7.1", "7.2", "5.0", "4.0", "4.1", "4.2", "3.0", "2.0"}
)  # what it says is said better by vague words
_WEAK_STATUS: Mapping[str, str] = {"7.0": "policy", "7.1": "policy", "7.2": "policy"}
_BY_SUBJECT: Mapping[str, str] = {"6": "unsupported", "7": "policy"}

_CODES: Mapping[int, str] = {
    421: "remote", 450: "remote", 451: "remote", 452: "remote", 454: "tls", 432: "auth", 455: "unsupported",
    500: "protocol", 501: "protocol", 502: "protocol", 503: "protocol", 504: "unsupported", 521: "bad-domain",
    523: "size", 524: "auth", 525: "auth", 530: "auth", 534: "auth", 535: "auth", 538: "auth", 550: "policy",
    551: "unknown-user", 552: "mailbox-full", 553: "bad-address", 554: "policy", 555: "unsupported",
    556: "bad-domain", 557: "policy",
}  # fmt: skip

# Our own conclusions have no words of others in them: the stage and the status say it all.
_OUR_STAGES: Mapping[str, str] = {
    "starttls": "tls", "auth": "auth", STAGE_OPERATOR: "operator", STAGE_SUPPRESSED: "suppressed",
}  # fmt: skip
_BEFORE_RCPT: Mapping[str, str] = {"connect": "policy", "ehlo": "policy", "helo": "policy", "mail": "bad-sender"}
_OUR_STATUS: Mapping[str, str] = {
    "1.1": "unknown-user", "1.2": "bad-domain", "1.3": "bad-address", "1.7": "bad-sender", "1.10": "bad-domain",
    "2.0": "local", "2.2": "mailbox-full", "2.4": "local", "3.0": "local", "3.1": "local", "3.4": "size",
    "3.5": "local", "4.1": "network", "4.2": "network", "4.3": "dns", "4.4": "dns", "4.6": "loop", "4.7": "expired",
    "5.0": "protocol", "5.3": "rate-limit", "7.1": "policy", "7.4": "tls", "7.5": "tls", "7.10": "tls", "7.30": "tls",
}  # fmt: skip


def _pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    return re.compile(f" (?:{'|'.join(phrases)})")


_LISTED = _pattern(_LISTS)
_FIRST = tuple((name, digit, _pattern(phrases)) for name, digit, phrases in _SURE)
_THEN = tuple((name, digit, _pattern(phrases)) for name, digit, phrases in _VAGUE)
_LATE = next(pattern for name, _, pattern in _THEN if name == "timeout")
_EXPIRED = "Delivery time expired"
_BLANK = re.compile(r"[^a-z0-9]+")


def classify(reply: Reply) -> str:
    """The name of the class in CLASSES; "" for a success and for no reply at all."""
    return "" if reply.ok or not reply.code else _classified(reply)


@lru_cache(maxsize=256)  # a try, its recipient, the log and the report ask one after the other
def _classified(reply: Reply) -> str:
    _, _, detail = reply.status.partition(".")
    if detail == "4.7" and reply.text.startswith(_EXPIRED):
        return "expired"
    if not reply.host:
        return _ours(reply, detail)
    digit = str(reply.code)[:1]
    text = reply.text[:TEXT_MAX].lower()
    words = _spread(" ".join([reply.status, *(word for word in text.split() if "@" not in word and "://" not in word)]))
    if _LISTED.search(_spread(text)):
        return "reputation"
    found = (
        _by_words(words, digit, _FIRST)
        or ("" if detail in _WEAK else _by_status(detail))
        or _by_words(words, digit, _THEN)
        or _by_status(detail)
        or _CODES.get(reply.code, "other")
    )
    # Before it heard of the recipient: "user unknown" is the sender then, or nobody.
    return _BEFORE_RCPT[reply.stage] if reply.stage in _BEFORE_RCPT and CLASSES[found].hard else found


def hard(reply: Reply) -> bool:
    """Whether a reply says that the address is no good, for this mail and for any other."""
    return reply.permanent and CLASSES[classify(reply)].hard


def _ours(reply: Reply, detail: str) -> str:
    if reply.stage in _OUR_STAGES:
        return _OUR_STAGES[reply.stage]
    if detail in {"4.1", "4.2"} and _LATE.search(_spread(reply.text[:TEXT_MAX].lower())):
        return "timeout"
    return _OUR_STATUS.get(detail) or ("unsupported" if detail.startswith("6.") else "local")


def _by_words(words: str, digit: str, rules: Sequence[tuple[str, str, re.Pattern[str]]]) -> str:
    return next((name for name, only, pattern in rules if only in ("", digit) and pattern.search(words)), "")


def _by_status(detail: str) -> str:
    known = _STATUS.get(detail) or _WEAK_STATUS.get(detail)
    if known:
        return known
    subject, _, number = detail.partition(".")
    if subject == "7" and number.isdecimal() and 500 <= int(number) < 700:
        return "reputation"  # a large receiver's numbers for clients that it does not like
    return "" if number == "0" and subject == "0" else _BY_SUBJECT.get(subject, "")


def _spread(text: str) -> str:
    """Lower-case words with one blank before each and one behind the last."""
    return f" {_BLANK.sub(' ', text)} ".replace("  ", " ")
