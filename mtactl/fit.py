"""How a table gets into a terminal's width: one line per row, whatever that costs in columns. Pure."""

from collections.abc import Sequence

GAP = 2  # between columns
# Columns that may be cut. Before one gets shorter than this, others are left out.
CUT = {
    "FROM": 16, "TO": 16, "SUBJECT": 16, "REASON": 24, "SELECTOR": 16, "MAIL": 24, "GROUP": 24, "SITE": 16,
    "BREAKER": 24,
}  # fmt: skip
# What an operator misses least comes first; --json, a pipe and `queue show` have all of it.
LEFT_OUT = ("RATE", "WARM-UP", "MAX", "SIZE", "TRIES", "FROM", "NEXT", "AGE", "CHANGED")


def fit(titles: Sequence[str], widths: Sequence[int], width: int) -> list[tuple[int, int]]:
    """Which columns to show, in their order, as (index, width). `widths`: what each column would like to have."""
    shown = list(range(len(titles)))
    later = LEFT_OUT.index("NEXT")
    left_out = (*LEFT_OUT[:later], "REASON", *LEFT_OUT[later:]) if "SUBJECT" in titles else LEFT_OUT
    for title in ("", *left_out):
        shown = [index for index in shown if titles[index] != title]
        soft = [index for index in shown if titles[index] in CUT]
        room = width - GAP * (len(shown) - 1) - sum(widths[index] for index in shown if index not in soft)
        if not soft or room >= sum(min(widths[index], CUT[titles[index]]) for index in soft):
            break
    final = {index: widths[index] for index in shown}
    # The narrow ones get what they want; the others share what is left of the room.
    for left, index in zip(range(len(soft), 0, -1), sorted(soft, key=lambda index: widths[index]), strict=True):
        final[index] = max(min(widths[index], room // left), len(titles[index]))
        room -= final[index]
    return list(final.items())


def cut(text: str, width: int) -> str:
    """The text, or its beginning and "..." when it is longer."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."[:width]
