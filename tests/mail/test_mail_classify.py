# ruff: noqa: E501  (servers write long lines)
"""What servers say in the field, and what it means."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.mail.classify import STAGE_OPERATOR, STAGE_SUPPRESSED, classify, hard
from mtad.mail.errorclass import CLASSES
from mtad.mail.reply import LOCAL_ERROR, Reply
from mtad.queue.retry import expired

# class | code | status | text. "-" is no status.
FIELD = r"""
unknown-user | 550 | 5.1.1 | The email account that you tried to reach does not exist. Please try\ndouble-checking the recipient's email address for typos or\nunnecessary spaces. For more information, go to\nhttps://support.google.com/mail/?p=NoSuchUser a1-20020a05600c.12 - gsmtp
mailbox-full | 452 | 4.2.2 | The recipient's inbox is out of storage space. Please direct the\nrecipient to https://support.google.com/mail/?p=OverQuotaTemp - gsmtp
mailbox-full | 552 | 5.2.2 | The recipient's inbox is out of storage space and inactive. - gsmtp
mailbox-disabled | 550 | 5.2.1 | The email account that you tried to reach is inactive. - gsmtp
mailbox-disabled | 550 | 5.2.1 | The email account that you tried to reach is disabled. - gsmtp
rate-limit | 450 | 4.2.1 | The user you are trying to contact is receiving mail at a rate that\nprevents additional messages from being delivered. Please resend your\nmessage at a later time. - gsmtp
rate-limit | 450 | 4.2.1 | The user you are trying to contact is receiving mail too quickly. - gsmtp
rate-limit | 421 | 4.7.28 | Gmail has detected an unusual rate of unsolicited mail originating\nfrom your IP address. To protect our users from spam, mail sent from\nyour IP address has been temporarily rate limited. - gsmtp
dmarc | 550 | 5.7.26 | This mail has been blocked because the sender is unauthenticated.\nGmail requires all senders to authenticate with either SPF or DKIM. - gsmtp
dmarc | 550 | 5.7.26 | Unauthenticated email from x.example is not accepted due to domain's DMARC policy. - gsmtp
dmarc | 421 | 4.7.26 | This mail has been rate limited because it is unauthenticated. Gmail requires all senders to authenticate with SPF or DKIM. - gsmtp
content | 550 | 5.7.1 | [192.0.2.1 12] Gmail has detected that this message is likely\nunsolicited mail. To reduce the amount of spam sent to Gmail,\nthis message has been blocked. - gsmtp
reputation | 550 | 5.7.1 | [192.0.2.1 19] Gmail has detected that this message is likely\nsuspicious due to the very low reputation of the sending IP address. - gsmtp
reputation | 550 | 5.7.1 | Our system has detected that this message is likely suspicious due to the very low reputation of the sending domain. - gsmtp
rdns | 550 | 5.7.25 | The IP address sending this message does not have a PTR record setup, or the corresponding forward DNS entry does not point to the sending IP. - gsmtp
tls | 421 | 4.7.29 | This mail has been rate limited because this message wasn't sent over a TLS connection. - gsmtp
content | 552 | 5.7.0 | This message was blocked because its content presents a potential\nsecurity issue. Please visit the page to review our\nmessage content and attachment content guidelines. - gsmtp
size | 552 | 5.3.4 | Your message exceeded Google's message size limits. - gsmtp
unsupported | 553 | 5.6.7 | The recipient does not support internationalized addresses.
protocol | 502 | 5.5.1 | Unrecognized command. - gsmtp
relay-denied | 550 | 5.7.1 | Email relaying is not permitted from this address. - gsmtp
auth | 530 | 5.7.0 | Authentication Required. For more information, go to the help center - gsmtp
auth | 535 | 5.7.8 | Username and Password not accepted.
unknown-user | 550 | 5.1.10 | RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup
unknown-user | 550 | 5.4.1 | Recipient address rejected: Access denied. [DB5EUR01FT012.eop-EUR01.prod.protection.outlook.com]
unknown-user | 550 | 5.5.0 | Requested action not taken: mailbox unavailable (S2017062302). [x.prod.protection.outlook.com]
reputation | 550 | 5.7.1 | Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3140). You can also refer your provider to http://mail.live.com/mail/troubleshooting.aspx#errors.
reputation | 550 | 5.7.606 | Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/
reputation | 550 | 5.7.511 | Access denied, banned sender[192.0.2.1]. To request removal from this list please forward this message
reputation | 550 | 5.7.501 | Service unavailable. Spam abuse detected from IP range.
rate-limit | 451 | 4.7.650 | The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation. For e-mail delivery information, see https://postmaster.live.com
rate-limit | 452 | 4.5.3 | Too many recipients (AS780090) [x.prod.protection.outlook.com]
relay-denied | 550 | 5.7.64 | TenantAttribution; Relay Access Denied [x.prod.protection.outlook.com]
relay-denied | 550 | 5.7.54 | SMTP; Unable to relay recipient in non-accepted domain
dmarc | 550 | 5.7.509 | Access denied, sending domain x.example does not pass DMARC verification and has a DMARC policy of reject.
dmarc | 550 | 5.7.515 | Access denied, sending domain x.example does not meet the required authentication level. The sender's domain doesn't pass SPF
mailbox-full | 554 | 5.2.2 | mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException.MapiExceptionShutoffQuotaExceeded
mailbox-full | 452 | 4.2.2 | Mailbox full
size | 550 | 5.2.3 | RESOLVER.RST.RecipSizeLimit; message too large for this recipient
policy | 550 | 5.7.1 | RESOLVER.RST.AuthRequired; the recipient only accepts mail from people in its organization
policy | 550 | 5.7.1 | TRANSPORT.RULES.RejectMessage; the message was rejected by organization policy
remote | 421 | 4.3.2 | Service not available, closing transmission channel
remote | 451 | 4.3.2 | System not accepting network messages
loop | 554 | 5.4.14 | Hop count exceeded - possible mail loop ATTR34
loop | 554 | 5.4.6 | Hop count exceeded - possible mail loop
tls | 530 | 5.7.0 | Must issue a STARTTLS command first
auth | 550 | 5.7.57 | Client not authenticated to send mail.
rate-limit | 421 | 4.7.0 | [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes
reputation | 553 | 5.7.1 | [TSS09] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.
reputation | 553 | 5.7.1 | [BL21] Connections not accepted from IP addresses on Spamhaus PBL
unknown-user | 554 | - | delivery error: dd This user doesn't have a yahoo.com account (b@b.example) [0] - mta4001.mail.bf1.yahoo.com
mailbox-disabled | 554 | - | delivery error: dd Sorry, your message to b@b.example cannot be delivered. This mailbox is disabled (554.30). - mta1
dmarc | 554 | 5.7.9 | Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes; DMARC check failed
policy | 554 | 5.7.9 | Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes
unknown-user | 552 | - | 1 Requested mail action aborted, mailbox not found
mailbox-full | 552 | 5.2.2 | User's mailbox is full: b@b.example
unknown-user | 550 | 5.1.1 | <b@b.example>: Recipient address rejected: User unknown in virtual mailbox table
unknown-user | 550 | 5.1.1 | <b@b.example>: Recipient address rejected: User unknown in local recipient table
unknown-user | 450 | 4.1.1 | <b@b.example>: Recipient address rejected: unverified address: host mx said: 550 no such user
relay-denied | 554 | 5.7.1 | <b@b.example>: Relay access denied
relay-denied | 454 | 4.7.1 | <b@b.example>: Relay access denied
greylist | 450 | 4.2.0 | <b@b.example>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/b.example.html
greylist | 451 | 4.7.1 | Greylisting in action, please come back later
greylist | 451 | - | Resources temporarily not available - graylisted, try again in 300 seconds
greylist | 450 | 4.7.1 | Client host rejected: Greylisted for 60 seconds
reputation | 554 | 5.7.1 | Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1
reputation | 550 | 5.7.1 | Service unavailable; client [192.0.2.1] blocked using bl.spamcop.net; Blocked - see https://www.spamcop.net/bl.shtml?192.0.2.1
reputation | 554 | 5.7.1 | Service unavailable; Client host [192.0.2.1] blocked using b.barracudacentral.org; http://www.barracudanetworks.com/reputation/?pr=1&ip=192.0.2.1
rdns | 450 | 4.7.25 | Client host rejected: cannot find your hostname, [192.0.2.1]
rdns | 450 | 4.7.1 | Client host rejected: cannot find your reverse hostname, [192.0.2.1]
rdns | 504 | 5.5.2 | <localhost>: Helo command rejected: need fully-qualified hostname
rdns | 450 | 4.7.1 | <mx>: Helo command rejected: Host not found
bad-sender | 450 | 4.1.8 | <a@x.example>: Sender address rejected: Domain not found
bad-sender | 553 | 5.7.1 | <a@x.example>: Sender address rejected: not owned by user joe
bad-domain | 450 | 4.1.2 | <b@b.example>: Recipient address rejected: Domain not found
mailbox-full | 552 | 5.2.2 | <b@b.example>: Recipient address rejected: Mailbox is full / Quota exceeded
size | 552 | 5.3.4 | Message size exceeds fixed limit
size | 552 | 5.3.4 | Error: message file too big
remote | 452 | 4.3.1 | Insufficient system storage
remote | 451 | 4.3.0 | <b@b.example>: Temporary lookup failure
remote | 451 | 4.3.0 | Error: queue file write error
remote | 451 | 4.3.5 | Server configuration error
content | 550 | 5.7.1 | Message content rejected
protocol | 503 | 5.5.1 | Error: need MAIL command: improper command pipelining after DATA
loop | 554 | 5.4.0 | Error: too many hops
auth | 535 | 5.7.8 | Error: authentication failed: UGFzc3dvcmQ6
policy | 554 | 5.7.1 | <b@b.example>: Recipient address rejected: Access denied by administrator
policy | 554 | 5.7.1 | <host[192.0.2.1]>: Client host rejected: Access denied
unknown-user | 550 | - | Unrouteable address
unknown-user | 550 | - | unknown user
unknown-user | 550 | - | No such person at this address.
unknown-user | 550 | - | Address b@b.example does not exist
bad-sender | 550 | - | Verification failed for <a@x.example>\nNo Such User Here\nSender verify failed
relay-denied | 550 | - | relay not permitted
content | 550 | - | This message was classified as SPAM and may not be delivered
content | 550 | - | This message contains malware (Eicar-Test-Signature)
remote | 451 | - | Temporary local problem - please try later
policy | 550 | - | Administrative prohibition
size | 552 | - | Message size exceeds maximum permitted
protocol | 554 | - | SMTP synchronization error, unrecognized command
unknown-user | 550 | 5.1.1 | <b@b.example>... User unknown
bad-domain | 550 | 5.1.2 | <b@b.example>... Host unknown (Name server: b.example: host not found)
bad-sender | 553 | 5.1.8 | <a@x.example>... Domain of sender address a@x.example does not exist
bad-sender | 451 | 4.1.8 | Domain of sender address a@x.example does not resolve
relay-denied | 550 | 5.7.1 | <b@b.example>... Relaying denied. Proper authentication required.
mailbox-full | 552 | 5.2.2 | Over quota
remote | 452 | 4.4.5 | Insufficient disk space; try again later
remote | 421 | 4.3.2 | Connection refused, load average too high
unknown-user | 550 | - | sorry, no mailbox here by that name (#5.1.1)
relay-denied | 553 | - | sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)
size | 552 | - | sorry, that message size exceeds my databytes limit (#5.3.4)
reputation | 554 | - | Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1
reputation | 550 | 5.7.0 | Local Policy Violation - your IP is on a block list
unknown-user | 550 | 5.1.1 | User Unknown - psmtp
reputation | 550 | - | 192.0.2.1 is listed at https://csi.cloudmark.com/reset-request
unknown-user | 550 | - | Invalid Recipient - https://community.mimecast.com/docs/DOC-1369#550 [abc.uk1]
greylist | 451 | - | Internal resources are temporarily unavailable - Greylisting - https://community.mimecast.com/docs/DOC-1369#451 [abc]
policy | 550 | - | Administrative prohibition - envelope blocked - https://community.mimecast.com/docs/DOC-1369#550 [abc.uk1]
content | 554 | - | Email rejected due to security policies - spam signature https://community.mimecast.com/docs/DOC-1369#554
unknown-user | 550 | - | permanent failure for one or more recipients (b@b.example:550 5.1.1 user unknown)
content | 554 | - | rejected due to spam content
reputation | 554 | - | Service unavailable; Client host [192.0.2.1] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/?r=1&ip=192.0.2.1
rate-limit | 421 | - | Too many concurrent SMTP connections from this IP address; please try again later
rate-limit | 450 | 4.7.1 | Error: too much mail from 192.0.2.1
rate-limit | 421 | 4.7.0 | mx.example Error: too many connections from 192.0.2.1
rate-limit | 451 | 4.7.1 | Too many messages, slow down
rate-limit | 450 | - | Rate limited per hour
unknown-user | 550 | 5.1.1 | Requested action not taken: mailbox unavailable\nFor explanation visit https://postmaster.gmx.net/en/error-messages?ip=192.0.2.1&c=mbu
reputation | 554 | - | Transaction failed\nReject due to policy restrictions. IP address is block listed\nFor explanation visit https://postmaster.gmx.net
rdns | 554 | - | No SMTP service: Bad DNS PTR resource record (reverse DNS)
reputation | 554 | - | smtp.t-ipnet.de ESMTP not accepting messages\nIP=192.0.2.1 - Dialup/transient IP not allowed. Your IP is blacklisted.
unknown-user | 550 | 5.1.1 | Adresse d au moins un destinataire invalide. Invalid recipient. OFR204_416 [416]
rate-limit | 421 | - | mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration. Too many connections, slow down. OFR004_104
reputation | 550 | - | 5.7.1 : (RLY:B1) https://postmaster.aol.com/error-codes your IP has been blocked
reputation | 550 | 5.7.1 | Mail from IP 192.0.2.1 was rejected due to listing in Spamhaus SBL. For details please see https://www.spamhaus.org/query/bl?ip=192.0.2.1
content | 554 | 5.7.1 | [HM08] Message rejected due to local policy: junk mail. Please visit https://support.apple.com/en-us/HT204137
mailbox-full | 552 | 5.2.2 | <b@icloud.com>: user is over quota
unknown-user | 550 | 5.1.1 | unknown or illegal alias: b@icloud.com
mailbox-full | 452 | 4.2.2 | <b@b.example> Quota exceeded (mailbox for user is full)
unknown-user | 550 | 5.1.1 | <b@b.example> User doesn't exist: b@b.example
content | 550 | 5.7.1 | virus Eicar-Signature detected by ClamAV - http://www.clamav.net
content | 554 | 5.7.1 | Spam message rejected
bad-domain | 556 | 5.1.10 | Recipient address has null MX
bad-domain | 556 | - | domain does not accept mail
mailbox-disabled | 550 | 5.2.1 | Mailbox disabled, not accepting messages
mailbox-disabled | 525 | 5.7.13 | User account disabled
mailbox-disabled | 550 | - | account is suspended
unknown-user | 551 | - | User not local
auth | 530 | - | x
unsupported | 555 | 5.5.4 | MAIL FROM/RCPT TO parameters not recognized or not implemented
timeout | 421 | 4.4.2 | mx.example Error: timeout exceeded
timeout | 451 | - | Command timed out
remote | 421 | - | Service not available
tls | 530 | 5.7.10 | x
tls | 550 | 5.7.4 | Encryption required by recipient
dmarc | 550 | 5.7.23 | SPF check failed: matched all
dmarc | 550 | - | SPF: 192.0.2.1 is not allowed to send mail from x.example
dmarc | 550 | 5.7.20 | No passing DKIM signature found
reputation | 521 | - | 5.2.1 : AOL will not accept delivery of this message; your host is on our blacklist
policy | 550 | 5.7.1 | no
policy | 554 | - | no
policy | 550 | 5.0.0 | no
remote | 450 | 4.0.0 | no
remote | 451 | 4.5.0 | try again later
network | 451 | 4.4.1 | no
other | 499 | - | no
other | 599 | 5.0.0 |
rate-limit | 452 | 4.5.3 | x
bad-address | 553 | - | x
"""
CASES = [[part.strip() for part in line.split(" | ", 3)] for line in FIELD.strip().replace(" |\n", " | \n").split("\n")]


@pytest.mark.parametrize(("name", "code", "status", "text"), [(*case, "")[:4] for case in CASES])
def test_the_field(name: str, code: str, status: str, text: str) -> None:
    status = f"{code[0]}.0.0" if status == "-" else status  # as mtad.mail.replies makes it
    assert classify(Reply(int(code), status, text.replace("\\n", "\n"), "mx.b.example", "rcpt")) == name


def test_the_table_is_long_and_meets_every_class_of_others() -> None:
    ours = {"suppressed", "operator", "expired", "local", "dns"}
    assert len(CASES) > 120
    assert {case[0] for case in CASES} == set(CLASSES) - ours


OURS = [
    (Reply(550, "5.1.1", "No such mailbox"), "unknown-user"),
    (Reply(550, "5.1.2", "The domain does not exist"), "bad-domain"),
    (Reply(556, "5.1.10", "The domain accepts no mail (null MX)"), "bad-domain"),
    (Reply(451, "4.4.3", "DNS gave no answer for the domain"), "dns"),
    (Reply(451, "4.4.4", "No address of the domain's mail hosts could be found"), "dns"),
    (Reply(550, "5.4.4", "The domain's mail hosts have only private addresses"), "dns"),
    (Reply(554, "5.4.6", "Mail for the domain loops back to this host"), "loop"),
    (Reply(451, "4.4.1", "Connection refused", stage="connect"), "network"),
    (Reply(451, "4.4.1", "Connection timed out", stage="connect"), "timeout"),
    (Reply(451, "4.4.2", "Conversation timed out while the host answered RCPT", stage="rcpt"), "timeout"),
    (Reply(451, "4.4.2", "Connection lost while the host answered DATA", stage="data"), "network"),
    (Reply(451, "4.5.0", "Protocol error: malformed reply", stage="ehlo"), "protocol"),
    (Reply(454, "4.7.5", "The TLS handshake failed", stage="starttls"), "tls"),
    (Reply(550, "5.7.10", "Encryption needed", stage="starttls"), "tls"),
    (Reply(550, "5.7.30", "The host does not support REQUIRETLS", stage="mail"), "tls"),
    (Reply(454, "4.7.8", "AUTH failed: 535 no", stage="auth"), "auth"),
    (Reply(451, "4.3.5", "No delivery is configured for this domain"), "local"),
    (Reply(452, "4.2.2", "The mailbox is full", stage="final"), "mailbox-full"),
    (Reply(552, "5.3.4", "The host takes at most 10 octets", stage="mail"), "size"),
    (Reply(554, "5.6.3", "The host does not take 8-bit content", stage="mail"), "unsupported"),
    (Reply(550, "5.6.7", "The host does not take internationalized addresses", stage="rcpt"), "unsupported"),
    (Reply(550, "5.7.1", "Nothing goes there: greylisted"), "policy"),
    (Reply(452, "4.5.3", "The host takes no more recipients at once", stage="rcpt"), "rate-limit"),
    (Reply(451, "4.4.7", "Not delivered within the time that was allowed"), "expired"),
    (LOCAL_ERROR, "local"),
    (Reply(554, "5.7.1", "Returned by the operator", stage=STAGE_OPERATOR), "operator"),
    (Reply(550, "5.1.1", "Suppressed", stage=STAGE_SUPPRESSED), "suppressed"),
    (expired(Reply(451, "4.7.1", "Greylisted", "mx", "rcpt")), "expired"),
    (expired(Reply(451, "4.4.1", "Connection timed out", stage="connect")), "expired"),
    (Reply(250, "2.0.0", "ok"), ""),
    (Reply(0, "", ""), ""),
]


@pytest.mark.parametrize(("reply", "name"), OURS)
def test_our_own_conclusions(reply: Reply, name: str) -> None:
    assert classify(reply) == name


@pytest.mark.parametrize("stage", ["connect", "ehlo", "helo", "mail"])
def test_who_has_not_heard_of_the_recipient_says_nothing_against_it(stage: str) -> None:
    """A host that looks the sender up says "user unknown" of the sender."""
    for status, text in (("5.1.1", "User unknown"), ("5.1.0", "<a@x.test>: no such user"), ("5.2.1", "disabled")):
        reply = Reply(550, status, text, "mx", stage)
        assert classify(reply) == ("bad-sender" if stage == "mail" else "policy")
        assert not hard(reply)


def test_what_counts_against_an_address() -> None:
    def said(code: int, status: str, text: str = "") -> bool:
        return hard(Reply(code, status, text, "mx", "rcpt"))

    assert said(550, "5.1.1")
    assert said(550, "5.2.1")
    assert hard(Reply(556, "5.1.10", "null MX"))
    assert not said(450, "4.1.1", "user unknown")
    assert not said(552, "5.2.2")
    assert not said(554, "5.7.1", "blocked using zen.spamhaus.org")
    assert not said(550, "5.0.0", "no")
    assert not said(250, "2.0.0")


def test_addresses_and_links_say_nothing() -> None:
    for text in ("<spam@greylist.example> no", "no https://b.example/virus/mailbox-full", "no virus@b.example"):
        assert classify(Reply(550, "5.7.1", text, "mx", "rcpt")) == "policy"


def test_every_class_has_its_sentences() -> None:
    for name, one in CLASSES.items():
        assert one.name == name == name.lower()
        assert one.sender.endswith((".", "below."))
        assert one.operator.endswith(".")
        told = one.explain("b.example")
        assert "{" not in told
        assert "{" not in one.operator
    assert CLASSES["mailbox-full"].explain("b.example") == (
        "The mailbox is full at b.example; nothing to fix on your side."
    )


@given(
    st.integers(0, 999), st.text(max_size=20), st.text(max_size=300), st.sampled_from(["", "mx"]), st.text(max_size=9)
)
def test_any_text_has_one_class(code: int, status: str, text: str, host: str, stage: str) -> None:
    reply = Reply(code, status, text, host, stage)
    assert (classify(reply) == "") == (reply.ok or not code)
    assert classify(reply) in {"", *CLASSES}


@pytest.mark.parametrize("text", ["a" * 10_000_000, "a@" * 5_000_000, " " * 10_000_000, "://" * 3_000_000])
def test_long_text_is_read_only_so_far(text: str) -> None:
    assert classify(Reply(550, "5.7.1", text, "mx")) == "policy"
    assert classify(Reply(550, "5.7.1", text[:1000] + " spam", "mx")) == "policy"


SUITE = Path(__file__).resolve().parents[3] / "shared" / "suites" / "dsn-expected"


@pytest.mark.skipif(not SUITE.exists(), reason="the example reports are not here")
@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("multi_address_bounce1.eml", {"unknown-user"}), ("multi_address_bounce2.eml", {"unknown-user"}),
        ("report_422.eml", {"mailbox-full"}), ("report_530.eml", {"unknown-user"}),
    ],
)  # fmt: skip
def test_what_others_reported(name: str, classes: set[str]) -> None:
    text = " ".join((SUITE / "multipart_report_emails" / name).read_text("utf-8", "replace").split())
    codes = re.findall(
        r"Diagnostic-Code: smtp; (\d{3})[ -](\d\.\d\.\d) (.*?) (?:Last-Attempt|Final-|--)", text, re.IGNORECASE
    )
    assert codes
    assert {classify(Reply(int(code), status, said, "mx", "rcpt")) for code, status, said in codes} == classes
