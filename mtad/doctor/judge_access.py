"""Graders of who may send through us: relaying, trusted networks, rates, the token. Pure."""

import math
from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network

from mtad.config import Config
from mtad.doctor.facts import RelayTry
from mtad.doctor.finding import Finding, error, note, ok, warning

TOKEN_BITS_MIN, TOKEN_BITS_GOOD = 64.0, 96.0
_COMMON = ("changeme", "change-me", "secret", "password", "admin", "token", "example", "default", "test")
WIDE_V4, WIDE_V6 = 16, 48  # prefix lengths: wider networks are more than one site


def relay(tries: Sequence[RelayTry]) -> Iterator[Finding]:
    asked = [one for one in tries if one.code]
    for kind, check in (("smtp", "relay.open"), ("submission", "relay.sign_in")):
        mine = [one for one in asked if one.where.startswith(f"{kind} ")]
        taken = [one for one in mine if one.code // 100 == 2]
        for one in taken:
            yield error(check, f"{one.where} takes mail of a stranger ({one.source}) to {one.recipient}",
                        "Spammers find an open relay within hours, and everybody refuses its mail.",
                        "narrow access.trusted_networks in mtad.toml; mtactl explain " + one.recipient)  # fmt: skip
        if not mine:
            yield note(check, f"no listener for {'other servers' if kind == 'smtp' else 'users'} could be asked by a"
                       " stranger from here", "It listens on loopback only, or all our addresses are trusted.",
                       "from another network: swaks --server HOST --from a@example.net --to b@example.com")  # fmt: skip
        elif not taken:
            yield ok(check, f"a stranger ({mine[0].source}) is refused: {mine[0].code} {mine[0].answer}")


def trusted(config: Config) -> Iterator[Finding]:
    wide = []
    for text in config.access.trusted_networks:
        net = ip_network(text, strict=False)
        if not net.is_loopback and net.prefixlen < (WIDE_V4 if net.version == 4 else WIDE_V6):
            wide.append(text)
    if any(ip_network(text, strict=False).prefixlen == 0 for text in wide):
        yield error("relay.trusted", "access.trusted_networks holds the whole world", "Everybody may relay.",
                    'access.trusted_networks = ["127.0.0.0/8", "::1"]')  # fmt: skip
    elif wide:
        yield warning("relay.trusted", f"access.trusted_networks is wide: {', '.join(wide)}",
                      "Every host in it may send to anybody without signing in.",
                      "name the hosts that need it: access.trusted_networks in mtad.toml")  # fmt: skip
    else:
        yield ok("relay.trusted", f"trusted: {', '.join(config.access.trusted_networks) or 'nobody'}")


def limits(config: Config) -> Iterator[Finding]:
    off = [
        name
        for name in ("message_rate", "connection_rate", "auth_failure_rate", "user_message_rate", "user_recipient_rate")
        if not getattr(config.limits, name).count
    ]
    if off:
        yield warning("relay.limits", f"without a limit: {', '.join(off)}",
                      "One stolen password sends a million mails in a night.",
                      f"limits.{off[0]} in mtad.toml; mtactl limit list")  # fmt: skip
    else:
        yield ok("relay.limits", f"users: {config.limits.user_message_rate} messages, clients:"
                 f" {config.limits.message_rate}")  # fmt: skip


def token_bits(token: str) -> float:
    """How hard a token is to guess at best: its length in the symbols that it uses; little where it holds a word."""
    distinct = len(set(token))
    bits = len(token) * math.log2(distinct) if distinct > 1 else 0.0
    lower = token.lower()
    for word in _COMMON:
        if word in lower:
            bits -= len(word) * 4
    return max(bits, 0.0)


def token(config: Config) -> Iterator[Finding]:
    given, http = config.access.admin_token, config.listen.http
    why = "Whoever guesses it reads what the queue holds."
    fix = "access.admin_token (or MTA_ADMIN_TOKEN_FILE) from: openssl rand -hex 32"
    if not given:
        if http is not None and not _loopback(http.host):
            yield error("relay.token", "the HTTP listener is open to the network and has no token", why, fix)
        else:
            yield ok("relay.token", "no token: " + ("nothing listens for HTTP" if http is None else "loopback only"))
        return
    bits = token_bits(given)
    if bits < TOKEN_BITS_MIN:
        yield error("relay.token", f"access.admin_token can be guessed (about {bits:.0f} bits)", why, fix)
    elif bits < TOKEN_BITS_GOOD:
        yield warning("relay.token", f"access.admin_token is weak (about {bits:.0f} bits)", why, fix)
    else:
        yield ok("relay.token", f"access.admin_token has about {bits:.0f} bits")


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
