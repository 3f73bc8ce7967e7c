"""A moment as somebody types it, in the time of this terminal."""

import time
from datetime import datetime, timedelta
from datetime import time as clock

from mtad.control.operation import UsageError


def moment(name: str, text: str, now: float | None = None) -> int:
    """Unix seconds. "18:30" is the next time it is so late; "2026-11-25 18:30" and "2026-11-25" are local; ISO 8601
    with a zone is what it says. UsageError for what is none of these, or past."""
    words, now = text.strip(), time.time() if now is None else now
    try:
        if len(words) <= 8 and ":" in words:
            today = datetime.fromtimestamp(now)  # noqa: DTZ006  (local time is meant)
            at = datetime.combine(today.date(), clock.fromisoformat(words))
            if at <= today:
                at += timedelta(days=1)
        else:
            at = datetime.fromisoformat(words)
        seconds = int(at.timestamp())
    except (ValueError, OverflowError, OSError):
        raise UsageError(name, f'{text[:60]!a} is no time: write "18:30", "2026-11-25 18:30" or ISO 8601') from None
    if seconds < now:
        raise UsageError(name, f"{text[:60]!a} is past")
    return seconds
