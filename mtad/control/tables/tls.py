"""Certificates."""

from mtad.control.operation import Access, Effect, Operation

GROUPS = {
    "tls": "Certificates of the listeners",
}

_CERTIFICATE = (("cert", "string"), ("key", "string"), ("names", "[]string"), ("expires", "int"))

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "tls.show",
        "Show the certificates in use",
        row=_CERTIFICATE,
        access=Access.OPERATOR,
        help="Lists the certificates that clients get: the default first, then those for the names they ask for.",
        examples=("mtactl tls show", "mtactl tls show --json | jq .expires"),
        stream=True,
    ),
    Operation(
        "tls.reload",
        "Read the certificates again",
        row=_CERTIFICATE,
        effect=Effect.CHANGE,
        help="Reads the certificate and key files, and nothing else; prints what is in use from now on. If one file is"
        " broken, the certificates of before stay (78). The daemon does this by itself within two minutes after a file"
        " changes. Sessions that are open go on as they are.",
        examples=("mtactl tls reload",),
        stream=True,
    ),
)
