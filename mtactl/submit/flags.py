"""THE table of sendmail's options: what each takes and what becomes of it. The parser reads it, and so do `--help`,
`mtactl sendmail explain` and docs/sendmail.md.

A row is (option, its argument or "", HONOURED, IGNORED or REFUSED, what it is or does). Rows of `-b`, `-o` and `-O`
with a value stand for that value. On the start-up path of every mail: plain tuples, nothing is imported.
"""

HONOURED, IGNORED, REFUSED = "honoured", "ignored", "refused"

FLAGS = (
    ("-A", "c|m", IGNORED, "which configuration of Sendmail"),
    ("-B", "TYPE", HONOURED, "type of the body: 7BIT or 8BITMIME"),
    ("-C", "FILE", IGNORED, "another configuration file: nobody may bring one"),
    ("-F", "NAME", HONOURED, "full name for a From field that is missing; before $NAME and the account's"),
    ("-G", "", HONOURED, "relayed mail: no From field is added"),
    ("-I", "", HONOURED, "as newaliases"),
    ("-L", "TAG", IGNORED, "tag of log lines"),
    ("-N", "WHEN", HONOURED, "reports asked for: never, or a list of success, failure, delay (NOTIFY)"),
    ("-O", "NAME=VALUE", IGNORED, "an option of Sendmail by its long name, but for those below"),
    ("-R", "WHAT", HONOURED, "what a report returns: full or hdrs (RET)"),
    ("-U", "", IGNORED, "first submission by a user"),
    ("-V", "ID", HONOURED, "envelope id for reports, at most 100 characters (ENVID)"),
    ("-X", "FILE", IGNORED, "log of the session: nobody may name a file to write"),
    ("-b", "MODE", REFUSED, "what to do, of those below"),
    ("-c", "", IGNORED, "connections only to cheap mailers"),
    ("-d", "[LEVEL]", IGNORED, "debugging"),
    ("-e", "HOW", HONOURED, "errors, as -oe"),
    ("-f", "ADDRESS", HONOURED, 'envelope sender; "" and "<>" are the null sender'),
    ("-h", "N", IGNORED, "hops so far: they are counted in the header"),
    ("-i", "", HONOURED, "a line with only a dot does not end the mail"),
    ("-m", "", IGNORED, "keep the sender among the recipients of an alias: it is never taken out"),
    ("-n", "", IGNORED, "no aliases: they belong to the host"),
    ("-o", "X", IGNORED, "an option of Sendmail by its letter, but for those below"),
    ("-p", "PROTOCOL", IGNORED, "protocol and host it came from: the kernel says who submits"),
    ("-q", "[X]", HONOURED, "flush: all, or -qI queue id, -qR domain or recipient, -qS sender; an interval is ignored"),
    ("-r", "ADDRESS", HONOURED, "as -f"),
    ("-t", "", HONOURED, "recipients from To, Cc and Bcc too; of a resent mail from its Resent- fields alone"),
    ("-v", "", HONOURED, "the daemon's replies on standard error"),
    ("-x", "", IGNORED, "log of AIX"),
)  # fmt: skip

VALUES = (
    ("-bm", "", HONOURED, "send the mail on standard input: the default"),
    ("-bp", "", HONOURED, "as mailq"),
    ("-bi", "", HONOURED, "as newaliases"),
    ("-bs", "", HONOURED, "SMTP on standard input and output, spoken by the daemon; 421 while it is down"),
    ("-bv", "", HONOURED, "would mail for each address be taken; exit 0, or by the first that would not"),
    ("-bt", "", HONOURED, "as -bv; without addresses they are lines of standard input"),
    ("-bh", "", IGNORED, "host status: nothing is done"),
    ("-bH", "", IGNORED, "purge host status: nothing is done"),
    ("-bd", "", REFUSED, "the daemon is started by `systemctl start mtad`, or `mtad run`"),
    ("-bD", "", REFUSED, "the daemon is started by `systemctl start mtad`, or `mtad run`"),
    ("-bl", "", REFUSED, "the daemon is started by `systemctl start mtad`, or `mtad run`"),
    ("-oi", "", HONOURED, "as -i"),
    ("-oep", "", HONOURED, "errors are printed: the default"),
    ("-oeq", "", HONOURED, "errors are not printed; the exit code tells"),
    ("-oem", "", HONOURED, "errors are printed, and mailed to the sender"),
    ("-oew", "", HONOURED, "as -oem"),
    ("-oee", "", HONOURED, "as -oem, and the exit code is 0 once the report is queued"),
    ("-O ignoredots", "=yes|no", HONOURED, "as -i"),
    ("-O requiretls", "=yes|no", HONOURED, "every hop must be secured by TLS (RFC 8689)"),
    ("-O smtputf8", "=yes|no", HONOURED, "the mail needs SMTPUTF8; found out by itself for addresses"),
)  # fmt: skip

LONG = (
    ("--receipt", "json", HONOURED, "print what became of it as JSON: queue id, recipients, queue or maildrop"),
    ("--wait", "TIME", HONOURED, "wait for the outcome, as 30s or 2m: 0 delivered, 69 failed, 75 still waiting"),
    ("--idempotency-key", "KEY", HONOURED, "the same mail again: what was accepted with this key is not doubled"),
    ("--help", "", HONOURED, "show this table"),
)  # fmt: skip


def lines() -> "list[str]":
    """The table for a terminal."""
    rows = [(f"{option} {argument}" if argument[:1] not in "=[" else option + argument, standing, words)
            for option, argument, standing, words in (*FLAGS, *VALUES, *LONG)]  # fmt: skip
    width = max(len(option) for option, _, _ in rows)
    return [f"  {option:<{width}}  {'' if standing == HONOURED else f'({standing}) '}{words}"
            for option, standing, words in rows]  # fmt: skip
