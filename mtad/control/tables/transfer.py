"""Mail on its way to another host's queue, step by step; `mtactl queue export` and `import` take them together."""

from mtad.control.operation import REASON, SELECTOR, Effect, Operation, Param

GROUPS = {
    "transfer": "The steps of queue export and queue import",
}

_TRANSFER = (
    ("id", "string"),
    ("way", "string"),
    ("state", "string"),
    ("host", "string"),
    ("changed_at", "int"),
    ("messages", "int"),
    ("recipients", "int"),
    ("receipt", "string"),
    ("confirmation", "string"),
)
_ID = Param("id", "text", "The transfer's id.", required=True, positional=True)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "transfer.list",
        "List what is on its way, and what was",
        row=_TRANSFER,
        offline="read",
        help="Mail that is on its way out or in is not in the queue: no verb of the queue sees it. Out: sent until"
        " it is confirmed or aborted; in: received until it is active or discarded.",
        examples=("mtactl transfer list",),
        stream=True,
    ),
    Operation(
        "transfer.begin",
        "Take mail out of the queue, to go elsewhere",
        (*SELECTOR, REASON),
        _TRANSFER,
        effect=Effect.CHANGE,
        offline="write",
        help="The first step of `queue export`. A message goes with all its recipients that are open; what is being"
        " delivered just now stays.",
        examples=("mtactl transfer begin --domain example.com",),
    ),
    Operation(
        "transfer.send",
        "Print what a transfer moves",
        (_ID,),
        (("line", "string"),),
        effect=Effect.CHANGE,
        offline="write",
        help="The second step of `queue export`; it may be taken again, until the transfer is confirmed or aborted.",
        examples=("mtactl transfer send 0123456789ab --json",),
        stream=True,
    ),
    Operation(
        "transfer.confirm",
        "Let go of what the other host has a receipt for",
        (Param("receipt", "text", "What the other host said.", required=True, positional=True), REASON),
        _TRANSFER,
        effect=Effect.CHANGE,
        offline="write",
        help="The mail is the other host's from now on; the confirmation is what makes it active there.",
        examples=("mtactl transfer confirm 0123456789ab-0123456789abcdef0123456789abcdef",),
    ),
    Operation(
        "transfer.abort",
        "Put the mail of a transfer back into the queue",
        (_ID, REASON),
        _TRANSFER,
        effect=Effect.CHANGE,
        offline="write",
        help="As it was, as long as it is not confirmed. What the other host received it can only discard.",
        examples=("mtactl transfer abort 0123456789ab",),
    ),
    Operation(
        "transfer.receive",
        "Take a part of what another host sends",
        (
            _ID,
            Param("part", "count", "Which one, from 1.", required=True),
            Param("octets", "octets", "What is sent, in base64.", required=True),
            Param("last", "flag", "It is the last one: store all of it, and answer with the receipt."),
        ),
        _TRANSFER,
        effect=Effect.CHANGE,
        help="The second step of `queue import`. What was received is durable, and not active.",
        examples=("mtactl transfer receive 0123456789ab --part 1 --octets e30K",),
    ),
    Operation(
        "transfer.activate",
        "Put what was received into the queue",
        (Param("confirmation", "text", "What the sending host said.", required=True, positional=True), REASON),
        _TRANSFER,
        effect=Effect.CHANGE,
        offline="write",
        help="The last step of `queue import`.",
        examples=("mtactl transfer activate 0123456789ab-0123456789abcdef0123456789abcdef",),
    ),
    Operation(
        "transfer.discard",
        "Forget what was received and is not active",
        (_ID, REASON),
        _TRANSFER,
        effect=Effect.CHANGE,
        offline="write",
        help="When the sending host aborted it.",
        examples=("mtactl transfer discard 0123456789ab",),
    ),
)
