"""Signing keys."""

from mtad.control.operation import Access, Effect, Operation, Param

GROUPS = {
    "dkim": "Signing keys",
}

_DOMAIN = Param("domain", "domain", "The domain.", required=True, positional=True)
_KEY = (
    ("domain", "string"),
    ("selector", "string"),
    ("algorithm", "string"),
    ("bits", "int"),
    ("name", "string"),
    ("record", "string"),
    ("path", "string"),
    ("created", "int"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "dkim.generate",
        "Make a signing key for a domain",
        (
            _DOMAIN,
            Param("selector", "domain", "The key's name in DNS; by default made from the date."),
            Param("algorithm", "choice", "Kind of key.", choices=("rsa", "ed25519", "both"), default="rsa"),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="Makes a private key, and prints the DNS record to publish. Mail from the domain is signed from then on:"
        " publish the record first where mail is already flowing.",
        examples=(
            "mtactl dkim generate example.test",
            "mtactl dkim generate example.test --selector s1 --algorithm both",
        ),
        stream=True,
    ),
    Operation(
        "dkim.list",
        "List the signing keys",
        row=_KEY,
        access=Access.OPERATOR,
        offline="read",
        help="Lists the DKIM keys of all domains.",
        examples=("mtactl dkim list", "mtactl dkim list --json"),
        stream=True,
    ),
    Operation(
        "dkim.show",
        "Show the DNS records of a domain's keys",
        (_DOMAIN, Param("selector", "domain", "Only this key.")),
        _KEY,
        Access.OPERATOR,
        offline="read",
        help="Prints what to publish in DNS for each key of the domain.",
        examples=("mtactl dkim show example.test", "mtactl dkim show example.test --selector s1 --json"),
        stream=True,
    ),
)
