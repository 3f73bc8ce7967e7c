"""Signing keys."""

from mtad.control.operation import Access, Effect, Operation, Param

GROUPS = {
    "dkim": "Signing keys",
}

_DOMAIN = Param("domain", "domain", "The domain.", required=True, positional=True)
_SELECTOR = Param("selector", "domain", "Only this key.")
_ALGORITHMS = ("rsa", "ed25519", "both")
_KEY = (
    ("domain", "string"),
    ("selector", "string"),
    ("algorithm", "string"),
    ("bits", "int"),
    ("name", "string"),
    ("record", "string"),
    ("path", "string"),
    ("created", "int"),
    ("stage", "string"),
    ("note", "string"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "dkim.generate",
        "Make signing keys for a domain",
        (
            _DOMAIN,
            Param("selector", "domain", "The key's name in DNS; by default made from the date."),
            Param("algorithm", "choice", "Kind of key.", choices=_ALGORITHMS, default="both"),
            Param("now", "flag", "Sign with them at once, whatever DNS serves."),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="Makes a private key of each kind, and prints the DNS records to publish. The first keys of a domain sign"
        " at once: publish their records before mail flows. Further ones sign beside the others once every"
        " authoritative server serves them; to replace those in use, rotate.",
        examples=(
            "mtactl dkim generate example.test",
            "mtactl dkim generate example.test --selector s1 --algorithm rsa",
        ),
        stream=True,
    ),
    Operation(
        "dkim.import",
        "Take over a signing key of another program",
        (
            _DOMAIN,
            Param("key", "key", "The private key in PEM form.", required=True, positional=True),
            Param("selector", "domain", "The key's name in DNS; by default the file's name up to its first dot."),
            Param("now", "flag", "Sign with it at once, whatever DNS serves."),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="Takes a copy of an RSA or Ed25519 key, as `openssl genrsa` or opendkim-genkey wrote it, and prints its"
        " DNS record. The first key of a domain signs at once, a further one when DNS serves it. Keys of less than 1024"
        " bits are refused.",
        examples=(
            "mtactl dkim import example.test data/dkim/default.private",
            "mtactl dkim import example.test /etc/dkimkeys/2024.private --selector mail2024",
        ),
        stream=True,
    ),
    Operation(
        "dkim.export",
        "Print private keys",
        (_DOMAIN, _SELECTOR),
        (("domain", "string"), ("selector", "string"), ("algorithm", "string"), ("pem", "string")),
        offline="read",
        help="Prints the private keys of a domain as PKCS#8 in PEM form. Whoever has them can sign as the domain.",
        examples=("mtactl dkim export example.test --selector s1",),
        stream=True,
        told=True,
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
        (_DOMAIN, _SELECTOR),
        _KEY,
        Access.OPERATOR,
        offline="read",
        help="Prints what to publish in DNS for each key of the domain.",
        examples=("mtactl dkim show example.test", "mtactl dkim show example.test --selector s1 --json"),
        stream=True,
    ),
    Operation(
        "dkim.rotate",
        "Replace the signing keys of a domain",
        (
            _DOMAIN,
            Param("selector", "domain", "The new key's name in DNS; by default made from the date."),
            Param(
                "algorithm", "choice", "Kind of the new keys; by default that of the present ones.", choices=_ALGORITHMS
            ),
            Param("now", "flag", "Switch at once, whatever DNS serves."),
            Param("abort", "flag", "Give up the new keys; possible until they sign."),
            Param("schedule", "duration", "Rotate by itself every so often; 0d ends that."),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="Makes the next keys and prints their DNS records. Nothing else changes until every authoritative server"
        " serves them and nobody can remember that they were not there; then mail is signed with them. The old records"
        " have to stay while mail signed with them is on its way: `mtactl status` says when to remove them. With"
        " [dns.update] the daemon publishes and removes by itself.",
        examples=(
            "mtactl dkim rotate example.test",
            "mtactl dkim rotate example.test --schedule 90d",
            "mtactl dkim rotate example.test --abort",
        ),
        stream=True,
    ),
    Operation(
        "dkim.status",
        "Where each key is in its life, and what it waits for",
        (Param("domain", "domain", "Only this domain.", positional=True),),
        (
            ("domain", "string"),
            ("selector", "string"),
            ("algorithm", "string"),
            ("stage", "string"),
            ("since", "int"),
            ("waits_for", "string"),
            ("ready", "int"),
            ("until", "int"),
            ("looked", "int"),
            ("next_look", "int"),
            ("servers", "[]object"),
            ("next_rotation", "int"),
        ),
        Access.OPERATOR,
        offline="read",
        help="Says for each key its stage, since when, what it waits for and which server serves what. pending: DNS"
        " does not serve it everywhere. published: it does, but resolvers may remember otherwise. active: it signs."
        " retiring: it signs no more, but its record is needed. retired: its private key is destroyed.",
        examples=("mtactl dkim status", "mtactl dkim status example.test --json"),
        stream=True,
    ),
    Operation(
        "dkim.retire",
        "Take a signing key out of use",
        (
            _DOMAIN,
            Param("selector", "domain", "The key.", required=True),
            Param("now", "flag", "Even the only key that signs, and even while mail with its signature is on its way."),
        ),
        _KEY,
        effect=Effect.CHANGE,
        offline="write",
        help="A key that signs stops to sign, and its record has to stay for a while. One that does not sign yet, or"
        " whose time is over, is destroyed.",
        examples=("mtactl dkim retire example.test --selector s20240101",),
        stream=True,
    ),
)
