"""Two hosts that forward to each other: a mail goes round for a while, and then its sender hears of it, once."""

from peer_mtad import Make, Mtad

MAIL = b"Subject: round and round\n\ntext\n"


def _host(mtad: Make, name: str, other: str) -> Mtad:
    root_aliases = 'aliases = ["aliases"]\n'
    host = mtad(name, hostname=f"mail.{name}.test", domain=f"{name}.test", listeners=("smtp",), extra=root_aliases)
    (host.root / "aliases").write_text(f"x: x@{other}.test\n")
    return host


def test_row_28_two_hosts_that_forward_to_each_other(mtad: Make) -> None:
    a, b = _host(mtad, "a", "b"), _host(mtad, "b", "a")
    for host, other, domain in ((a, b, "b.test"), (b, a, "a.test")):
        with (host.root / "mtad.toml").open("a") as file:
            file.write(f'[[delivery.route]]\nmatch = "{domain}"\nto = "smtp://127.0.0.1:{other.ports["smtp"]}"\n')
        host.start()
    a.sendmail("-f", "postmaster@a.test", "x@a.test", mail=MAIL)
    [report] = a.mails("postmaster")
    assert b"5.4.6" in report
    assert b"Too many hops" in report
    a.empty()
    b.empty()
    assert len(list((a.root / "mail" / "postmaster" / "new").iterdir())) == 1
    copies = (a.log + b.log).count("status=sent")
    assert 20 < copies < 60
    # Each host wrote a sender of its own, and the report found its way back through both.
    assert "from=<SRS0=" in a.log + b.log
    assert "from=<SRS1=" in a.log + b.log
