"""-bv and -bt: would mail for these addresses be taken. The daemon is asked as for a mail, and no mail is sent."""

import posix

from mtactl.submit.base import EX_TEMPFAIL, EX_USAGE, Down, Failure, Places, Voice
from mtactl.submit.header import listed
from mtactl.submit.link import Link, exit_code
from mtactl.submit.mail import read
from mtactl.submit.options import Options
from mtactl.submit.queue import CallError, call
from mtactl.submit.text import Lines

INPUT_MAX = 1024 * 1024


def run(options: Options, places: Places, voice: Voice) -> int:
    """One line for each address. Exit code of the first that would be refused, 75 while the daemon is down."""
    words = options.recipients or _lines()
    addresses = [address for word in words for address in (listed(word) or [word])]
    if not addresses:
        raise Failure(EX_USAGE, "no addresses: name them as arguments, or one a line on standard input")
    try:
        link = Link(places.submit, voice, verbose=options.verbose)
        verdicts = _ask(link, addresses)
    except Down as down:
        raise Failure(EX_TEMPFAIL, str(down)) from None
    except OSError as error:
        raise Failure(EX_TEMPFAIL, f"the daemon broke off ({error.strerror})") from None
    first = 0
    for address, (code, text) in zip(addresses, verdicts, strict=True):
        if code // 100 == 2:
            targets = _targets(places, address)
            said = f"deliverable, to {', '.join(targets)}" if targets not in ([], [address]) else "deliverable"
        else:
            first = first or exit_code(code, text)
            said = f"undeliverable: {text}"
        line = "".join(c if c.isprintable() else "?" for c in f"{address}: {said}")
        posix.write(1, f"{line}\n".encode("utf-8", "replace"))
    return first


def _lines() -> "list[str]":
    start = read(Lines(dots=True), INPUT_MAX).decode("utf-8", "surrogateescape")
    return [line for line in map(str.strip, start.split("\n")) if line]


def _ask(link: Link, addresses: "list[str]") -> "list[tuple[int, str]]":
    """The reply to each recipient. OSError, Down."""
    for command in (b"", b"EHLO localhost\r\n", b"MAIL FROM:<> SMTPUTF8\r\n"):
        link.send(command)
        code, text = link.reply()
        if code // 100 != 2:
            raise Down(f"the daemon said {text}")
    verdicts = []
    for address in addresses:
        if not address.isprintable():
            verdicts.append((501, "501 5.1.3 no address"))
            continue
        link.send(f"RCPT TO:<{address}>\r\n".encode("utf-8", "surrogateescape"))
        verdicts.append(link.reply())
    link.send(b"QUIT\r\n")
    return verdicts


def _targets(places: Places, address: str) -> "list[str]":
    """Where mail for it goes, for those who may know; [] where the daemon does not say."""
    try:
        return [
            str(target)
            for row in call(places.control, "Explain", {"address": address})
            for way in row["ways"]
            for target in way["addresses"]
        ]
    except (CallError, OSError, KeyError):
        return []
