"""Where a route leads, as it is written: the target, the pattern of mailboxes, the words of a command.

Pure, as mtad.config.parse is; every failure is BadValue. `Target.written` is the way back.
"""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from mtad.config.names import host_port
from mtad.config.parse import BadValue, text
from mtad.config.tree import Target

PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
_SIGNS = "%u is the local part, %d the domain, %% a percent sign"


def target(value: Any) -> Target:
    """Where a route leads. Paths stay as they are; the loader makes nothing absolute here."""
    given = text(value).strip()
    scheme, colon, rest = given.partition(":")
    scheme = scheme.lower()
    hint = "smtp:// smtps:// lmtp:// lmtp:///path.sock maildir:///path/%u pipe: mx: reject: discard:"
    match scheme if colon else "":
        case "reject":
            return Target("reject", text=rest.strip().removeprefix("//"))
        case "discard" | "mx" | "pipe" if rest.strip("/ ") == "":
            return Target(scheme)
        case "pipe":
            raise BadValue("a pipe takes no words here", 'to = "pipe:" and command = ["/usr/bin/program", "%u@%d"]')
        case "maildir":
            return Target("maildir", path=_maildir(rest))
        case "smtp" | "smtps" | "lmtp":
            return _network_target(scheme, given, rest)
        case _:
            raise BadValue(f"{given!r} is no target", hint)


def _maildir(rest: str) -> str:
    path = rest.removeprefix("//") if rest.startswith("//") else ""  # as it is: its % are not those of URLs
    if not path.startswith("/"):
        raise BadValue("a maildir needs an absolute path", "maildir:///var/mail/%d/%u")
    return check_pattern(path.rstrip("/"))


def _network_target(scheme: str, given: str, rest: str) -> Target:
    if not rest.startswith("//"):
        raise BadValue(f"{given!r} is no target", f"{scheme}://host:port")
    if scheme == "lmtp" and rest.startswith("///"):
        path = unquote(urlsplit(rest).path)
        if len(path.encode()) > 107:
            raise BadValue(f"{path!r} is too long for a socket", "at most 107 octets")
        return Target("lmtp", path=path)
    authority = rest.removeprefix("//").rstrip("/")
    user, _, where = authority.rpartition("@")
    if ":" in user:
        raise BadValue("a password does not belong here", "keep the user name, and put the password into password_file")
    if not where:
        raise BadValue(f"{scheme}:// names no host", f"{scheme}://host:port")
    address = host_port(where, PORTS[scheme])
    return Target(scheme, host=address.host, port=address.port, user=unquote(user))


def check_pattern(path: str) -> str:
    """A maildir pattern knows %u (local part), %d (domain) and %%; without %u, all mail shares one mailbox."""
    for sign in re.findall(r"%.?", path):
        if sign not in ("%u", "%d", "%%"):
            raise BadValue(f"{path!r}: unknown sign {sign!r}", _SIGNS)
    if ".." in path.split("/"):
        raise BadValue(f"{path!r} climbs with ..")
    return path


def word(value: Any) -> str:
    """One word of a command."""
    given = text(value)
    for sign in re.findall(r"%.?", given):
        if sign not in ("%u", "%d", "%%"):
            raise BadValue(f"{given!r}: unknown sign {sign!r}", _SIGNS)
    return given
