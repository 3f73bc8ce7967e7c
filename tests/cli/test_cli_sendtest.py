"""send-test with wrong arguments: one clear line each, and nothing is sent."""

from pathlib import Path

import pytest
from cli_run import Run


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("no address",), 64, "ADDRESS: 'no address' is no mail address: it has no domain"),
        (("a@b.test", "--from", "x@"), 64, "--from: 'x@' is no mail address"),
        (("a@b.test", "--timeout", "soon"), 64, "--timeout: "),
        (("a@b.test\r\nDATA",), 64, "is no mail address"),
        (("a@b.test",), 69, "control.sock"),
    ],
)
def test_wrong_arguments(here: Run, short_dir: Path, words: tuple[str, ...], code: int, said: str) -> None:
    (short_dir / "mtad.toml").write_text('hostname = "mail.example.test"\ndomains = ["example.test"]\n')
    done = here("send-test", *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert done.stderr.count("\n") <= 2
    assert done.stdout == ""
