"""The doctor's mails to itself: through each way in, until they are delivered, and whether they were signed well."""

import os
import time
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from mtactl.errors import CallError
from mtactl.posting import by_port, by_socket, compose
from mtad.config import Config
from mtad.dkim.verify import verify
from mtad.doctor import gather_net
from mtad.doctor.finding import Finding, error, note, ok, warning

WAIT_S = 20
HOLD_S = 60


class Asks(Protocol):
    def rows(self, verb: str, /, **arguments: Any) -> list[dict[str, Any]]: ...


def findings(asked: Asks, config: Config, user: str) -> Iterator[Finding]:
    """Each mail goes to postmaster. `user` signs in at the listeners for users, by an app password of a minute."""
    recipient = f"postmaster@{config.domains[0]}"
    yield from _by_socket(asked, config, recipient)
    listeners = gather_net.listeners(config)
    secret = label = ""
    if user and any(kind != "smtp" for kind, _, _ in listeners):
        label = f"doctor-{os.getpid()}"
        try:
            [row] = asked.rows("user.app_password.add", name=user, label=label)
        except CallError as failure:
            yield error("mail.submission", f"no app password for {user}: {failure.text}", "So nobody could sign in.",
                        "mtactl user list")  # fmt: skip
        else:
            user, secret = row["name"], row["password"]
    try:
        for kind, address, way in listeners:
            check, host = f"mail.{kind}", gather_net.here(address.host)
            where = f"{host}:{address.port}"
            if kind != "smtp" and not secret:
                if not user:
                    yield note(
                        check, f"{where} was not tried", "Its users sign in.", "mtactl doctor --self-mail --user NAME"
                    )
                continue
            sender = "" if kind == "smtp" else _address(user, config)
            octets, _ = compose(sender or recipient, recipient, config.hostname, f"Doctor's mail by {kind}", _TEXT)
            try:
                queue_id = by_port(
                    host, address.port, sender, recipient, octets, implicit=way == "implicit",
                    user="" if kind == "smtp" else user, password=secret,
                )  # fmt: skip
            except CallError as failure:
                yield error(
                    check, failure.text, "Mail that comes this way is lost to us.", "mtactl tls test; mtactl status"
                )
                continue
            yield _outcome(asked, check, where, queue_id)
    finally:
        if secret:
            asked.rows("user.app_password.remove", name=user, label=label)


_TEXT = "A mail of mtactl doctor --self-mail. There is nothing to do."


def _address(user: str, config: Config) -> str:
    return user if "@" in user else f"{user}@{config.domains[0]}"


def _by_socket(asked: Asks, config: Config, recipient: str) -> Iterator[Finding]:
    octets, _ = compose(recipient, recipient, config.hostname, "Doctor's mail by the socket", _TEXT)
    try:
        queue_id, held = by_socket(config.paths.submit, recipient, recipient, octets, hold_s=HOLD_S)
    except CallError as failure:
        yield error("mail.local", failure.text, "Programs of this host cannot send.", "mtactl status")
        return
    if held:
        yield _signed(asked, config, queue_id)
        asked.rows("queue.flush", ids=[queue_id])
    yield _outcome(asked, "mail.local", config.paths.submit, queue_id)


def _signed(asked: Asks, config: Config, queue_id: str) -> Finding:
    """Against the keys of this host, not those in DNS: that is the part of `dns check`."""
    domain = config.domains[0]
    try:
        stored = b"".join(b64decode(row["octets"]) for row in asked.rows("queue.body", id=queue_id))
        records = {row["name"].removesuffix("."): row["record"] for row in asked.rows("dkim.list")}
    except CallError as failure:
        return note(
            "mail.dkim", f"the stored mail cannot be read: {failure.text}", "Run the doctor as root to see all."
        )

    def lookup(name: str) -> Sequence[str]:
        found = records.get(name.removesuffix("."))
        return [found] if found else ()

    results = verify(stored, lookup, time.time())
    if not results:
        return warning("mail.dkim", f"mail of {domain} is not signed", "Large receivers refuse unsigned mail.",
                       f"mtactl dkim generate {domain}")  # fmt: skip
    bad = [f"{one.selector}: {one.result} {one.reason}" for one in results if one.result != "pass"]
    if bad:
        return error("mail.dkim", f"signatures of {domain} do not verify: {'; '.join(bad)}",
                     "Every receiver sees a forged mail.", f"mtactl dkim status {domain}")  # fmt: skip
    return ok("mail.dkim", f"mail of {domain} is signed by {', '.join(one.selector for one in results)}, and verifies")


def _outcome(asked: Asks, check: str, where: str, queue_id: str) -> Finding:
    try:
        rows = asked.rows("queue.wait", id=queue_id, timeout=f"{WAIT_S}s")
    except CallError as failure:
        if failure.code == 75:
            return warning(check, f"{where} took {queue_id}, which is not delivered yet: {failure.text}",
                           "What waits for postmaster is read by nobody.", f"mtactl queue show {queue_id}")  # fmt: skip
        return error(check, f"{where} took {queue_id}, which failed: {failure.text}", "Reports to postmaster are lost.",
                     f"mtactl queue show {queue_id}")  # fmt: skip
    took = rows[0]["recipients"][0]["address"] if rows else "postmaster"
    return ok(check, f"{where} took {queue_id}, and {took} has it")
