"""The parsers of what peers, their domains and their proxies say: SPF, DMARC, DKIM, MTA-STS, TLSRPT, TLSA, HTTP."""

import asyncio
import base64
from collections.abc import Coroutine, Sequence
from typing import Any

import fuzz_dkim
from fuzz_mail import whole
from fuzz_parser import Parser, readable, text

from mtad.accounts import scram
from mtad.accounts.srs import NotOurs, Srs
from mtad.auth import dmarc_record, spf, spf_record
from mtad.control import httpwire
from mtad.dkim.canonical import RelaxedBody, collapse, relaxed_field
from mtad.dkim.verify import verify
from mtad.inbound import proxy
from mtad.tls import dane, https, mta_sts, tlsrpt

NOW = 1_800_000_000.0
SENDER = {"s": "a.b@c.test", "l": "a.b", "o": "c.test", "d": "d.c.test", "i": "192.0.2.1", "p": "unknown",
          "v": "in-addr", "h": "helo.test", "c": "192.0.2.1", "r": "me.test", "t": "1800000000"}  # fmt: skip


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has all it needs: it must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("it waits for more")


def reader(chunks: Sequence[bytes], limit: int) -> asyncio.StreamReader:
    """All octets of a connection that has ended."""

    class NoLoop:
        def get_debug(self) -> bool:
            return False

    made = asyncio.StreamReader(limit, loop=NoLoop())  # type: ignore[arg-type]
    for chunk in chunks:
        made.feed_data(chunk)
    made.feed_eof()
    return made


def _spf(octets: bytes) -> object:
    words = text(octets)
    if not spf_record.is_spf(words):
        return None
    record = spf_record.parse(words)
    specs = [mechanism.domain for mechanism in record.mechanisms] + [record.redirect, record.exp]
    names = [spf_record.expand_domain(spec, SENDER) for spec in specs if spec]
    assert all(len(name) <= spf_record.NAME_MAX for name in names)
    again = spf_record.parse("v=spf1 " + " ".join(mechanism.text for mechanism in record.mechanisms))
    assert again.mechanisms == record.mechanisms
    return record, names


class _Answers:
    """One text for every TXT question, and one address for every other."""

    def __init__(self, record: bytes) -> None:
        self.record = record

    async def txt(self, name: str) -> Sequence[bytes]:
        return [self.record]

    async def mx_names(self, name: str) -> Sequence[str]:
        return ["mx.test"] * 20

    async def addresses_of(self, name: str, version: int) -> Sequence[str]:
        return ["192.0.2.7"] if version == 4 else ["2001:db8::7"]

    async def names_of(self, ip: str) -> Sequence[str]:
        return ["a.test"] * 20


def _spf_check(octets: bytes) -> object:
    """A record that answers for every domain it leads to, as with include and redirect of itself."""
    asked = spf._Check(
        _Answers(octets),
        spf._plain(spf.ip_address("192.0.2.1")),
        "a",
        "b.test",
        "h.test",
        "me.test",
        NOW,
    )
    try:
        verdict = finished(asked.host("b.test"))[0]
    except spf._Ends as ends:
        verdict = ends.verdict
    assert asked.lookups <= spf.LOOKUPS_MAX + 1
    assert asked.voids <= spf.VOIDS_MAX + 1
    return verdict


def _macros(octets: bytes) -> object:
    return spf_record.explanation(text(octets), SENDER)


def _dmarc(octets: bytes) -> object:
    record = dmarc_record.parse(text(octets))
    if record is not None:
        assert dmarc_record.parse("; ".join(f"{name}={value}" for name, value in record.tags)) is not None
    return record


def _dkim_signature(octets: bytes) -> object:
    """A mail with a damaged signature. What is not signed well never passes."""
    results = verify(b"DKIM-Signature: " + octets + b"\r\n" + fuzz_dkim.HEAD + fuzz_dkim.BODY, fuzz_dkim.lookup, NOW)
    assert all(result.reason.isprintable() for result in results)
    return results


def _dkim_mail(octets: bytes) -> object:
    results = verify(octets, fuzz_dkim.lookup, fuzz_dkim.NOW)
    assert all(result.reason.isprintable() for result in results)
    return results


def _dkim_key(octets: bytes) -> object:
    return verify(fuzz_dkim.SIGNED, lambda _name: [text(octets), readable(octets)], fuzz_dkim.NOW)


