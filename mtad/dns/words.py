"""What an operator is told of a question to DNS that failed. The names of Python's errors are no such words."""

import os
import socket

CAUSES_MAX = 3  # of several name servers


def of_failure(error: BaseException) -> str:
    """Why there is no answer. Pure but for the system's words."""
    import dns.exception
    import dns.resolver

    match error:
        case dns.resolver.NoNameservers():
            causes = [cause for _, _, _, cause, _ in error.kwargs.get("errors") or ()]
            said = [of_failure(one) if isinstance(one, Exception) else f"the answer was {one}" for one in causes]
            return "; ".join(list(dict.fromkeys(said))[:CAUSES_MAX]) or "no name server is left to ask"
        case dns.resolver.NoResolverConfiguration():
            return "no name server is known: /etc/resolv.conf names none"
        case dns.resolver.YXDOMAIN():
            return "the answer was YXDOMAIN"
        case TimeoutError() | dns.exception.Timeout():
            return "no answer in time"
        case EOFError():
            return "it hung up"
        case OSError():
            return of_network(error)
        case _:
            return "what came is no answer"


def of_network(error: OSError) -> str:
    """The system's words, those of the C library for a name that it looked up; in lower case."""
    if isinstance(error, socket.gaierror):
        return (error.strerror or "the name cannot be resolved").lower()
    return os.strerror(error.errno).lower() if error.errno else "the connection broke"
