"""Reply: one status value for wire, log, report, store and command line (RFC 5321 4.2, RFC 3463).

Absent text is "" and never None. `text` may be shown to anyone; `cause` is for the log only.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reply:
    """What one side told the other, or what we decided ourselves.

    `code` is the SMTP code, `status` the enhanced code ("5.1.1"), `text` the public words (lines joined by "\\n"),
    `host` who said it ("" = we did), `stage` the command it answered ("connect", "ehlo", "mail", "rcpt", "data",
    "final" ...), `cause` the private detail that never leaves the log.
    """

    code: int
    status: str
    text: str
    host: str = ""
    stage: str = ""
    cause: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        """Anything that is neither a success nor a stated 5yz: unknown failure is temporary."""
        return not self.ok and not self.permanent

    @property
    def permanent(self) -> bool:
        return 500 <= self.code < 600

    def wire(self) -> bytes:
        """The reply as octets, CRLF included; every line carries the code and the enhanced code."""
        if not self.status:
            lead, last = f"{self.code}-", f"{self.code} "
        else:
            lead, last = f"{self.code}-{self.status} ", f"{self.code} {self.status} "
        if "\n" not in self.text:
            return f"{last}{self.text}\r\n".encode("utf-8", "replace")
        lines = self.text.split("\n")
        return ("".join(f"{lead}{line}\r\n" for line in lines[:-1]) + f"{last}{lines[-1]}\r\n").encode(
            "utf-8", "replace"
        )

    def because(self, cause: str) -> "Reply":
        """The same reply with a private cause for the log."""
        return replace(self, cause=cause)

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}" if self.status else f"{self.code} {self.text}"


class Refused(Exception):  # noqa: N818  (the RFC's word)
    """A step ended with a reply that is not a success. Carries it; the owner of the connection decides what is said."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


# The one reply for "something broke here": temporary, says nothing about the cause.
LOCAL_ERROR = Reply(451, "4.3.0", "Local error, please try again later")

DAMAGED = Reply(451, "4.3.0", "The stored message is damaged, and was not sent: it is held")
