"""Certificates."""

from mtad.control.operation import Access, Effect, Operation, Param

GROUPS = {
    "tls": "Certificates of the listeners",
}

_CERTIFICATE = (("cert", "string"), ("key", "string"), ("names", "[]string"), ("expires", "int"))

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "tls.show",
        "Show the certificates in use",
        row=(
            *_CERTIFICATE,
            ("chain", "[]object"),
            ("matches", "bool"),
            ("in_use", "bool"),
            ("distrust", "string"),
            ("problems", "[]string"),
        ),
        access=Access.OPERATOR,
        offline="read",
        help="Shows the certificates that clients get, the default first, then those for the names they ask for: the"
        " chain in the file, whether the key belongs to it, what a client that trusts the system's authorities says,"
        " and what is missing.",
        examples=("mtactl tls show", "mtactl tls show --json | jq .expires"),
        stream=True,
    ),
    Operation(
        "tls.test",
        "What clients get from us, and what other servers offer",
        (
            Param(
                "host",
                "text",
                "A domain (all its mail hosts), or HOST:PORT; without it our own listeners.",
                positional=True,
            ),
        ),
        (
            ("where", "string"),
            ("name", "string"),
            ("way", "string"),
            ("greeting", "string"),
            ("protocol", "string"),
            ("cipher", "string"),
            ("chain", "[]object"),
            ("distrust", "string"),
            ("old", "[]string"),
            ("auth", "[]string"),
            ("needs", "string"),
            ("result", "string"),
            ("problems", "[]string"),
        ),
        access=Access.OPERATOR,
        offline="read",
        help="Connects as a client does, and says what it gets: protocol, cipher, certificates, whether a client that"
        " trusts the system's authorities is content, and whether old protocols are refused. Without a host: our"
        " listeners on ports 25, 587 and 465, over loopback where they listen everywhere. With a domain: each of its"
        " mail hosts, and whether it shows what DANE, MTA-STS or the settings ask of it. Nothing is sent. Exits with 1"
        " when there is a problem.",
        examples=("mtactl tls test", "mtactl tls test example.org", "mtactl tls test mail.example.org:465 --json"),
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
