"""The man pages."""

from collections.abc import Iterator, Mapping, Sequence

from mtactl.gen import roff
from mtactl.gen.source import EXIT_CODES, Command, Group, Section
from mtactl.submit.flags import FLAGS, HONOURED, LONG, VALUES
from mtad.control.idl import description
from mtad.control.wire import ERRORS, INTERFACE

DATE = "2026-11-25"  # of the last change of what is not made from a table

_FILES = (
    ("/etc/mtad/mtad.toml", "the settings, see mtad.toml(5); DIR/mtad.toml under --root DIR"),
    ("/var/lib/mtad", "the queue (mta.db, queue/), DKIM keys (dkim/), maildrop/; DIR/data under --root DIR"),
    ("/run/mtad", "control.sock and submit.sock; DIR/run under --root DIR"),
)
_ENVIRONMENT = (
    ("MTA_ROOT", "as --root: everything is under this directory, as any user, on high ports"),
    ("MTA_SOCKET", "as --socket: the control socket"),
    ("NO_COLOR, COLUMNS", "no colour; the width of the output"),
)
_DAEMON_CODES = (
    *(one for one in EXIT_CODES if one[0] in (0, 64, 70)),
    (73, "it cannot start, and will not by itself: a port is another program's, or the data cannot be used"),
    (75, "it cannot start just now: somebody else uses the data, an address is not there yet, the disk is full"),
    (78, "the configuration is wrong"),
)


