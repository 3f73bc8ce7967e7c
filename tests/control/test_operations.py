"""The table of operations, and the one check of what is given to them."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.config.keys import KEYS
from mtad.control import values
from mtad.control.handlers import HANDLERS
from mtad.control.idl import description
from mtad.control.operation import SELECTOR, Access, Effect, Operation, UsageError, check
from mtad.control.operations import BY_NAME, OPERATIONS
from mtad.control.server import METHODS
from mtad.control.tables import INDEX, find
from mtad.control.wire import method_name

LIST, HOLD = BY_NAME["queue.list"], BY_NAME["queue.hold"]
EACH = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)


def least(operation: Operation) -> dict[str, object]:
    """The fewest arguments that are right."""
    samples: dict[str, object] = {"domain": "a.test", "user": "alice", "id": "3kf9", "secret": "a password"}
    samples |= {"path": "/tmp/x", "text": "192.0.2.1", "count": 1, "address": "@a.test", "fingerprint": "a1" * 32}
    samples |= {"lines": "1 alice:{SSHA}x", "key": "s1.pem -----BEGIN PRIVATE KEY-----", "octets": "e30K"}
    given: dict[str, object] = {}
    for param in operation.params:
        if param.required:
            given[param.name] = [samples[param.kind]] if param.many else samples[param.kind]
    if operation.selects and operation.effect > Effect.READ:
        given["all"] = True
    return given


@EACH
def test_is_complete(operation: Operation) -> None:
    assert operation.name in HANDLERS
    assert HANDLERS[operation.name].__name__ in {operation.name.replace(".", "_"), operation.name}
    assert operation.summary[0].isupper()
    assert not operation.summary.endswith(".")
    assert operation.help.endswith(".")
    assert operation.examples
    assert operation.row
    assert method_name(operation.name) in METHODS
    names = [param.name for param in operation.params]
    assert len(names) == len(set(names))
    assert all(param.help.endswith(".") for param in operation.params)


def test_no_handler_without_operation() -> None:
    assert set(HANDLERS) == set(BY_NAME)


@EACH
def test_takes_the_least(operation: Operation) -> None:
    checked = check(operation, least(operation))
    assert set(checked) == {param.name for param in operation.params}


@EACH
def test_refuses_what_it_does_not_know(operation: Operation) -> None:
    with pytest.raises(UsageError) as caught:
        check(operation, {**least(operation), "nonsense": 1})
    assert caught.value.param == "nonsense"


@EACH
def test_refuses_what_is_missing(operation: Operation) -> None:
    for param in operation.params:
        if param.required:
            for absent in ({}, {param.name: None}):
                with pytest.raises(UsageError) as caught:
                    check(operation, {k: v for k, v in least(operation).items() if k != param.name} | absent)
                assert caught.value.param == param.name


@EACH
@pytest.mark.parametrize(
    "bad", [1.5, {}, "", " ", "a\nb", "\x1b[2J", "\x85", "\ud800", "x" * 5000, float("nan")], ids=repr
)
def test_refuses_wrong_values(operation: Operation, bad: object) -> None:
    for param in operation.params:
        if param.kind == "octets" and bad in ("", "x" * 5000):
            continue  # both are base64
        for value in (bad, [bad]) if param.many else (bad, ["x"]):
            with pytest.raises(UsageError) as caught:
                check(operation, {**least(operation), param.name: value})
            assert caught.value.param == param.name


@pytest.mark.parametrize(
    "operation", [op for op in OPERATIONS if op.effect > Effect.READ and op.selects], ids=lambda o: o.name
)
def test_a_change_needs_a_selector(operation: Operation) -> None:
    for nothing in ({}, {"limit": 3}, {"ids": []}, {"all": False}, {"reason": "why"}, {"state": []}, {"from": None}):
        with pytest.raises(UsageError, match="select something, or say --all"):
            check(operation, nothing)
    assert check(operation, {"attempts": "0"})["attempts"] == ("=", 0)
    assert check(operation, {"older": "0s"})


def test_the_vocabulary_is_the_promised_one() -> None:
    promised = "ids from to domain user ip state error older newer size attempts message_id"
    promised += " subject not_subject audit limit all"
    assert " ".join(param.name for param in SELECTOR) == promised
    for operation in OPERATIONS:
        step = operation.name.startswith("transfer.")  # of `queue export`, which asks by itself
        if operation.selects and operation.effect > Effect.READ and not step:
            assert [p.name for p in operation.params][-3:] == ["dry_run", "yes", "reason"]


def test_what_is_kept_how_long_is_said_as_it_is() -> None:
    said = " ".join(operation.help for operation in OPERATIONS)
    for name in ("history", "trash", "audit"):
        (key,) = (key for key in KEYS if key.path == f"keep.{name}")
        days = key.default.strip('"').removesuffix("d")
        assert f"{days} days, if the setting keep.{name} says nothing else" in said
        assert said.count(f"keep.{name}") == said.count(f"{days} days, if the setting keep.{name}")


def test_who_may() -> None:
    assert {op.name for op in OPERATIONS if op.access is Access.ANYONE} == {
        "queue.mailq",
        "queue.wait",
        "maildrop.drain",
    }
    assert all(op.access is Access.ADMIN for op in OPERATIONS if op.effect is Effect.DESTROY)


@pytest.mark.parametrize(
    ("name", "given_value", "parsed"),
    [
        ("older", "90s", 90.0),
        ("older", "15m", 900.0),
        ("older", "2h", 7200.0),
        ("older", "3d", 259200.0),
        ("older", "1W", 604800.0),
        ("older", "1h30m", 5400.0),
        ("size", ">4k", (">", 4096)),
        ("size", "< 10M", ("<", 10 << 20)),
        ("size", ">=1g", (">", (1 << 30) - 1)),
        ("size", "<=5", ("<", 6)),
        ("size", "5kB", ("=", 5120)),
        ("attempts", "=3", ("=", 3)),
        ("attempts", "0", ("=", 0)),
        ("ids", ["3KF9X2M7Q0W1", "3kf9.2"], ("3kf9x2m7q0w1", "3kf9.2")),
        ("state", ["held", "trashed"], ("held", "trashed")),
        ("domain", "Example.TEST.", "Example.TEST"),
        ("from", "<>", "<>"),
        ("to", "*@b%d_.example", "*@b%d_.example"),
        ("limit", 10, 10),
    ],
)
def test_reads(name: str, given_value: object, parsed: object) -> None:
    assert check(LIST, {name: given_value})[name] == parsed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("older", "5"), ("older", "h"), ("older", "-1h"), ("older", "1.5h"), ("older", "9999999999s"), ("older", 60),
        ("older", "٣h"), ("size", ">"), ("size", "4q"), ("size", "=>4"), ("attempts", ">-1"), ("attempts", 3),
        ("ids", ["../../x"]), ("ids", ["abc!"]), ("ids", ["3kf9x2m7q0w1z"]), ("ids", ["3kf9."]), ("ids", ["hello"]),
        ("state", ["gone"]), ("state", "held"), ("domain", "../x"),
        ("domain", "a..b"), ("domain", "-x"), ("domain", "*"),
        ("limit", 0), ("limit", -1), ("limit", True), ("limit", "5"),
        ("all", 1), ("all", "yes"), ("ids", ["a"] * 50_001),
    ],
)  # fmt: skip
def test_refuses(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        check(LIST, {name: value})
    assert caught.value.param == name
    assert str(caught.value).isprintable()


def test_a_secret_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        check(BY_NAME["user.add"], {"name": "alice", "password": "hunter2\x00"})
    assert "hunter2" not in str(caught.value)


@given(st.dictionaries(st.sampled_from([p.name for p in HOLD.params]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)))  # fmt: skip
def test_anything_is_checked_or_refused(anything: dict[str, object]) -> None:
    try:
        checked = check(HOLD, anything)
    except UsageError:
        return
    assert any(checked[p.name] is not p.default for p in HOLD.params)
    for text in (checked["from"], checked["to"], checked["error"], checked["reason"]):
        assert text is None or all(char >= " " for char in text)


def test_values_and_the_table_import_nothing_heavy(repository) -> None:
    control = repository / "mtad" / "control"
    allowed = {
        "binascii",
        "collections.abc",
        "dataclasses",
        "enum",
        "importlib",
        "typing",
        "mtad.control",
        "mtad.control.operation",
    }
    for path in (*control.glob("tables/*.py"), control / "operation.py", control / "values.py"):
        tree = ast.parse(path.read_text())
        found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert found <= allowed


def test_the_interface_text_names_every_method() -> None:
    text = description()
    assert text.startswith("# ")
    assert "\ninterface io.mtad\n" in text
    for operation in OPERATIONS:
        assert f"\nmethod {method_name(operation.name).removeprefix('io.mtad.')}(" in text
    assert "error NothingMatched (text: string, code: int)\n" in text


def test_the_interface_text_is_varlink() -> None:
    """The grammar of varlink, for the constructs we use."""
    import re

    name, field = r"[A-Z][A-Za-z0-9]*", r"[A-Za-z](?:_?[A-Za-z0-9])*"
    kind = r"\??(?:\[\])?(?:bool|int|float|string|object)"
    struct = rf"\((?:{field}: {kind}(?:, {field}: {kind})*)?\)"
    lines = [line for line in description().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "interface io.mtad"
    for line in lines[1:]:
        assert re.fullmatch(rf"method {name}{struct} -> {struct}|error {name} {struct}", line), line
    assert json.dumps(description())


def test_states_are_the_stores() -> None:
    from mtad.queue import selector

    assert set(values.STATES) == set(selector._STATES)


def test_each_verb_is_found_by_its_first_word_alone() -> None:
    for operation in OPERATIONS:
        assert find(operation.name) is operation
    assert find("nothing.there") is None
    assert find("queue.nothing") is None
    assert set(INDEX) == {operation.name.partition(".")[0] for operation in OPERATIONS}


def test_the_kinds_of_events_are_those_that_there_are() -> None:
    """Written twice, for mtactl must not load what events need to be asked for their kinds."""
    from mtad.control import values
    from mtad.mail.event import KINDS

    assert values.EVENTS == KINDS
