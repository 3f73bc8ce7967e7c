"""The octets of what was accepted last, so that mail which leaves at once is not read back."""

from collections import OrderedDict

from mtad.mail.envelope import Content

CONTENTS_MAX_BYTES = 32 * 1024 * 1024


SOUND_S = 600.0
"""A body file is read through before it is sent, but not again so soon after it was written or read through."""

_SOUND_MAX = 10_000


class Sound:
    """Which body files were whole, and when. `now` is of a clock that only goes forward."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, float] = OrderedDict()

    def note(self, message_id: str, now: float) -> None:
        self._at[message_id] = now
        self._at.move_to_end(message_id)
        if len(self._at) > _SOUND_MAX:
            self._at.popitem(last=False)

    def known(self, message_id: str, now: float) -> bool:
        return now < self._at.get(message_id, -SOUND_S) + SOUND_S

    def drop(self, message_id: str) -> None:
        self._at.pop(message_id, None)


class Contents:
    """Least recently used go first. Only bodies in memory are kept; a file is as near as its path."""

    def __init__(self, max_bytes: int = CONTENTS_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Content] = OrderedDict()

    def put(self, message_id: str, content: Content) -> None:
        if isinstance(content.body, str):
            return
        self.drop(message_id)
        self._kept[message_id] = content
        self._bytes += len(content.head) + len(content.body)
        while self._bytes > self._max_bytes:
            self._subtract(self._kept.popitem(last=False)[1])

    def get(self, message_id: str) -> Content | None:
        content = self._kept.get(message_id)
        if content is not None:
            self._kept.move_to_end(message_id)
        return content

    def drop(self, message_id: str) -> None:
        content = self._kept.pop(message_id, None)
        if content is not None:
            self._subtract(content)

    def _subtract(self, content: Content) -> None:
        self._bytes -= len(content.head) + len(content.body)
