"""What is counted, who wants to read it, and the report (RFC 8460)."""

import email
import email.policy
import gzip
import json
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.tls import tlsrpt
from mtad.tls.tlsrpt import Counted, Fault, Policy, Tally

STS = Policy("d.example", "sts", ("version: STSv1", "mode: enforce", "mx: *.d.example", "max_age: 9"), ("*.d.example",))
PLAIN = Policy("d.example")
EXPIRED = Fault("certificate-expired", "expired", "private cause")
DAY = 20_000  # 2024-10-04


def tally() -> Tally:
    made = Tally()
    for _ in range(3):
        made.add(DAY, STS, "mx.d.example", "192.0.2.1", "198.51.100.1", None)
    for _ in range(2):
        made.add(DAY, STS, "mx.d.example", "192.0.2.1", "198.51.100.1", EXPIRED)
    made.add(DAY, PLAIN, "mx2.d.example", "192.0.2.1", "198.51.100.2", Fault("starttls-not-supported", "none"))
    return made


def test_what_is_alike_is_one_count():
    made = tally()
    counted = made.take()
    assert [(one.result, one.count) for one in counted] == [
        ("", 3),
        ("certificate-expired", 2),
        ("starttls-not-supported", 1),
    ]
    assert made.take() == []
    made.put_back(counted)
    made.add(DAY, STS, "mx.d.example", "192.0.2.1", "198.51.100.1", None)
    assert made.take()[0].count == 4


def test_memory_is_bounded():
    made = Tally(10)
    for number in range(100):
        made.add(DAY, Policy(f"d{number}.example"), "mx", "", "", None)
    made.add(DAY, Policy("d3.example"), "mx", "", "", None)
    counted = made.take()
    assert len(counted) == 10
    assert counted[3].count == 2


@pytest.mark.parametrize(
    ("records", "targets"),
    [
        ([], ()),
        ([b"v=TLSRPTv1; rua=mailto:tls@d.example"], ("mailto:tls@d.example",)),
        ([b"v=TLSRPTv1;rua=mailto:a@d.example,https://d.example/r;"], ("mailto:a@d.example", "https://d.example/r")),
        ([b"v=spf1 -all", b"v=TLSRPTv1; ext=1; rua = mailto:a@d.example , x:y"], ("mailto:a@d.example",)),
        ([b"v=TLSRPTv1; rua=mailto:a@d.example", b"v=TLSRPTv1; rua=mailto:b@d.example"], ()),
        ([b"v=TLSRPTv2; rua=mailto:a@d.example"], ()),
        ([b"v=TLSRPTv1"], ()),
        ([b"v=TLSRPTv1; rua=http://d.example/"], ()),
        ([b"v=TLSRPTv1; rua=mailto:a\r\nb@d.example"], ()),
        ([b"v=TLSRPTv1; rua=mailto:\xff"], ()),
        ([b"v=TLSRPTv1; rua=" + b",".join(b"mailto:a%d@d.example" % n for n in range(9))],
         tuple(f"mailto:a{n}@d.example" for n in range(5))),
    ],
)  # fmt: skip
def test_who_wants_reports(records, targets):
    assert tlsrpt.report_targets(records) == targets


@given(st.lists(st.binary(max_size=100) | st.binary(max_size=100).map(lambda tail: b"v=TLSRPTv1;" + tail), max_size=3))
def test_any_record_is_understood_or_not(records):
    assert all(target.isascii() for target in tlsrpt.report_targets(records))


def test_the_report_says_what_was_counted():
    counted = tally().take()
    made = tlsrpt.report("d.example", DAY, counted, "mail.own.test", "postmaster@own.test")
    assert made.file == "mail.own.test!d.example!1728000000!1728086399!2024-10-04.d.example.json.gz"
    body = json.loads(gzip.decompress(made.octets))
    assert body["organization-name"] == "mail.own.test"
    assert body["contact-info"] == "postmaster@own.test"
    assert body["date-range"] == {
        "start-datetime": "2024-10-04T00:00:00Z",
        "end-datetime": "2024-10-04T23:59:59Z",
    }
    sts, plain = body["policies"]
    assert sts["policy"] == {
        "policy-type": "sts",
        "policy-string": list(STS.lines),
        "policy-domain": "d.example",
        "mx-host": ["*.d.example"],
    }
    assert sts["summary"] == {"total-successful-session-count": 3, "total-failure-session-count": 2}
    assert sts["failure-details"] == [
        {
            "result-type": "certificate-expired",
            "sending-mta-ip": "192.0.2.1",
            "receiving-mx-hostname": "mx.d.example",
            "receiving-ip": "198.51.100.1",
            "failed-session-count": 2,
            "failure-reason-code": "expired",
        }
    ]
    assert plain["policy"] == {"policy-type": "no-policy-found", "policy-domain": "d.example"}
    assert "private cause" not in str(body)
    assert tlsrpt.report("d.example", DAY, counted, "mail.own.test", "postmaster@own.test") == made


def test_the_report_as_a_mail():
    made = tlsrpt.report("d.example", DAY, tally().take(), "mail.own.test", "postmaster@own.test")
    head, body = tlsrpt.mail(made, ["tls@d.example"], made.contact, "Sat, 05 Oct 2024 01:00:00 +0000")
    parsed = email.message_from_bytes(head + body, policy=email.policy.default)
    assert not parsed.defects
    assert (parsed.get_content_type(), parsed.get_param("report-type")) == ("multipart/report", "tlsrpt")
    assert parsed["Subject"] == "Report Domain: d.example Submitter: mail.own.test Report-ID: <" + made.id + ">"
    assert (parsed["TLS-Report-Domain"], parsed["TLS-Report-Submitter"]) == ("d.example", "mail.own.test")
    assert parsed["TLS-Required"] == "No"
    text, attached = parsed.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert attached.get_content_type() == "application/tlsrpt+gzip"
    assert attached.get_filename() == made.file
    assert attached.get_content() == made.octets
    assert max(len(line) for line in (head + body).split(b"\r\n")) <= 998
    assert b"\n" not in (head + body).replace(b"\r\n", b"")


@pytest.mark.parametrize(
    ("code", "result"),
    [(10, "certificate-expired"), (62, "certificate-host-mismatch"), (18, "certificate-not-trusted"),
     (19, "certificate-not-trusted"), (20, "certificate-not-trusted"), (9, "validation-failure")],
)  # fmt: skip
def test_what_openssl_says_and_what_it_means(code, result):
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    assert tlsrpt.fault_of(error).result == result


def test_other_failures_of_a_handshake():
    for error in (ssl.SSLError(), OSError(), TimeoutError(), ValueError()):
        assert tlsrpt.fault_of(error).result == "validation-failure"


def test_a_count_is_plain_data():
    [one] = [one for one in tally().take() if not one.result]
    assert one == Counted(DAY, "d.example", one.policy, "", "", "", "", "", 3)
