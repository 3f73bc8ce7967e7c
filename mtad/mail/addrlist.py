"""Address lists of header fields: To, Cc, Bcc, From (RFC 5322 3.4, with the obsolete forms that mail still has).

Reads, does not judge: what is no address comes back as it stands, so that whoever parses it can refuse it by name.
Imports nothing, for it is on the start-up path of sendmail. One pass, linear in the length of the value.
"""

_BLANK = " \t\r\n"
_SINGLE = "<>,:;@"
_STOP = frozenset(_BLANK + _SINGLE + '("[')
_Token = tuple[str, str, str]  # kind, as written, without quotes


def addresses(value: str) -> list[tuple[str, str]]:
    """(display name, addr-spec) of every mailbox, members of groups included, in order.

    A comment is the display name where there is no other. Quoted local parts keep their quotes, source routes are
    dropped, "<>" has the addr-spec "". A colon makes a group only after a phrase, so text folded into the field
    cannot turn into a recipient: it spoils the address it touches.
    """
    found: list[tuple[str, str]] = []
    mailbox = _Mailbox()
    group = False
    for kind, raw, word in _tokens(value):
        if mailbox.open:
            mailbox.inside(kind, raw, word)
        elif kind in (",", ";"):
            mailbox.into(found)
            mailbox = _Mailbox()
            group = group and kind == ","
        elif kind == "<":
            if mailbox.spec is not None:
                mailbox.into(found)
                mailbox = _Mailbox()
            mailbox.open, mailbox.spec = True, []
        elif kind == ":" and not group and mailbox.is_phrase:
            mailbox = _Mailbox()
            group = True
        else:
            mailbox.outside(kind, raw, word)
    mailbox.into(found)
    return found


class _Mailbox:
    """The mailbox that is being read."""

    __slots__ = ("comment", "has_at", "open", "raws", "spec", "words")

    def __init__(self) -> None:
        self.raws: list[str] = []  # outside of < >, as written
        self.words: list[str] = []  # the same without quotes
        self.spec: list[str] | None = None  # between < and >
        self.open = False  # > is still to come
        self.has_at = False
        self.comment = ""

    @property
    def is_phrase(self) -> bool:
        return bool(self.words) and not self.has_at and self.spec is None

    def inside(self, kind: str, raw: str, word: str) -> None:
        if kind == "(":
            self.comment = self.comment or word
        elif kind == ">":
            self.open = False
        elif self.spec is not None:
            self.spec.append(raw)

    def outside(self, kind: str, raw: str, word: str) -> None:
        if kind == "(":
            self.comment = self.comment or word
            return
        self.has_at = self.has_at or kind == "@"
        self.raws.append(raw)
        self.words.append(word)

    def into(self, found: list[tuple[str, str]]) -> None:
        if self.spec is not None:
            spec = self.spec
            if spec and spec[0] == "@" and ":" in spec:
                spec = spec[spec.index(":") + 1 :]
            found.append((" ".join(self.words) or self.comment, _join(spec)))
        elif self.raws:
            found.append((self.comment, _join(self.raws)))


def _join(parts: list[str]) -> str:
    """The parts of an addr-spec, without blanks around "@" and "."; other blanks stay and make it invalid."""
    joined: list[str] = []
    before = "@"
    for part in parts:
        if not (before[-1:] in "@." or part[:1] in "@."):
            joined.append(" ")
        joined.append(part)
        before = part
    return "".join(joined)


def _tokens(value: str) -> list[_Token]:
    """Kind is the character for specials, "(" for a comment, '"' for a quoted string, "[" for a literal, else ""."""
    found: list[_Token] = []
    at, size = 0, len(value)
    while at < size:
        char = value[at]
        if char in _BLANK:
            at += 1
        elif char in _SINGLE:
            found.append((char, char, char))
            at += 1
        elif char in '("[':
            end, word = _delimited(value, at, ")" if char == "(" else "]" if char == "[" else '"')
            raw = value[at:end].replace("\r", "").replace("\n", "")
            found.append((char, raw, raw if char == "[" else word))
            at = end
        else:
            end = at + 1
            while end < size and value[end] not in _STOP:
                end += 1
            found.append(("", value[at:end], value[at:end]))
            at = end
    return found


def _delimited(value: str, start: int, close: str) -> tuple[int, str]:
    """(where it ends, its text without delimiters and backslashes); comments nest; the end of the value ends it."""
    text: list[str] = []
    depth = 1
    at, size = start + 1, len(value)
    while at < size:
        char = value[at]
        if char == "\\" and at + 1 < size:
            at += 1
            char = value[at]
        elif char == close:
            depth -= 1
            if depth == 0:
                return at + 1, "".join(text)
        elif char == "(" and close == ")":
            depth += 1
        if char not in "\r\n":
            text.append(char)
        at += 1
    return size, "".join(text)
