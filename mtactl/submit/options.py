"""The arguments of sendmail, mailq and newaliases: getopt without permutation, as every MTA before us read them."""

EX_USAGE = 64

WITH_ARGUMENT = "ABCFLNORVXbefhopqr"  # in Postfix's list
MODES = {"m": "send", "p": "mailq", "i": "newaliases", "s": "smtp", "h": "nothing", "H": "nothing"}
ROLES = {"mailq": "mailq", "newaliases": "newaliases"}


class UsageError(Exception):
    """The command line means nothing we may do. Exit 64."""


class Options:
    """What the command line said. `sender` is None when it did not say; "" is the null sender."""

    __slots__ = (
        "body", "envid", "full_name", "gateway", "ignore_dots", "mode", "notify", "queue", "recipients", "requiretls",
        "ret", "scan_headers", "sender", "smtputf8", "verbose", "warnings",
    )  # fmt: skip

    def __init__(self, mode: str) -> None:
        self.mode = mode  # send, mailq, newaliases, flush, smtp, nothing
        self.sender: str | None = None
        self.full_name = ""
        self.recipients: list[str] = []
        self.scan_headers = False  # -t
        self.ignore_dots = False  # -i
        self.gateway = False  # -G: this is relayed mail, complete nothing
        self.verbose = False
        self.body = ""  # "", 7BIT, 8BITMIME
        self.notify = ""
        self.ret = ""
        self.envid = ""
        self.requiretls = False
        self.smtputf8 = False
        self.queue = ("", "")  # flush: ("id"|"recipient"|"sender", what), or all
        self.warnings: list[str] = []


def parse(argv: list[str]) -> Options:
    """Read a whole command line. UsageError: with the words for standard error."""
    name = argv[0].rpartition("/")[2].removeprefix("mtad-") if argv else ""
    options = Options(ROLES.get(name, "send"))
    at = 1
    while at < len(argv):
        word = argv[at]
        if word == "--":
            options.recipients += argv[at + 1 :]
            return options
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word == "-q":  # the one option whose argument is never the next word
            options.mode = "flush"
            continue
        if word == "-V" and at == len(argv):  # an old request for VERP
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter not in WITH_ARGUMENT:
                if not _flag(options, letter):
                    options.warnings.append(f"option -{letter}{letters} is not known here: ignored")
                    break
                continue
            if not letters:
                if at == len(argv):
                    raise UsageError(f"option -{letter} needs an argument")
                letters = argv[at]
                at += 1
            _argument(options, letter, letters)
            break
    for word in argv[at:]:
        if word[:1] == "-":
            raise UsageError(f"{word!r} after the recipients: put options first, or '--' before recipients")
    options.recipients += argv[at:]
    return options


def _flag(options: Options, letter: str) -> bool:
    if letter == "t":
        options.scan_headers = True
    elif letter == "i":
        options.ignore_dots = True
    elif letter == "v":
        options.verbose = True
    elif letter == "G":
        options.gateway = True
    elif letter == "I":
        options.mode = "newaliases"
    else:
        return letter in "Ucmnx"  # known, and without a meaning here
    return True


def _argument(options: Options, letter: str, value: str) -> None:
    if letter in "fr":
        options.sender = value
    elif letter == "F":
        options.full_name = value
    elif letter == "b":
        if value not in MODES:
            raise UsageError(f"mode -b{value} is not supported (there are -bm -bp -bi -bs; the daemon is 'mtad run')")
        options.mode = MODES[value]
    elif letter == "q":
        _queue(options, value)
    elif letter == "B":
        options.body = value.upper()
        if options.body not in ("7BIT", "8BITMIME"):
            raise UsageError("-B takes 7BIT or 8BITMIME")
    elif letter in "NRV":
        _report(options, letter, value)
    elif letter == "o":
        if value in ("i", "itrue"):
            options.ignore_dots = True
    elif letter == "O":
        option, _, setting = value.partition("=")
        option = option.strip().lower()
        on = setting.strip().lower()[:1] in ("y", "t", "")
        if option == "ignoredots":
            options.ignore_dots = on
        elif option == "requiretls":
            options.requiretls = on
        elif option == "smtputf8":
            options.smtputf8 = on
        # The rest (DeliveryMode, ErrorMode, QueueDirectory ...) is Sendmail's own. None of it may do anything here.


def _queue(options: Options, value: str) -> None:
    if value[0] == "I":
        options.queue = ("id", value[1:])
    elif value[0] == "R":
        options.queue = ("recipient", value[1:])
    elif value[0] == "S":
        options.queue = ("sender", value[1:])
    else:
        return  # an interval: the daemon needs none
    if not options.queue[1]:
        raise UsageError(f"-q{value} names nothing")
    options.mode = "flush"


def _report(options: Options, letter: str, value: str) -> None:
    """-N, -R, -V: NOTIFY, RET and ENVID of RFC 3461. A bad value is ignored, as Postfix does: the mail matters."""
    if letter == "N":
        words = value.upper().replace(" ", "").split(",")
        if words == ["NEVER"] or all(word in ("SUCCESS", "FAILURE", "DELAY") for word in words):
            options.notify = ",".join(dict.fromkeys(words))
            return
    elif letter == "R":
        if value.upper() in ("FULL", "HDRS"):
            options.ret = value.upper()
            return
    elif len(value) <= 100 and value.isascii() and value.isprintable():
        options.envid = value
        return
    options.warnings.append(f"-{letter} {value[:100]!r} is no valid value: ignored")
