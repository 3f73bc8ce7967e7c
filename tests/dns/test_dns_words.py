import errno
import socket

import dns.exception
import dns.message
import dns.resolver
import pytest

from mtad.dns.words import of_failure


def none_of(*causes):
    """What dnspython raises when no server is left; the causes are its own."""
    errors = [(f"Do53:192.0.2.{number}@53", False, 53, cause, None) for number, cause in enumerate(causes, 1)]
    return dns.resolver.NoNameservers(request=dns.message.make_query("one.test", "MX"), errors=errors)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (none_of("SERVFAIL"), "the answer was SERVFAIL"),
        (none_of("SERVFAIL", "SERVFAIL", "REFUSED"), "the answer was SERVFAIL; the answer was REFUSED"),
        (none_of(ConnectionRefusedError(errno.ECONNREFUSED, "x"), EOFError()), "connection refused; it hung up"),
        (none_of(*(f"CODE{number}" for number in range(9))), "; ".join(f"the answer was CODE{n}" for n in range(3))),
        (none_of(dns.exception.FormError("octets of a stranger")), "what came is no answer"),
        (none_of(), "no name server is left to ask"),
        (dns.resolver.NoResolverConfiguration(), "no name server is known: /etc/resolv.conf names none"),
        (dns.resolver.LifetimeTimeout(timeout=1, errors=[]), "no answer in time"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (OSError("the event loop's own"), "the connection broke"),
        (ValueError("octets of a stranger"), "what came is no answer"),
    ],
)
def test_words(error, words):
    assert of_failure(error) == words
