"""docs/sendmail.md says what the table of options says, and its commands exist."""

import re
from pathlib import Path

from mtactl.submit.flags import FLAGS, HONOURED, IGNORED, LONG, REFUSED, VALUES
from mtactl.submit.options import MODES

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "sendmail.md").read_text()
POSTFIX = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx"


def test_the_table_is_the_table() -> None:
    wanted = []
    for option, argument, standing, words in (*FLAGS, *VALUES, *LONG):
        shown = option + (argument if argument[:1] in ("=", "[") else f" {argument}" if argument else "")
        wanted.append(f"| `{shown.replace('|', chr(92) + '|')}` | {standing} | {words} |")
    table = TEXT.partition("## Options\n")[2]
    assert [line for line in table.splitlines() if line.startswith("| `")] == wanted


def test_every_option_of_postfix_is_in_it() -> None:
    takes = {option[1]: bool(argument) for option, argument, _, _ in FLAGS}
    for letter, colon in re.findall("([A-Za-z])(:?)", POSTFIX):
        assert takes[letter] == bool(colon), letter
    assert takes.keys() - set(POSTFIX) == {"d"}


def test_every_mode_has_its_row() -> None:
    rows = {option: standing for option, _, standing, _ in VALUES}
    assert {f"-b{mode}" for mode in MODES} == {name for name, standing in rows.items()
                                               if name.startswith("-b") and standing != REFUSED}  # fmt: skip
    assert {standing for _, _, standing, _ in (*FLAGS, *VALUES, *LONG)} == {HONOURED, IGNORED, REFUSED}
