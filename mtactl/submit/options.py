"""The arguments of sendmail, mailq and newaliases: getopt without permutation, as every MTA before us read them."""

from mtactl.submit.flags import FLAGS, HONOURED, IGNORED, LONG, REFUSED, VALUES

EX_USAGE = 64
WAIT_MAX_S = 3600.0
KEY_MAX = 200

ROLES = {"mailq": "mailq", "newaliases": "newaliases"}
MODES = {
    "m": "send", "p": "mailq", "i": "newaliases", "s": "smtp", "v": "verify", "t": "verify", "h": "nothing",
    "H": "nothing",
}  # fmt: skip
ERRORS = {"p": "print", "q": "quiet", "m": "mail", "w": "mail", "e": "mailed is good"}
UNITS_S = {"s": 1, "m": 60, "h": 3600}


class UsageError(Exception):
    """The command line means nothing we may do. Exit 64."""


class Options:
    """What the command line said. `sender` is None when it did not say; "" is the null sender."""

    __slots__ = (
        "body", "envid", "errors", "full_name", "gateway", "heard", "ignore_dots", "key", "mode", "notify", "queue",
        "receipt", "recipients", "requiretls", "ret", "scan_headers", "sender", "smtputf8", "verbose", "wait_s",
        "warnings",
    )  # fmt: skip

    def __init__(self, mode: str) -> None:
        self.mode = mode  # send, mailq, newaliases, flush, smtp, verify, nothing, help
        self.sender: str | None = None
        self.full_name = ""
        self.recipients: list[str] = []
        self.scan_headers = False  # -t
        self.ignore_dots = False  # -i
        self.gateway = False  # -G: this is relayed mail, complete nothing
        self.verbose = False
        self.errors = "print"  # a value of ERRORS
        self.body = ""  # "", 7BIT, 8BITMIME
        self.notify = ""
        self.ret = ""
        self.envid = ""
        self.requiretls = False
        self.smtputf8 = False
        self.queue = ("", "")  # flush: ("id"|"recipient"|"sender", what), or all
        self.receipt = False
        self.wait_s = 0.0  # 0 = no waiting
        self.key = ""
        self.warnings: list[str] = []
        self.heard: list[tuple[str, str, str]] = []  # (as it was written, honoured or ignored, the table's words)


def parse(argv: list[str]) -> Options:
    """Read a whole command line. UsageError: with the words for standard error."""
    options = named(argv)
    read(options, argv)
    return options


def named(argv: list[str]) -> Options:
    """Nothing but the role that the name of the command gives."""
    name = argv[0].rpartition("/")[2].removeprefix("mtad-") if argv else ""
    return Options(ROLES.get(name, "send"))


def read(options: Options, argv: list[str]) -> None:
    """Add what the words after the name say. UsageError; what was read until then stays in `options`."""
    table = {option: (argument, standing, words) for option, argument, standing, words in FLAGS}
    at = 1
    while at < len(argv):
        word = argv[at]
        if word == "--":
            options.recipients += argv[at + 1 :]
            return
        if len(word) < 2 or word[0] != "-":
            break
        at += 1
        if word[1] == "-":
            at = _long(options, word, argv, at)
            continue
        if word == "-V" and at == len(argv):  # an old request for VERP
            options.heard.append((word, IGNORED, "a request for VERP"))
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            argument, standing, words = table.get(f"-{letter}", ("", "", ""))
            if not standing:
                options.warnings.append(f"option -{letter}{letters} is not known here: ignored")
                options.heard.append((f"-{letter}{letters}", IGNORED, "not known here"))
                break
            if not argument:
                _flag(options, letter)
                options.heard.append((f"-{letter}", standing, words))
                continue
            if argument[0] != "[" and not letters:  # else it is never the next word
                if at == len(argv):
                    raise UsageError(f"option -{letter} needs an argument")
                letters = argv[at]
                at += 1
                _argument(options, letter, letters, f"-{letter} {letters}", standing, words)
            else:
                _argument(options, letter, letters, f"-{letter}{letters}", standing, words)
            break
    for word in argv[at:]:
        if word[:1] == "-":
            raise UsageError(f"{word!r} after the recipients: put options first, or '--' before recipients")
    options.recipients += argv[at:]


def _flag(options: Options, letter: str) -> None:
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


