"""Our records in DNS."""

from mtad.control.operation import Access, Effect, Operation, Param

GROUPS = {
    "dns": "Our records in DNS",
}

_SERVER = Param(
    "server",
    "text",
    "Ask this authoritative server, as 192.0.2.53 or 192.0.2.53:5353, not those of the NS records.",
    many=True,
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "dns.records",
        "Print what to publish for a domain",
        (
            Param("domain", "domain", "The domain.", required=True, positional=True),
            Param("parked", "flag", "The domain is not for mail: say so."),
            Param("live", "flag", "Ask DNS what it has."),
            _SERVER,
        ),
        (
            ("name", "string"),
            ("type", "string"),
            ("ttl", "int"),
            ("value", "string"),
            ("text", "string"),
            ("about", "string"),
            ("elsewhere", "string"),
            ("live", "[]string"),
            ("state", "string"),
            ("policy", "string"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Prints every record that mail of the domain needs, made from what this host is: its name and addresses,"
        " certificate, keys and listeners.",
        examples=("mtactl dns records example.test",),
        stream=True,
    ),
    Operation(
        "dns.check",
        "Check what DNS says of a domain",
        (
            Param("domain", "domain", "The domain.", required=True, positional=True),
            Param("parked", "flag", "The domain is not for mail: it has to say so."),
            Param("offline", "flag", "Only the domain's own records: no lists of bad addresses, no policy over HTTPS."),
            _SERVER,
        ),
        (("area", "string"), ("said", "[]string"), ("findings", "[]object")),
        Access.OPERATOR,
        offline="read",
        help="Asks every authoritative server of the domain and the configured resolver for each record, and judges"
        " them as a receiver of mail would.",
        examples=("mtactl dns check example.test",),
        stream=True,
    ),
    Operation(
        "dns.push",
        "Publish the records of signing keys",
        (Param("domain", "domain", "Only this domain.", positional=True),),
        (("domain", "string"), ("name", "string"), ("text", "string"), ("done", "string")),
        effect=Effect.CHANGE,
        offline="read",
        help="Sends the records of all keys that sign or will sign to the server of [dns.update], and removes those of"
        " retired ones. The daemon does this by itself as a rotation goes on.",
        examples=("mtactl dns push", "mtactl dns push example.test"),
        stream=True,
    ),
)
