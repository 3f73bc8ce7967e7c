"""The classes of delivery errors, with a plain sentence for the sender and one for the operator. Pure.

`mtad.mail.classify` says which class a reply is of. The names are stored with every recipient and every try, are the
words of `queue list --error`, and label the counter of errors: add, but do not rename.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """`sender` is what the sender of the mail reads, with {domain} for that of the recipient; `operator` what to do.

    `hard`: a permanent failure of this class means the address, not this mail or this day.
    """

    name: str
    sender: str
    operator: str
    hard: bool = False

    def explain(self, domain: str) -> str:
        """The sender's sentence about a recipient at `domain`, which must be safe to show."""
        return self.sender.replace("{domain}", domain or "this system")


_TABLE = (
    # The address.
    ErrorClass(
        "unknown-user",
        "There is no such mailbox at {domain}. Check the address for mistakes.",
        "Nothing to do here. Many of them for one sender are an old list of addresses.",
        hard=True,
    ),
    ErrorClass(
        "mailbox-disabled",
        "The mailbox exists at {domain}, but is switched off and takes no mail.",
        "Nothing to do here.",
        hard=True,
    ),
    ErrorClass(
        "bad-domain",
        "The domain {domain} does not exist or takes no mail. Check the address for mistakes.",
        "Nothing to do here, unless the domain is your own: then it needs an MX, or a route.",
        hard=True,
    ),
    ErrorClass(
        "bad-address",
        "The address is not written in a way that {domain} understands. Check it for mistakes.",
        "Nothing to do here.",
    ),
    ErrorClass(
        "suppressed",
        "This system does not send to this address at present: earlier mail of yours to it came back, or its operator"
        " stopped it. Check the address; if it is right, ask the operator.",
        "`mtactl suppress lookup ADDRESS` shows since when and why, `mtactl suppress remove ADDRESS` lifts it.",
    ),
    # The mailbox and the system behind it.
    ErrorClass(
        "mailbox-full",
        "The mailbox is full at {domain}; nothing to fix on your side.",
        "Nothing to do here: the recipient has to make room.",
    ),
    ErrorClass(
        "remote",
        "The mail system of {domain} has trouble of its own; nothing to fix on your side.",
        "Wait. When it lasts, tell the postmaster of the domain.",
    ),
    # The way there.
    ErrorClass(
        "dns",
        "The mail servers of {domain} could not be found: its entries in DNS are wrong or do not answer.",
        "Look the domain up with `dig MX`. When many domains are hit, it is your own resolver: see [dns] servers.",
    ),
    ErrorClass(
        "network",
        "The mail servers of {domain} could not be reached; nothing to fix on your side.",
        "Try port 25 of the host by hand. When many domains are hit, your own network or provider blocks the port.",
    ),
    ErrorClass(
        "timeout",
        "The mail server of {domain} did not answer in time; nothing to fix on your side.",
        "Wait. When it lasts for one host only, look for a firewall or an MTU problem on the way there.",
    ),
    ErrorClass(
        "tls",
        "No encrypted connection of the kind that is required could be made with {domain}.",
        "`mtactl queue show ID` tells what failed. Where the policy is your own, see [[delivery.route]] tls.",
    ),
    ErrorClass(
        "protocol",
        "The mail server of {domain} and this one did not understand each other.",
        "Read the last reply: a broken server, or a firewall that meddles with SMTP, stands there.",
    ),
    ErrorClass(
        "loop",
        "The mail ran in a circle between systems.",
        "An alias, a forward or an MX leads back: look at the Received fields and at your routes.",
    ),
    ErrorClass(
        "relay-denied",
        "The mail server of {domain} says that it is not responsible for this address.",
        "The MX of the domain, or your route for it, leads to the wrong host.",
    ),
    ErrorClass(
        "auth",
        "This system was not let in by the mail server that it hands mail to; its operator has to see to that.",
        "Check user, password_file and tls of the route to this host.",
    ),
    # How much.
    ErrorClass(
        "rate-limit",
        "{domain} takes only so much mail at a time; nothing to fix on your side.",
        "Send more slowly: lower delivery.max_per_domain. A sudden burst may be a stolen account: see who sends.",
    ),
    ErrorClass(
        "greylist",
        "{domain} puts off mail of senders that it does not know yet; this passes by itself.",
        "Nothing to do: it is tried again, from the same address.",
    ),
    # Who we are.
    ErrorClass(
        "reputation",
        "{domain} does not take mail from this system, because it is on a blocklist or has a bad reputation; its"
        " operator has to see to that.",
        "The last reply names the list or a link. Stop the cause first (a stolen account, a web form), then ask there"
        " to be taken off.",
    ),
    ErrorClass(
        "rdns",
        "{domain} does not take mail from this system because of the name of this host; its operator has to see to"
        " that.",
        "The address that you send from needs a PTR, whose name leads back to the address; use it as `hostname`.",
    ),
    ErrorClass(
        "dmarc",
        "{domain} could not confirm that the mail comes from the domain in its From (SPF, DKIM, DMARC).",
        "Check SPF, DKIM and DMARC of the sender's domain: each From needs one of the first two, aligned.",
    ),
    ErrorClass(
        "bad-sender",
        "{domain} does not take mail from your address: it is wrong, or its domain cannot be found.",
        "Check MX and address records of the sender's domain.",
    ),
    # What it is.
    ErrorClass(
        "content",
        "{domain} takes the content of this mail for unwanted or harmful. Change it before you send it again.",
        "Look at the mail. If it is what it seems to be, stop the sender; else write to the postmaster there.",
    ),
    ErrorClass(
        "size",
        "The mail is too big for {domain}. Send a smaller one, or a link.",
        "Nothing to do here: limits.message_size cannot know the limits of others.",
    ),
    ErrorClass(
        "unsupported",
        "The mail system of {domain} cannot take mail of this kind (8-bit text, letters beyond ASCII in addresses).",
        "Nothing to do here: the sender can write it more simply.",
    ),
    ErrorClass(
        "policy",
        "{domain} does not take this mail from this sender, by a rule of its own.",
        "Read the last reply, and ask the postmaster of the domain.",
    ),
    # Ourselves.
    ErrorClass(
        "local",
        "This system has trouble of its own; its operator has to see to that.",
        "See the log around the time of the try.",
    ),
    ErrorClass(
        "operator",
        "The operator of this system stopped the delivery.",
        "An operator did this: the log says who, and why.",
    ),
    ErrorClass(
        "expired",
        "The time for delivery ran out.",
        "See the tries in `mtactl queue show ID`.",
    ),
    ErrorClass(
        "other",
        "The mail system of {domain} gave the reason below.",
        "Read the last reply.",
    ),
)

CLASSES: Mapping[str, ErrorClass] = {one.name: one for one in _TABLE}
