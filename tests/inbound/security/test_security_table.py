"""That no row is forgotten, and none is proved by an attack that nothing could withstand or fail."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from security_rows import ROWS, WHY_NOT

TESTS = Path(__file__).resolve().parents[2]


def functions() -> Iterator[tuple[int, ast.AsyncFunctionDef | ast.FunctionDef]]:
    """Every test that is named by a row."""
    for path in TESTS.rglob("test_*security*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name.startswith("test_row_"):
                yield int(node.name[9:11]), node


FOUND = list(functions())


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_its_test(row: int) -> None:
    assert [node.name for number, node in FOUND if number == row]


@pytest.mark.parametrize("row", [row for row in ROWS if row not in WHY_NOT])
def test_every_row_fails_on_the_stock_class(row: int) -> None:
    proofs = [
        call
        for number, node in FOUND
        for call in ast.walk(node)
        if number == row and isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "prove"
    ]
    for call in proofs:
        assert isinstance(call.args[0], ast.Constant)
        assert call.args[0].value == row
    assert any(
        not any(word.arg == "safe_there" and getattr(word.value, "value", None) is True for word in call.keywords)
        for call in proofs
    )


def test_reasons_are_for_rows() -> None:
    assert set(WHY_NOT) <= set(ROWS)
