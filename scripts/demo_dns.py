"""A name server for the demo: answers from a zone file on a loopback port, over UDP.

demo_dns.py PORT FILE    FILE holds names with their final dot; it is read again for every question.
"""

import socket
import sys

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zonefile


def answer(query: dns.message.Message, path: str) -> dns.message.Message:
    """The reply: what the file has for the name and type, an empty answer for another type, else NXDOMAIN."""
    reply = dns.message.make_response(query)
    reply.flags |= dns.flags.AA
    asked = query.question[0]
    with open(path) as file:
        rrsets = dns.zonefile.read_rrsets(file.read(), rdclass=None)
    reply.answer = [rrset for rrset in rrsets if (rrset.name, rrset.rdtype) == (asked.name, asked.rdtype)]
    if not any(rrset.name.is_subdomain(asked.name) for rrset in rrsets):
        reply.set_rcode(dns.rcode.NXDOMAIN)
    return reply


def main() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", int(sys.argv[1])))
        while True:
            octets, peer = server.recvfrom(65535)
            try:
                query = dns.message.from_wire(octets)
                server.sendto(answer(query, sys.argv[2]).to_wire(), peer)
            except dns.exception.DNSException as error:
                print(f"no answer: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