def _relaxed(chunks: Sequence[bytes]) -> object:
    parts: list[bytes] = []
    body = RelaxedBody(parts.append)
    for chunk in chunks:
        body.update(chunk)
    body.finish()
    return b"".join(parts)


def _relaxed_field(octets: bytes) -> object:
    once = relaxed_field(b"a", octets)
    if b"\r" not in octets.replace(b"\r\n", b""):
        assert relaxed_field(b"a", once) == once
    assert b"  " not in collapse(octets)
    return once


def _sts_policy(octets: bytes) -> object:
    policy = mta_sts.parse_policy(octets)
    if len(policy.mx) <= mta_sts.SHOWN_MAX:
        assert mta_sts.parse_policy("\r\n".join(mta_sts.lines(policy)).encode()) == policy
    mta_sts.matches(policy.mx, "mx.b.test")
    return policy


def _sts_record(octets: bytes) -> object:
    return mta_sts.record_id([octets]), mta_sts.parse_record(octets)


def _tlsrpt(octets: bytes) -> object:
    found = tlsrpt.report_targets([octets])
    assert len(found) <= tlsrpt.TARGETS_MAX
    return found


def _tlsa(octets: bytes) -> object:
    """The record of a host, and the chain that it shows, are both a stranger's."""
    usage, selector, matching = octets[:3].ljust(3, b"\3")
    record = dane.Tlsa(usage, selector, matching, octets[3:])
    usable = dane.usable([record] * 3)
    assert len(usable) <= 1
    fault = dane.verify([octets], usable, ["mx.test"], NOW)
    return usable, fault


def _http_request(chunks: Sequence[bytes]) -> object:
    lines = finished(httpwire.read_head(reader(chunks, httpwire.HEAD_MAX_BYTES)))
    return httpwire.parse(lines) if lines else None


def _http_answer(chunks: Sequence[bytes]) -> object:
    answer = finished(https._answer(reader(chunks, 1 << 16), 5000))
    assert len(answer.body) <= 5000
    return answer


def _proxy(octets: bytes) -> object:
    found = proxy.parse(octets)
    if found is None:
        assert len(octets) < max(proxy.LINE_MAX, 16 + proxy.BLOCK_MAX)
        return None
    assert octets.endswith(found.rest)
    head = octets[: len(octets) - len(found.rest)]
    for size in range(1, min(len(head), 40)):  # it is not known too early
        assert proxy.parse(head[:size]) is None
    return found


KEYS = scram.derive("pencil", b"salt", 4096)


def _scram_server(octets: bytes) -> object:
    words = readable(octets)
    talk = scram.Server(
        lambda _name: scram.Challenge(b"salt", 4096, (("", KEYS),)), "n", plus=False, plus_offered=True, bindings={}
    )
    first, _, final = words.partition("\n")
    answer = talk.first(first)
    talk.final(final)
    raise AssertionError(f"nobody knows the password: {answer}")


def _srs(octets: bytes) -> object:
    srs = Srs(b"k" * 32, lambda: NOW)
    return srs.reverse(text(octets))


RSA_1024 = fuzz_dkim.RECORD.encode()
ED_RECORD = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(b"\1" * 32)
SPF = (
    b"v=spf1 a mx:b.test/24//64 ip4:192.0.2.0/24 ip6:2001:db8::/32 include:_spf.%{d} exists:%{ir}.%{l1r+}.b.test "
    b"?ptr ~all redirect=c.test exp=e.%{d2}",
    b"v=spf1 include:b.test redirect=%{d}",
    b"v=spf1 mx -all",
)
DMARC = (b"v=DMARC1; p=reject; sp=none; np=quarantine; t=y; psd=n; adkim=s; rua=mailto:a@b.test!10m,https://c.test/",)
SIGNATURE = fuzz_dkim.SIGNED.partition(b":")[2].partition(b"\r\nFrom")[0]
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx.b.test\r\nmx: *.b.test\r\nmax_age: 604800\r\n"
GET = b"GET /metrics?x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Length: 0\r\n\r\n"
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.0 404 no\r\n\r\nrest",
)
V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nEHLO x\r\n", b"PROXY UNKNOWN\r\n",
    V2 + b"\x21\x11\0\x0c" + b"\1" * 12 + b"E",
    V2 + b"\x21\x21\0\x24" + b"\2" * 36, V2 + b"\x20\0\0\0",
)  # fmt: skip
HTTP_ERRORS = (https.HttpsError, EOFError, asyncio.LimitOverrunError)  # all but the first become the first

