"""What is measured: top, metrics, alerts."""

from mtad.control.operation import Access, Operation, Param

GROUPS: dict[str, str] = {}

INTERVAL = Param("interval", "duration", "How often: 5s; 2s without it.")

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "top",
        "Watch what the daemon is doing",
        (INTERVAL, Param("once", "flag", "One look, over one interval.")),
        (
            ("at", "float"),
            ("interval_s", "float"),
            ("hostname", "string"),
            ("uptime_s", "int"),
            ("sessions", "int"),
            ("deliveries", "int"),
            ("rates", "object"),
            ("queue", "object"),
            ("sites", "[]object"),
            ("senders", "[]object"),
            ("errors", "[]object"),
            ("waiting", "[]object"),
        ),
        Access.OPERATOR,
        help="Rates of the last interval, the queue by state, and of the last minute the busiest sites and senders, and"
        " the errors. On a terminal it is drawn again and again, until it is interrupted; into a pipe goes one plain"
        " snapshot an interval, with --json one object.",
        examples=("mtactl top", "mtactl top --once", "mtactl top --interval 10s --json | jq .rates"),
        stream=True,
        live=True,
    ),
    Operation(
        "metrics",
        "Print the counters and gauges",
        row=(("name", "string"), ("type", "string"), ("value", "float")),
        access=Access.OPERATOR,
        help="What /metrics has, in the text format of Prometheus; no HTTP listener is needed for it.",
        examples=("mtactl metrics", "mtactl metrics | grep auth", "mtactl metrics --json"),
        stream=True,
    ),
    Operation(
        "alerts",
        "Check what should wake somebody",
        (Param("rules", "flag", "Print the same as alerting rules for Prometheus."),),
        (
            ("name", "string"),
            ("firing", "bool"),
            ("value", "float"),
            ("limit", "float"),
            ("text", "string"),
            ("advice", "string"),
            ("rules", "string"),
        ),
        access=Access.OPERATOR,
        help="Six checks: the length of the queue, tries in vain, failed sign-ins, the disk, certificates, bounces."
        " Exits with 1 when one of them fires, so that cron or a monitor can run it. The rates are of the last hour and"
        " of the last day, from counts that are kept over a restart.",
        examples=(
            "mtactl alerts",
            "mtactl alerts --json | jq 'select(.firing)'",
            "mtactl alerts --rules",
        ),
        stream=True,
    ),
)
