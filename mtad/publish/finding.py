"""What a check of DNS can find: its id, how bad it is, and why it matters. The ids are stable: scripts know them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mtad.mail.text import clean

Severity = Literal["error", "warning", "info"]

TEXT_MAX = 600
FIX_MAX = 6000

# Why it matters, in the words of what happens to mail.
CATALOGUE: Mapping[str, tuple[Severity, str]] = {
    "ns.none": ("error", "without name servers nobody can find where mail goes, or judge what comes from here"),
    "ns.unreachable": ("error", "whoever asks this server waits, and defers mail or takes it as unauthenticated"),
    "ns.lame": ("error", "whoever asks this server learns nothing, and has to try another"),
    "ns.unresolved": ("error", "a name server without an address cannot be asked"),
    "ns.tcp": ("error", "long answers, as those with DKIM keys, come over TCP only"),
    "ns.udp": ("error", "resolvers ask over UDP first and wait for it in vain"),
    "ns.serial": ("warning", "the servers have different versions of the zone: a change has not reached all of them"),
    "ns.disagree": ("error", "what a receiver is told depends on the server that it happens to ask"),
    "zone.alias": ("error", "a domain that is an alias can have no MX and TXT records of its own (RFC 1034 3.6.2)"),
    "zone.bogus": ("error", "resolvers that validate DNSSEC refuse every answer of the zone: mail for it bounces"),
    "resolver.stale": ("info", "resolvers keep what they have heard until its TTL is over"),
    "resolver.failing": ("error", "the daemon cannot look up names, so it can neither deliver nor verify"),
    "check.incomplete": ("warning", "what was not asked is not judged"),
    "domain.unknown": ("warning", "mail that DNS leads here is refused"),
    "host.address": ("error", "nobody can connect to a host without an address"),
    "host.alias": ("warning", "names in MX and EHLO must not be aliases (RFC 2181 10.3, RFC 5321 2.3.5)"),
    "host.incomplete": ("warning", "mail also leaves from this address: receivers look for its name and find another"),
    "host.elsewhere": ("error", "connections to the host's name end somewhere else"),
    "mx.missing": ("error", "senders fall back to the domain's own address, and some do not even try"),
    "mx.null": ("error", "a null MX says that the domain takes no mail: senders give up at once (RFC 7505)"),
    "mx.elsewhere": ("error", "mail for the domain does not come here"),
    "mx.alias": ("error", "an MX must not lead to an alias: some senders refuse it (RFC 2181 10.3)"),
    "mx.address": ("error", "an MX that is an address instead of a name leads nowhere (RFC 1035 3.3.9)"),
    "mx.unresolved": ("error", "senders waste their tries on a host that does not exist"),
    "mx.inside": ("error", "an address of a private network cannot be reached by others"),
    "ptr.missing": ("error", "large receivers refuse mail from addresses without a name"),
    "ptr.forward": ("error", "the name of the address does not lead back to it: receivers take it for forged"),
    "ptr.helo": ("warning", "receivers compare the name of the address with that in EHLO"),
    "address.listed": ("error", "receivers that use this list refuse mail from here"),
    "spf.missing": ("error", "nothing says who may send for the domain; large receivers refuse such mail"),
    "spf.multiple": ("error", "several SPF records are a permanent error: SPF fails for all mail (RFC 7208 4.5)"),
    "spf.syntax": ("error", "a record that breaks the grammar is a permanent error: SPF fails for all mail"),
    "spf.lookups": ("error", "more than 10 terms that ask DNS are a permanent error (RFC 7208 4.6.4)"),
    "spf.voids": ("error", "more than 2 questions without an answer are a permanent error (RFC 7208 4.6.4)"),
    "spf.target": ("error", "an include or redirect that leads to no record is a permanent error (RFC 7208 5.2, 6.1)"),
    "spf.open": ("error", "+all lets the whole world send in the domain's name"),
    "spf.undecided": ("warning", "without -all or ~all at its end the record refuses nobody"),
    "spf.ptr": ("warning", "ptr is slow and unreliable, and must not be used (RFC 7208 5.5)"),
    "spf.dead": ("warning", "terms behind all are never looked at"),
    "spf.uncovered": ("error", "mail that leaves from this address fails SPF"),
    "spf.host": ("warning", "reports have no sender: receivers judge them by the name in EHLO"),
    "spf.broken": ("error", "receivers that cannot look the record up defer mail"),
    "dkim.none": ("error", "mail is not signed: large receivers refuse it, and forwarding breaks its authentication"),
    "dkim.missing": ("error", "signatures with this key cannot be verified: they count for nothing"),
    "dkim.mismatch": ("error", "DNS has another key than the one that signs: every signature fails"),
    "dkim.revoked": ("error", "an empty p= revokes the key: every signature fails (RFC 6376 3.6.1)"),
    "dkim.syntax": ("error", "receivers cannot read the key: every signature fails"),
    "dkim.multiple": ("error", "with several records at its name receivers may take the wrong one (RFC 6376 3.6.2.2)"),
    "dkim.weak": ("warning", "RSA keys of less than 2048 bits can be broken; some receivers ignore them (RFC 8301)"),
    "dkim.testing": ("warning", "t=y tells receivers to treat signed mail as if it were not (RFC 6376 3.6.1)"),
    "dkim.restricted": ("error", "the record does not allow what the daemon does with the key"),
    "dkim.waiting": ("info", "the key signs once every server serves its record"),
    "dkim.leftover": ("info", "the private key is destroyed: its record serves nobody any more"),
    "dmarc.missing": ("error", "receivers are told neither what to do with forged mail nor who should hear of it"),
    "dmarc.multiple": ("error", "several DMARC records count as none (RFC 9989 4.10)"),
    "dmarc.syntax": ("error", "receivers ignore a record that they cannot read"),
    "dmarc.none": ("warning", "p=none asks for nothing: forged mail is delivered"),
    "dmarc.testing": ("warning", "t=y softens the policy by a step (RFC 9989 4.7)"),
    "dmarc.silent": ("warning", "without rua= nobody hears of mail that fails"),
    "dmarc.reports": ("warning", "receivers send no reports to another domain unless it says that it wants them"),
    "dmarc.alignment": ("error", "neither SPF nor DKIM would vouch for the author's domain: DMARC fails"),
    "dmarc.dkim": ("warning", "no signature would vouch for the author's domain: DMARC fails for forwarded mail"),
    "tls.missing": ("error", "without TLS everybody on the way reads the mail, and nobody can sign in"),
    "tls.stale": ("warning", "what was renewed is not in use yet: clients see the certificate of before"),
    "tls.expired": ("error", "mail programs refuse to connect, and senders that verify do not deliver"),
    "tls.expiring": ("warning", "then mail programs refuse to connect, and senders that verify do not deliver"),
    "tls.name": ("error", "mail programs refuse a certificate that is for somebody else"),
    "tls.untrusted": ("error", "mail programs refuse a certificate that no authority they know vouches for"),
    "sts.absent": ("info", "an attacker between the hosts can switch TLS off; MTA-STS forbids it (RFC 8461)"),
    "sts.record": ("error", "a record that breaks the grammar announces no policy (RFC 8461 3.1)"),
    "sts.fetch": ("error", "a policy that is announced but cannot be fetched protects nothing (RFC 8461 3.3)"),
    "sts.policy": ("error", "a policy that breaks the grammar protects nothing"),
    "sts.id": ("warning", "senders keep the policy that they have until the record has another id (RFC 8461 3.1)"),
    "sts.other": ("info", "senders heed the file that they are served, whatever the settings here say"),
    "sts.mx": ("error", "senders that heed the policy refuse to deliver to an MX host that it does not name"),
    "sts.mode": ("warning", "in this mode senders deliver whatever TLS says"),
    "sts.certificate": (
        "error",
        "senders that heed the policy refuse to deliver to a host without a valid certificate",
    ),
    "tlsrpt.absent": ("info", "senders whose TLS to this host fails tell nobody (RFC 8460)"),
    "tlsrpt.record": ("error", "senders ignore a record that breaks the grammar (RFC 8460 3)"),
    "dane.mismatch": ("error", "senders that validate DNSSEC refuse to deliver: the certificate is another one"),
    "dane.unusable": ("error", "senders skip records that mean nothing for SMTP (RFC 7672 3.1.3)"),
    "dane.unsigned": ("warning", "TLSA records count in zones that are signed with DNSSEC only"),
    "caa.issuer": ("error", "the authority must refuse to renew the certificate (RFC 8659)"),
    "srv.elsewhere": ("warning", "mail programs that set themselves up go to another host (RFC 6186)"),
    "txt.wildcard": (
        "warning",
        "a wildcard answers for names that have no record: receivers find texts that mean nothing",
    ),
    "txt.large": ("warning", "answers of this size get lost on their way, and SPF with them (RFC 7208 3.4)"),
    "parked.mx": ("error", "senders try for days to deliver to a domain that takes no mail (RFC 7505)"),
    "parked.spf": ("error", "everybody may send in the name of the domain"),
    "parked.dmarc": ("error", "receivers are not told that all mail in its name is forged"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` is one or more lines: of a zone file, or a command. Clean, but for its line ends."""

    id: str
    severity: Severity
    what: str
    why: str
    fix: str

    def row(self) -> dict[str, str]:
        return {"id": self.id, "severity": self.severity, "what": self.what, "why": self.why, "fix": self.fix}


def found(id_: str, what: str, fix: str, severity: Severity | None = None) -> Finding:
    """A finding of the catalogue. What strangers wrote may be in it."""
    usual, why = CATALOGUE[id_]
    safe = "\n".join(clean(line, FIX_MAX) for line in fix.split("\n"))
    return Finding(id_, severity or usual, clean(what, TEXT_MAX), why, safe)
