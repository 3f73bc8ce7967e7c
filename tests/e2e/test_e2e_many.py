"""What sendmail took while nobody was there does not stop at the limits that strangers have."""

from peer_mtad import Make
from peer_process import wait_for

MAIL = b"Subject: many\n\ntext\n"


def words(count: int) -> list[str]:
    return [f"user{n}@remote.test" for n in range(count)]


def test_a_maildrop_file_with_more_recipients_than_a_stranger_may_name(mtad: Make) -> None:
    host = mtad(delivery='[[delivery.route]]\nmatch = "remote.test"\nto = "discard:"\n')
    (host.root / "data" / "maildrop").mkdir(parents=True)
    host.sendmail(*words(2500), mail=MAIL)
    host.start()
    wait_for("all are delivered", lambda: host.log.count("status=sent") == 2500)
    host.empty()
    assert [path for path in (host.root / "data" / "maildrop").rglob("*") if path.is_file()] == []


def test_more_than_one_mail_takes_is_usage_and_nothing_is_stored(mtad: Make) -> None:
    host = mtad()
    (host.root / "data" / "maildrop").mkdir(parents=True)
    host.sendmail(*words(10_001), mail=MAIL, code=64)
    assert list((host.root / "data" / "maildrop").iterdir()) == []
