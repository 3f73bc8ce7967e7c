"""Named points at which a test may kill the process, to see that what was promised before them holds.

MTA_FAULT="accept.after_commit" kills at that point; "accept.after_commit:3" the third time it is reached. SIGKILL:
nothing is flushed and nothing cleans up, as when the machine dies. Without the variable a point costs a comparison.
"""

import itertools
import os
import signal

_NAME, _, _NTH = os.environ.get("MTA_FAULT", "").partition(":")
_AT = int(_NTH) if _NTH else 1
_reached = itertools.count(1)


def point(name: str) -> None:
    """Die here if MTA_FAULT says so."""
    if name == _NAME and next(_reached) == _AT:
        os.kill(os.getpid(), signal.SIGKILL)
