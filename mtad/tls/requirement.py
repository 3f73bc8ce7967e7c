"""Which TLS one host must show before it gets our mail, on whose word, and why."""

from dataclasses import dataclass, field
from dataclasses import replace as _replace
from typing import Literal

from mtad.mail.reply import Reply
from mtad.tls.dane import Tlsa, key_digest, verify
from mtad.tls.tlsrpt import Fault, Policy

Level = Literal["may", "encrypt", "verify", "pinned", "dane"]
"""may: use it where offered. encrypt: insist. verify: and the certificate's authority and name must be right. pinned:
its public key is one of `pins`. dane: it matches one of `tlsa`."""

Origin = Literal["opportunistic", "configured", "MTA-STS", "DANE", "REQUIRETLS", "TLS-Required: No"]

Step = Literal["may", "encrypt", "verify", "pinned", "dane", "clear"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """Equal are those that ask for the same: a connection that was opened for one will do for the other."""

    level: Level = "may"
    origin: Origin = field(default="opportunistic", compare=False)
    why: str = field(default="", compare=False)  # "MTA-STS enforce of example.org"
    refusal: Reply | None = None  # the host must not be used at all
    fault: Fault | None = field(default=None, compare=False)  # what is wrong before anybody connects
    pins: tuple[str, ...] = ()  # SHA-256 of public keys, in hexadecimal
    tlsa: tuple[Tlsa, ...] = ()
    names: tuple[str, ...] = ()  # for whom the certificate may be; the first is asked for. () = the host's name
    testing: bool = False  # try "verify" first, for the report; its failure has no consequence
    report: Policy | None = field(default=None, compare=False)  # under what the outcome is counted; None: not at all

    @property
    def steps(self) -> tuple[Step, ...]:
        """The handshakes to try, each on a connection of its own; "clear" is none."""
        if self.level != "may":
            return (self.level,)
        return ("verify", "may", "clear") if self.testing else ("may", "clear")

    @property
    def authenticates(self) -> bool:
        return self.level in ("verify", "pinned", "dane")

    def __str__(self) -> str:
        """As an operator reads it: "dane (DANE: 2 TLSA records)"."""
        if self.refusal is not None:
            return f"not used ({self.why}: {self.refusal.text})"
        return f"{self.level} ({self.why or self.origin})"

    def check(self, chain: tuple[bytes, ...], host: str, now: float) -> Fault | None:
        """What is wrong with a host's certificates where OpenSSL was told to take any; None when they will do."""
        if self.level == "dane":
            return verify(chain, self.tlsa, self.names or (host,), now)
        if self.level == "pinned":
            try:
                known = bool(chain) and key_digest(chain[0]).hex() in self.pins
            except ValueError:
                known = False
            return None if known else Fault("validation-failure", "The host's public key is not one of those expected")
        return None


OPPORTUNISTIC = Requirement()


def for_requiretls(requirement: Requirement) -> Requirement:
    """Raised to what RFC 8689 4.2.1 asks for."""
    if requirement.authenticates or requirement.refusal is not None:
        return requirement
    return _replace(
        requirement, level="verify", origin="REQUIRETLS", why="the sender asked for REQUIRETLS", testing=False
    )


WITHOUT = Requirement("may", "TLS-Required: No", "the sender asked for delivery in any case")
