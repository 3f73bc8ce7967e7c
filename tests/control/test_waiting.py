"""Why a mail waits, in words, and what to type: every reason once."""

from dataclasses import replace

import pytest

from mtad.control.handlers.waiting import Around, Next, Waiting, next_try, why
from mtad.mail.envelope import Message, Peer, Recipient, State
from mtad.mail.reply import Reply
from mtad.outbound.site import Closed
from mtad.queue.audit import Action, Entry

NOW = 1_800_000_000.0
ID = "3kf9x2m7q0w1"
MAIL = Message(ID, "alice@example.test", 100, NOW - 60, NOW + 86400, Peer("submission", user="alice@example.test"))
TO = Recipient(ID, 1, "bob@b.test", "bob@b.test", "b.test", next_at=NOW - 1)
LATER = replace(TO, next_at=NOW + 240)
SITE = Around(site="mx.b.test", room=2)
SUSPENDED = Closed("suspended", 0.0, Reply(451, "4.3.2", "Mail to this site is suspended: tests", cause="by root(0)"))
BROKEN = Closed("broken", NOW + 60, Reply(451, "4.4.1", "The site does not take mail now; it said last: 421 no"))
WARM = Closed("warm-up", NOW + 90, Reply(451, "4.7.0", "The 50 mails that may go to this site today were sent"))


def did(operation: str, reason: str = "") -> Action:
    return Action(1, State.READY, Entry(0, "root (alice)", operation, "--all", reason, id=7))


FREEZE = did("user.freeze", "stolen")
RULE = did("queue.hold_rule.add")


@pytest.mark.parametrize(
    ("recipient", "actions", "around", "waiting"),
    [
        (replace(TO, state=State.DONE), [], SITE, Waiting()),
        (replace(TO, state=State.FAILED), [], SITE, Waiting()),
        (replace(TO, state=State.TRASHED), [], SITE,
         Waiting("in the trash: nobody gets it", 0.0, f"mtactl queue restore {ID}.1")),
        (replace(TO, state=State.HELD), [did("queue.hold", "look"), did("queue.retry")], SITE,
         Waiting("held by root (alice): look", 0.0, f"mtactl queue release {ID}.1")),
        (replace(TO, state=State.HELD), [RULE], SITE,
         Waiting("held by rule 7 of root (alice)", 0.0, f"mtactl queue release {ID}.1")),
        (replace(TO, state=State.HELD), [RULE, FREEZE], SITE,
         Waiting("the user is frozen by root (alice): stolen", 0.0,
                 f"mtactl queue release {ID}.1")),
        (replace(TO, state=State.HELD, last=Reply(451, "4.3.0", "damaged")), [], SITE,
         Waiting("held by the daemon: damaged", 0.0, f"mtactl queue release {ID}.1")),
        (replace(TO, state=State.LEASED), [], SITE,
         Waiting("being delivered just now", 0.0, f"mtactl trace {ID} --follow")),
        (replace(TO, state=State.LEASED), [], replace(SITE, running=2),
         Waiting("being delivered, or next in line at mx.b.test, which has 2 at work", 0.0,
                 "mtactl site show mx.b.test")),
        (TO, [], replace(SITE, start="systemctl start mtad"),
         Waiting("mtad is not running: nothing is delivered", 0.0, "systemctl start mtad")),
        (LATER, [], replace(SITE, closed=SUSPENDED),
         Waiting("Mail to this site is suspended: tests (by root(0))", 0.0, "mtactl suspend list")),
        (TO, [], replace(SITE, closed=BROKEN), Waiting(BROKEN.reply.text, NOW + 60, "mtactl site reset mx.b.test")),
        (TO, [], Around(closed=WARM), Waiting(WARM.reply.text, NOW + 90, "mtactl site show b.test")),
        (replace(LATER, tries=2), [], SITE,
         Waiting("not yet due after its last try", NOW + 240, f"mtactl queue flush {ID}.1")),
        (LATER, [], SITE, Waiting("not yet due", NOW + 240, f"mtactl queue flush {ID}.1")),
        (LATER, [did("queue.retry")], SITE,
         Waiting("put off by root (alice)", NOW + 240, f"mtactl queue flush {ID}.1")),
        (TO, [], replace(SITE, slot_at=NOW + 9),
         Waiting("the rate of mx.b.test lets no more go now", NOW + 9, "mtactl site show mx.b.test")),
        (TO, [], replace(SITE, running=2),
         Waiting("mx.b.test has no room: 2 at work, as many as may be at the same time", 0.0,
                 "mtactl site show mx.b.test")),
        (TO, [], replace(SITE, busy=50, workers=50),
         Waiting("all 50 workers are busy (delivery.workers)", 0.0, "mtactl top")),
        (TO, [], replace(SITE, workers=50),
         Waiting("due: it is tried in a moment", 0.0, f"mtactl trace {ID} --follow")),
    ],
)  # fmt: skip
def test_every_reason(recipient: Recipient, actions: list[Action], around: Around, waiting: Waiting) -> None:
    assert why(MAIL, recipient, actions, around, NOW) == waiting


def test_a_sender_who_asked_for_it() -> None:
    waiting = why(replace(MAIL, hold_until=NOW + 240), LATER, [], SITE, NOW)
    assert waiting == Waiting("its sender asked for a later delivery", NOW + 240, f"mtactl queue flush {ID}.1")


@pytest.mark.parametrize(
    ("recipient", "closed", "at", "then"),
    [
        (LATER, None, NOW + 240, ""),
        (TO, BROKEN, NOW + 60, "when the site is tried with one mail first"),
        (LATER, BROKEN, NOW + 240, "if its site takes mail then"),
        (TO, WARM, NOW + 90, ""),
        (LATER, SUSPENDED, 0.0, "not before somebody ends that"),
        (replace(TO, state=State.HELD), BROKEN, 0.0, ""),
    ],
)
def test_the_next_try_is_the_later_of_its_own_time_and_the_opening_of_its_site(
    recipient: Recipient, closed: Closed | None, at: float, then: str
) -> None:
    assert next_try(recipient, closed) == Next(at, then)