def pages(groups: Sequence[Group], sections: Sequence[Section], common: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Name of the file -> the page."""
    made = {
        "mtad.8": roff.page("mtad", 8, "mail server", DATE, _mtad()),
        "mtactl.8": roff.page("mtactl", 8, "operate mtad", DATE, _mtactl(groups, common)),
        "mtad.toml.5": roff.page("mtad.toml", 5, "settings of mtad", DATE, _settings(sections)),
        "mtad-sendmail.1": roff.page("mtad-sendmail", 1, "submit a mail to mtad", DATE, _sendmail()),
        "mtad-control.7": roff.page("mtad-control", 7, "control protocol of mtad", DATE, _control()),
    }
    for group in groups:
        name = f"mtactl-{group.word}"
        made[f"{name}.8"] = roff.page(name, 8, _lower(group.summary), DATE, _group(group))
    for name, about in (("mtad-mailq", "list the queue"), ("mtad-newaliases", "check the aliases, and use them")):
        made[f"{name}.1"] = roff.page(name, 1, about, DATE, _role(name))
    return made


def _mtad() -> Iterator[str]:
    yield roff.heading("synopsis")
    for n, verb in enumerate(("run", "check")):
        yield from (".br",) * n
        yield f".B mtad {verb}"
        yield "[\\-\\-root DIR] [\\-\\-config FILE]"
    yield roff.heading("description")
    yield from roff.paragraph(
        "mtad takes mail on ports 25, 587, 465 and a local socket, keeps it safely, signs it with DKIM and"
        " delivers it. A message that got 250, or exit 0 from sendmail, is on stable storage, body and"
        " envelope; after a crash it is delivered or bounced."
    )
    yield from roff.tagged(
        (
            ("mtad run", "Runs the daemon in the foreground until SIGTERM. SIGHUP reads the settings again."),
            ("mtad check", "Reads the settings as the daemon would, prints every problem, and exits 0 or 78."),
            ("--root DIR", "Keeps everything under this directory, as any user, on high ports."),
            ("--config FILE", "Reads this file instead of the default one."),
        )
    )
    yield from _end(("mtactl(8)", "mtad.toml(5)", "mtad-sendmail(1)", "mtad-control(7)"), codes=_DAEMON_CODES)


def _mtactl(groups: Sequence[Group], common: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield roff.heading("synopsis")
    yield ".B mtactl"
    yield "[OPTIONS] COMMAND [ARGS]..."
    yield roff.heading("description")
    yield from roff.paragraph(
        "mtactl does every operation on a running mtad over its control socket. What only looks also works on"
        " the data of a stopped one. Each command explains itself with --help, and examples."
    )
    yield roff.heading("options")
    yield from roff.tagged(common)
    yield roff.heading("commands")
    yield from roff.tagged((group.word, f"{group.summary}. See mtactl-{group.word}(8).") for group in groups)
    yield from _end((*(f"mtactl-{group.word}(8)" for group in groups), "mtad(8)"), codes=EXIT_CODES)


def _group(group: Group) -> Iterator[str]:
    yield roff.heading("synopsis")
    for n, command in enumerate(group.commands):
        yield from (".br",) * (n > 0)
        yield f".B mtactl {roff.literal(command.path)}"
        yield roff.literal(command.usage)
    yield roff.heading("description")
    for command in group.commands:
        yield f".SS mtactl {roff.literal(command.path)}"
        yield from _command(command)
    yield from _end(("mtactl(8)",), codes=EXIT_CODES)


def _command(command: Command) -> Iterator[str]:
    yield from roff.paragraph(command.help)
    yield from roff.tagged((*command.arguments, *command.options))
    if command.row:
        yield ".PP"
        members = ", ".join(name for name, _ in command.row)
        yield from roff.paragraph(f"With --json, objects with the members {members}.")
    yield ".PP"
    yield "Examples:"
    yield from roff.display(command.examples)


def _settings(sections: Sequence[Section]) -> Iterator[str]:
    yield roff.heading("description")
    yield from roff.paragraph(
        "The settings of mtad, in TOML. `mtactl init` writes a first file; `mtad check` says everything that"
        " is wrong with one; `mtactl config show` prints what is in use. A variable MTA_NAME overrides its"
        " key, and MTA_NAME_FILE names a file with its value."
    )
    yield ".PP"
    yield from roff.paragraph("Durations are written 90s, 15m, 2h, 3d; sizes 4k, 10M, 1G; rates 20/1m.")
    for section in sections:
        yield roff.heading(f"[{section.name}]" if section.name else "top of the file")
        if section.help:
            yield from roff.paragraph(section.help)
        for key in section.keys:
            variable = f" Variable: {key.variable}." if key.variable else ""
            yield ".TP"
            yield f".B {roff.literal(key.name)}"
            default = key.default[1:-1] if key.default.startswith("(") else f"default {key.default}"
            yield f"({roff.text(key.type)}; {roff.literal(default)})"
            yield ".br"
            yield from roff.paragraph(key.help + variable)
    yield from _end(("mtad(8)", "mtactl(8)"))


def _sendmail() -> Iterator[str]:
    yield roff.heading("synopsis")
    yield ".B mtad\\-sendmail"
    yield "[OPTIONS] [RECIPIENT...]"
    yield ".br"
    yield ".B mtad\\-mailq"
    yield ".br"
    yield ".B mtad\\-newaliases"
    yield roff.heading("description")
    yield from roff.paragraph(
        "Reads a mail from standard input and hands it to mtad, as every program on a host expects of"
        " sendmail. It exits 0 once the mail is on stable storage. While the daemon is down the mail waits in"
        " the maildrop; with MTA_SENDMAIL_STRICT=1 nothing is stored and the exit code is 75. Linked as"
        " sendmail, mailq or newaliases it takes that role."
    )
    yield roff.heading("options")
    for option, argument, standing, words in (*FLAGS, *VALUES, *LONG):
        shown = option + (argument if argument[:1] in ("", "=", "[") else f" {argument}")
        yield from roff.tagged([(shown, words if standing == HONOURED else f"({standing}) {words}")])
    yield from _end(("mtad(8)", "mtactl(8)"), codes=())


def _role(name: str) -> Iterator[str]:
    yield roff.heading("synopsis")
    yield f".B {roff.literal(name)}"
    yield roff.heading("description")
    yield from roff.paragraph(f"{name} is mtad-sendmail in another role. Its exit codes are those of sendmail.")
    yield from _end(("mtad-sendmail(1)", "mtactl(8)"))


def _control() -> Iterator[str]:
    yield roff.heading("description")
    yield from roff.paragraph(
        f"mtad listens on control.sock for varlink calls (https://varlink.org) of the interface {INTERFACE}:"
        " JSON objects, each ended by a NUL octet. A call with `more` gets any number of replies, all but the"
        " last with `continues`. Access follows from the credentials of the peer: anyone may submit and see"
        " their own mail, members of access.admin_group and root may do everything."
        " org.varlink.service.GetInterfaceDescription returns the interface below."
    )
    yield roff.heading("errors")
    yield from roff.tagged((f"{INTERFACE}.{name}", f"mtactl exits with {code}.") for name, code in ERRORS.items())
    yield roff.heading("interface")
    yield from roff.display(description().splitlines())
    yield from _end(("mtad(8)", "mtactl(8)"))


def _end(also: Sequence[str], codes: Sequence[tuple[int, str]] = ()) -> Iterator[str]:
    if codes:
        yield roff.heading("exit status")
        yield from roff.tagged((str(code), f"{words}.") for code, words in codes)
        yield roff.heading("environment")
        yield from roff.tagged((name, f"{words}.") for name, words in _ENVIRONMENT)
        yield roff.heading("files")
        yield from roff.tagged((name, f"{words}.") for name, words in _FILES)
    yield roff.heading("see also")
    for n, name in enumerate(also):
        title, _, section = name.removesuffix(")").partition("(")
        yield f".BR {roff.literal(title)} ({section}){',' if n < len(also) - 1 else ''}"


def _lower(words: str) -> str:
    """A summary as the NAME section has it."""
    return words[:1].lower() + words[1:] if words[1:2].islower() else words
