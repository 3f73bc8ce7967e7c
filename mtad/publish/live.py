"""What of the records that should be there is there. Pure."""

from mtad.publish.records import Rec
from mtad.publish.view import Seen


def state_of(rec: Rec, seen: Seen) -> str:
    """ "same", "missing", "differs" (something else of this kind is there), "unknown"."""
    if seen.problem:
        return "unknown"
    if rec.kind == "TXT":
        texts = seen.texts()
        if rec.value in texts:
            return "same" if sum(_kind(text) == _kind(rec.value) for text in texts) == 1 else "differs"
        return "differs" if any(_kind(text) == _kind(rec.value) for text in texts) else "missing"
    values = {" ".join(value.lower().split()) for value in seen.values()}
    if " ".join(rec.shown.lower().split()) in values:
        return "same"
    return "differs" if values else "missing"


def _kind(text: str) -> str:
    """What a TXT record is about: its version."""
    return text.replace(";", " ").strip().partition(" ")[0].lower()
