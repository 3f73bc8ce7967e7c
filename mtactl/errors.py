"""What a command ends with when it could not be done."""

EX_OK, EX_NOTHING, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE = 0, 1, 64, 65, 69, 70
EX_TEMPFAIL, EX_NOPERM, EX_CONFIG, EX_INTERRUPTED = 75, 77, 78, 130


class CallError(Exception):
    """It was not done. `code` is what to exit with, `name` the error's name on the wire, "" for ours."""

    def __init__(self, text: str, code: int, name: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.name = name


class Unreachable(CallError):  # noqa: N818
    """Nobody listens there: the daemon is down."""

    def __init__(self, path: str, why: str, root: str = "") -> None:
        start = f"`mtad run --root {root}`" if root else "`systemctl start mtad`, or `mtad run`"
        super().__init__(
            f"mtad cannot be reached at {path}: {why}. Start it with {start}; --root or --socket reach another one",
            EX_UNAVAILABLE,
        )
