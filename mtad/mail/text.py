"""Hostile text made safe to show: in a log line, a report, on a terminal."""


def clean(text: str, limit: int = 500) -> str:
    r"""`text` on one line with nothing that a terminal or a reader's eye obeys, at most `limit` characters.

    Controls, line separators, bidi and other format characters, surrogates and unassigned code points become
    \xNN, \uNNNN or \UNNNNNNNN; a text that is cut ends with "...". Never raises.
    """
    if len(text) <= limit and text.isprintable():
        return text
    shown = "".join(char if char.isprintable() else _escape(ord(char)) for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: max(limit - 3, 0)] + "..."[:limit]


def encodable(text: str) -> bool:
    """Whether it can be written as UTF-8. The name of a file may be any octets; those that are none are surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
