"""Whether the clock can be trusted when it says that mail has become old.

A clock that is wrong for a minute, or a machine that slept for a week, makes all mail that waits too old at once; and a
report that it was given up cannot be taken back. So for a while after the clock went ahead of the time that passed,
mail is tried on.
"""

import math
from collections.abc import Callable

from mtad.mail.envelope import Clock

AHEAD_S = 3600.0  # the clock was set, or the machine slept
TRUST_S = 3600.0  # after that the new time is the right one


class Leap:
    """`monotonic` is not set by anybody, and stands still while the machine sleeps. `noticed` is told by how much."""

    def __init__(self, clock: Clock, monotonic: Clock, noticed: Callable[[float], None]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._noticed = noticed
        self._offset_s = clock() - monotonic()
        self._until_s = -math.inf

    def doubtful(self) -> bool:
        """Ask when it matters; how often does not."""
        passed_s = self._monotonic()
        offset_s = self._clock() - passed_s
        ahead_s, self._offset_s = offset_s - self._offset_s, offset_s
        if ahead_s > AHEAD_S:
            self._until_s = passed_s + TRUST_S
            self._noticed(ahead_s)
        return passed_s < self._until_s
