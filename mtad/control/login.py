"""Who is behind a uid: for the audit trail."""

import pwd

_NOBODY = 0xFFFFFFFF  # no login stands behind a process


def login(uid: int, pid: int) -> str:
    """The name of a uid, and in parentheses who became it: "root (alice)" after sudo. The login uid of a process is
    the kernel's word (audit(7)); where it keeps none, the name stands alone."""
    name = _name(uid)
    try:
        with open(f"/proc/{pid}/loginuid", encoding="ascii") as file:
            first = int(file.read(20))
    except (OSError, ValueError):
        return name
    return name if first in (uid, _NOBODY) else f"{name} ({_name(first)})"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)