PARSERS = (
    Parser(
        "spf-record",
        _spf,
        (spf_record.BadRecord,),
        SPF,
        ((b"v=spf1 ", b""), (b"v=spf1 a:", b".b.test"), (b"v=spf1 exists:%{", b"}"), (b"v=spf1 a:%{d", b"}")),
    ),
    Parser("spf-check", _spf_check, (), SPF, ((b"v=spf1 ", b""), (b"v=spf1 include:", b".b.test")), limit=1 << 16),
    Parser("spf-macro", _macros, (), (b"%{i} is not %{o4r.-} of %{C}%_%-%%", b"%{l}"), ((b"%{", b"}"), (b"", b"%{l}"))),
    Parser("dmarc-record", _dmarc, (), DMARC, ((b"v=DMARC1;", b""), (b"v=DMARC1; rua=", b""))),
    Parser("dkim-signature", _dkim_signature, (), (SIGNATURE,), ((b"", b""), (b"v=1; h=", b""), (b"v=1; b=", b""))),
    Parser("dkim-mail", _dkim_mail, (), (fuzz_dkim.SIGNED,), ((fuzz_dkim.SIGNED, b""), (b"", fuzz_dkim.SIGNED))),
    Parser("dkim-key", _dkim_key, (), (RSA_1024, ED_RECORD), ((b"v=DKIM1; p=", b""), (b"", b""), (b"h=", b"; p="))),
    Parser("dkim-relaxed", whole(_relaxed), (), (b"a \t b \r\n\r\n \r\n", b"\r\r\n"), pieces=_relaxed),
    Parser("dkim-relaxed-field", _relaxed_field, (), (b"A : b\r\n\tc  \r\n",), ((b"a:", b""),)),
    Parser(
        "mta-sts-policy",
        _sts_policy,
        (mta_sts.Malformed,),
        (POLICY,),
        ((POLICY, b""), (b"version: STSv1\r\nmx: ", b"")),
    ),
    Parser(
        "mta-sts-record",
        _sts_record,
        (mta_sts.Malformed,),
        (b"v=STSv1; id=20261125T0; x=y;",),
        ((b"v=STSv1;", b""), (b"v=STSv1; id=", b"")),
    ),
    Parser(
        "tlsrpt-record",
        _tlsrpt,
        (),
        (b"v=TLSRPTv1; rua=mailto:a@b.test,https://c.test/x",),
        ((b"v=TLSRPTv1;", b""), (b"v=TLSRPTv1; rua=", b"")),
    ),
    Parser("tlsa", _tlsa, (), (b"\3\1\1" + b"x" * 32, b"\2\0\0" + fuzz_dkim.CERTIFICATE), ((b"\3\1\0", b""),)),
    Parser(
        "http-request",
        whole(_http_request),
        (httpwire.Refused,),
        (GET, b"HEAD http://a/b HTTP/1.0\r\n\r\n"),
        ((b"GET /", b" HTTP/1.1\r\n\r\n"), (b"GET / HTTP/1.1\r\n", b"\r\n\r\n"), (b"", GET)),
        pieces=_http_request,
    ),
    Parser(
        "http-answer",
        whole(_http_answer),
        HTTP_ERRORS,
        ANSWERS,
        ((b"HTTP/1.1 200 OK\r\n", b"\r\n\r\n"), (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"")),
        pieces=_http_answer,
    ),
    Parser("proxy", _proxy, (proxy.Malformed,), PROXY, ((b"PROXY ", b"\r\n"), (V2, b""))),
    Parser(
        "scram-server",
        _scram_server,
        (scram.ScramSyntax, scram.ScramWrong),
        (b"n,,n=user,r=abc\nc=biws,r=abcn,p=AAAA", b"y,a=u,n=u,r=x\nc=,r=xn,p="),
        ((b"n,,n=", b",r=a\n"), (b"n,,n=a,r=a\n", b"")),
    ),
    Parser("srs", _srs, (NotOurs,), (b"SRS0=abcd=aa=b.test=u", b"SRS1=abcd=c.test==aa=b.test=u")),
)
