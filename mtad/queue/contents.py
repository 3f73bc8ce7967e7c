"""The octets of what was accepted last, so that mail which leaves at once is not read back."""

from collections import OrderedDict

from mtad.mail.envelope import Content

CONTENTS_MAX_BYTES = 32 * 1024 * 1024


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
