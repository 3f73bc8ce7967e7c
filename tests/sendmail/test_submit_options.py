"""The command line: Postfix's list, joined letters, no permutation."""

import pytest

from mtactl.submit.options import Options, UsageError, parse


def read(*words: str, name: str = "/usr/sbin/sendmail") -> Options:
    return parse([name, *words])


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("sendmail", "send"),
        ("/opt/x/mtad-sendmail", "send"),
        ("mailq", "mailq"),
        ("mtad-mailq", "mailq"),
        ("/usr/bin/newaliases", "newaliases"),
        ("mtad-newaliases", "newaliases"),
        ("send-mail", "send"),
    ],
)
def test_the_name_is_the_role(name: str, mode: str) -> None:
    assert read(name=name).mode == mode


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["-ti"], {"scan_headers": True, "ignore_dots": True}),
        (["-t", "-oi"], {"scan_headers": True, "ignore_dots": True}),
        (["-o", "i"], {"ignore_dots": True}),
        (["-oitrue"], {"ignore_dots": True}),
        (["-oem", "-oee", "-odb", "b"], {"ignore_dots": False, "recipients": ["b"]}),
        (["-fa@b", "c"], {"sender": "a@b", "recipients": ["c"]}),
        (["-f", "a@b", "c"], {"sender": "a@b", "recipients": ["c"]}),
        (["-f", "", "c"], {"sender": "", "recipients": ["c"]}),
        (["-f", "<>", "c"], {"sender": "<>"}),
        (["-ra@b", "c"], {"sender": "a@b"}),
        (["-tifa@b"], {"scan_headers": True, "ignore_dots": True, "sender": "a@b"}),
        (["-fa@b", "-fc@d"], {"sender": "c@d"}),
        (["-F", "A B", "c"], {"full_name": "A B", "recipients": ["c"]}),
        (["-i", "--", "-f"], {"ignore_dots": True, "recipients": ["-f"]}),
        (["-bm", "x"], {"mode": "send"}),
        (["-bp"], {"mode": "mailq"}),
        (["-bi"], {"mode": "newaliases"}),
        (["-I"], {"mode": "newaliases"}),
        (["-bs"], {"mode": "smtp"}),
        (["-q"], {"mode": "flush", "queue": ("", "")}),
        (["-qIabc"], {"mode": "flush", "queue": ("id", "abc")}),
        (["-qRexample.test"], {"mode": "flush", "queue": ("recipient", "example.test")}),
        (["-qSa@b"], {"mode": "flush", "queue": ("sender", "a@b")}),
        (["-q30m", "x"], {"mode": "send", "recipients": ["x"]}),
        (
            ["-N", "success,failure", "-Rhdrs", "-Vid=1", "x"],
            {"notify": "SUCCESS,FAILURE", "ret": "HDRS", "envid": "id=1"},
        ),
        (["-Nnever", "x"], {"notify": "NEVER"}),
        (["-B8BITMIME", "x"], {"body": "8BITMIME"}),
        (["-O", "QueueDirectory=/tmp", "-OIgnoreDots=true", "x"], {"ignore_dots": True, "recipients": ["x"]}),
        (["-Orequiretls=yes", "x"], {"requiretls": True}),
        (
            ["-C", "/etc/passwd", "-X", "/tmp/log", "-A", "c", "-h1", "-pl", "-LTAG", "-Um", "-em", "x"],
            {"recipients": ["x"]},
        ),
        (["-V"], {"envid": ""}),
    ],
)
def test_options(words: list[str], wanted: dict[str, object]) -> None:
    options = read(*words)
    assert {name: getattr(options, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "words",
    [
        ["-bZ"],
        ["-bd"],
        ["-bx"],
        ["-f"],
        ["-B7", "x"],
        ["x", "-fa@b"],
        ["x", "-oQ/tmp"],
        ["-qI"],
        ["-qR"],
        ["-"],
    ],
)
def test_usage(words: list[str]) -> None:
    with pytest.raises(UsageError):
        read(*words)


@pytest.mark.parametrize(
    "words", [["-Nbad", "x"], ["-Rx", "x"], ["-V", "a" * 101, "x"], ["-Nnever,delay", "x"], ["-Z0.1", "x"]]
)
def test_a_bad_value_is_warned_about_and_ignored(words: list[str]) -> None:
    options = read(*words)
    assert (options.notify, options.ret, options.envid, options.recipients) == ("", "", "", ["x"])
    assert len(options.warnings) == 1
