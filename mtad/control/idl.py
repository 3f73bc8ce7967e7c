"""The interface in varlink's own language, made from the table of operations, so that any varlink client can use it."""

from collections.abc import Iterator

from mtad.control.operation import Kind, Operation, Param
from mtad.control.operations import OPERATIONS
from mtad.control.wire import ERRORS, INTERFACE, SERVICE, method_name

_TYPES: dict[Kind, str] = {"flag": "bool", "count": "int", "moment": "int"}  # all others are text

SERVICE_DESCRIPTION = f"""\
# What every varlink service answers
interface {SERVICE}

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)

method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""


def description() -> str:
    """The text of the interface io.mtad. Replies may lack members that do not apply, so each is optional."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Every operation on a running mtad. Access follows from the credentials of the peer."
    yield f"interface {INTERFACE}"
    for operation in OPERATIONS:
        yield ""
        yield f"# {operation.summary}"
        if operation.stream:
            yield "# One reply per row: call it with more."
        given = ", ".join(_given(param) for param in operation.params)
        row = ", ".join(f"{name}: ?{kind}" for name, kind in operation.row)
        yield f"method {_word(operation)}({given}) -> ({row})"
    yield ""
    yield "# `code` is the exit code of mtactl"
    for name in ERRORS:
        yield f"error {name} (text: string, code: int{', parameter: ?string' if name == 'Usage' else ''})"
    yield ""


def _word(operation: Operation) -> str:
    return method_name(operation.name).rpartition(".")[2]


def _given(param: Param) -> str:
    kind = _TYPES.get(param.kind, "string")
    return f"{param.name}: {'' if param.required else '?'}{'[]' if param.many else ''}{kind}"