def _argument(options: Options, letter: str, value: str, written: str, standing: str, words: str) -> None:
    if letter in "fr":
        options.sender = value
    elif letter == "F":
        options.full_name = value
    elif letter == "b":
        standing, words = _special(f"-b{value}") or ("", "")
        if standing in ("", REFUSED):
            raise UsageError(f"mode -b{value}: {words or 'there is no such mode; there are -bm -bp -bi -bs -bv -bt'}")
        options.mode = MODES[value]
    elif letter == "q":
        if not _queue(options, value):
            standing, words = IGNORED, "an interval: the daemon needs none"
    elif letter == "B":
        options.body = value.upper()
        if options.body not in ("7BIT", "8BITMIME"):
            raise UsageError("-B takes 7BIT or 8BITMIME")
    elif letter in "NRV":
        if not _report(options, letter, value):
            options.warnings.append(f"-{letter} {value[:100]!r} is no valid value: ignored")
            standing, words = IGNORED, "no valid value"
    elif letter == "e" or (letter == "o" and value[:1] == "e" and len(value) == 2):
        how = value if letter == "e" else value[1:]
        options.errors = ERRORS.get(how, options.errors)
        standing, words = _special(f"-oe{how}") or (IGNORED, "no valid value")
    elif letter == "o":
        if value in ("i", "itrue"):
            options.ignore_dots = True
            standing, words = HONOURED, "as -i"
    elif letter == "O":
        name, _, setting = value.partition("=")
        name = name.strip().lower()
        standing, words = _special(f"-O {name}") or (standing, words)
        on = setting.strip().lower()[:1] in ("y", "t", "")
        if name == "ignoredots":
            options.ignore_dots = on
        elif name == "requiretls":
            options.requiretls = on
        elif name == "smtputf8":
            options.smtputf8 = on
        # The rest (DeliveryMode, ErrorMode, QueueDirectory ...) is Sendmail's own. None of it may do anything here.
    options.heard.append((written, standing, words))


def _special(option: str) -> "tuple[str, str] | None":
    """Standing and words of an option with a value, where that value has its own row."""
    for name, _, standing, words in VALUES:
        if name == option:
            return standing, words
    return None


def _queue(options: Options, value: str) -> bool:
    """False: an interval."""
    kind = {"": "", "I": "id", "R": "recipient", "S": "sender"}.get(value[:1])
    if kind is None:
        return False
    options.queue = (kind, value[1:])
    if kind and not options.queue[1]:
        raise UsageError(f"-q{value} names nothing")
    options.mode = "flush"
    return True


def _report(options: Options, letter: str, value: str) -> bool:
    """-N, -R, -V: NOTIFY, RET and ENVID of RFC 3461. A bad value is ignored, as Postfix does: the mail matters."""
    if letter == "N":
        words = value.upper().replace(" ", "").split(",")
        if words == ["NEVER"] or all(word in ("SUCCESS", "FAILURE", "DELAY") for word in words):
            options.notify = ",".join(dict.fromkeys(words))
            return True
    elif letter == "R":
        if value.upper() in ("FULL", "HDRS"):
            options.ret = value.upper()
            return True
    elif len(value) <= 100 and value.isascii() and value.isprintable():
        options.envid = value
        return True
    return False


def _long(options: Options, word: str, argv: list[str], at: int) -> int:
    """--receipt, --wait, --idempotency-key, as "--wait 30s" or "--wait=30s". Where the next word is."""
    name, equals, value = word.partition("=")
    row = next((row for row in LONG if row[0] == name), None)
    if row is None:
        raise UsageError(f"{name[:60]!r} is no option; try --help ('--' goes before recipients that begin with a dash)")
    if row[1] and not equals:
        if at == len(argv):
            raise UsageError(f"option {name} needs an argument")
        value = argv[at]
        at += 1
    if name == "--help":
        options.mode = "help"
    elif name == "--receipt":
        if value != "json":
            raise UsageError(f"--receipt {value[:60]!r}: there is only json")
        options.receipt = True
    elif name == "--wait":
        options.wait_s = _seconds(value)
    else:
        if not value or len(value) > KEY_MAX or not value.isascii() or not value.isprintable():
            raise UsageError(f"--idempotency-key takes 1 to {KEY_MAX} printable ASCII characters")
        options.key = value
    options.heard.append((f"{name} {value}".rstrip(), HONOURED, row[3]))
    return at


def _seconds(value: str) -> float:
    unit = UNITS_S.get(value[-1:])
    number = value[:-1] if unit else value
    seconds = int(number) * (unit or 1) if number.isascii() and number.isdigit() and len(number) < 8 else 0
    if not 0 < seconds <= WAIT_MAX_S:
        raise UsageError(f"--wait {value[:60]!r}: a time like 30s or 2m, at most 1h")
    return float(seconds)
