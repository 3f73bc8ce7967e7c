"""What the guard makes of a client's deeds, and the dialogue of it."""

from dataclasses import replace
from typing import Any

import pytest
from inbound_house import PASSWORD, House, say

from mtad.accounts.blocks import GUARD, Block
from mtad.config import Access, Limits, Rate
from mtad.inbound.conversation import Conversation
from mtad.inbound.guard import Guard
from mtad.inbound.host import Host
from mtad.mail.envelope import Peer

STRANGER = Peer("smtp", ip="192.0.2.9", port=4242)
TRUSTED = Peer("smtp", ip="10.1.2.3", port=4242)
LOCAL = Peer("local", uid=1000)
CLIENT = Peer("submission", ip="192.0.2.9", port=4242, tls="x")
USER = replace(CLIENT, user="alice@example.test")
ELSEWHERE = replace(CLIENT, ip="198.51.100.1")
RATES = ("connection", "message", "recipient", "error", "auth_failure", "user_auth_failure")


def guard_of(house: House, **limits: Any) -> Guard:
    """With a clock that stands still."""
    house.now = house.now or 1_800_000_000.0
    return house.make_guard(replace(house.config, limits=replace(Limits(delay_max_s=0.0), **limits)))


def talk(house: House, guard: Guard, peer: Peer = STRANGER) -> Conversation:
    config = house.config
    acceptor = house.make_acceptor(config)
    host = Host(config, acceptor, house.directory, house.users, house.events, guard, tls=True)
    return Conversation(peer, host)


@pytest.mark.parametrize(
    ("block", "peer", "code"),
    [
        (Block("192.0.2.9"), STRANGER, 554),
        (Block("192.0.2.0/24"), CLIENT, 554),
        (Block("192.0.2.9"), USER, 554),
        (Block("10.0.0.0/8"), TRUSTED, 554),
        (Block("0.0.0.0/0"), LOCAL, 0),
        (Block("192.0.2.9", until_at=2e9), STRANGER, 421),
        (Block("192.0.2.9", made_by=GUARD, until_at=2e9), STRANGER, 421),
        (Block("192.0.2.9", made_by=GUARD, until_at=2e9), CLIENT, 421),
        (Block("192.0.2.9", made_by=GUARD, until_at=2e9), USER, 0),
        (Block("10.0.0.0/8", made_by=GUARD, until_at=2e9), TRUSTED, 0),
        (Block("192.0.2.9", until_at=1e9), STRANGER, 0),
        (Block("alice@example.test"), USER, 421),
        (Block("@example.test"), USER, 421),
        (Block("@example.test"), CLIENT, 0),
        (Block("198.51.100.1"), STRANGER, 0),
    ],
)
async def test_who_is_kept_out(house: House, block: Block, peer: Peer, code: int) -> None:
    guard = guard_of(house)
    await house.blocks.add(block)
    refusal = guard.connect(peer)
    assert (refusal.code if refusal is not None else 0) == code
    if refusal is not None:
        assert refusal.status == ("5.7.1" if code == 554 else "4.7.0")


@pytest.mark.parametrize(
    ("peer", "sender", "status"),
    [
        (STRANGER, "spam@bad.example", "5.7.1"),
        (STRANGER, "spam@worse.example", "5.7.1"),
        (STRANGER, "ham@bad.example", ""),
        (STRANGER, "", ""),
        (TRUSTED, "spam@bad.example", "5.7.1"),
        (LOCAL, "spam@bad.example", ""),
    ],
)
async def test_blocked_senders(house: House, peer: Peer, sender: str, status: str) -> None:
    guard = guard_of(house)
    await house.blocks.add(Block("spam@bad.example"))
    await house.blocks.add(Block("@worse.example"))
    said = await say(talk(house, guard, peer), "EHLO x", f"MAIL FROM:<{sender}>")
    assert said[1] == (f"550 {status}" if status else "250 2.1.0")


async def test_a_blocked_users_password_is_wrong(house: House) -> None:
    guard = guard_of(house)
    await house.blocks.add(Block("alice@example.test"))
    sent = ("EHLO x", f"AUTH PLAIN {plain('alice@example.test')}", f"AUTH PLAIN {plain('bob@example.test')}")
    assert await say(talk(house, guard, CLIENT), *sent) == ["250", "535 5.7.8", "235 2.7.0"]
    assert any("authentication failed" in line and "alice@example.test" in line for line in house.log)


def plain(user: str, password: str = PASSWORD) -> str:
    from base64 import b64encode

    return b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.mark.parametrize("block", ["192.0.2.9", "alice@example.test"])
async def test_a_new_block_ends_open_sessions_at_their_next_command(house: House, block: str) -> None:
    guard = guard_of(house)
    open_one = talk(house, guard, CLIENT)
    assert (await say(open_one, "EHLO x", f"AUTH PLAIN {plain('alice')}"))[1] == "235 2.7.0"
    await house.blocks.add(Block("@elsewhere.example"))
    assert await say(open_one, "NOOP") == ["250 2.0.0"]
    await house.blocks.add(Block(block))
    assert await say(open_one, "NOOP", "NOOP") == ["421 4.7.0"]
    assert open_one.closing


async def test_the_rate_of_connections(house: House) -> None:
    guard = guard_of(house, connection_rate=Rate(2, 60.0))
    for peer, outcomes in (
        (STRANGER, [0, 0, 421, 421]),
        (TRUSTED, [0] * 4),
        (LOCAL, [0] * 4),
        (ELSEWHERE, [0, 0, 421]),
    ):
        said = [guard.connect(peer) for _ in outcomes]
        assert [reply.code if reply else 0 for reply in said] == outcomes
    house.now += 120
    assert guard.connect(STRANGER) is None


@pytest.mark.parametrize(
    ("peer", "limited"),
    [(STRANGER, True), (TRUSTED, False), (LOCAL, False), (USER, False)],
    ids=lambda one: str(one)[:30],
)
async def test_mails_and_recipients_of_a_client(house: House, peer: Peer, limited: bool) -> None:
    guard = guard_of(house, message_rate=Rate(2, 60.0), recipient_rate=Rate(3, 60.0))
    one = talk(house, guard, peer)
    mail = ["MAIL FROM:<alice@example.test>", "RSET"]
    said = await say(one, "EHLO x", *mail * 3)
    assert said[5] == ("450 4.7.1" if limited else "250 2.1.0")
    house.now += 120
    said = await say(one, "MAIL FROM:<alice@example.test>", *["RCPT TO:<bob@example.test>"] * 4)
    assert said[4] == ("450 4.7.1" if limited else "250 2.1.5")
    assert guard.blocked(peer) is None


async def test_mails_and_recipients_of_a_user_wherever_it_is(house: House) -> None:
    guard = guard_of(house, user_message_rate=Rate(2, 60.0), user_recipient_rate=Rate(1, 60.0))
    for peer, last in ((USER, "250 2.1.0"), (replace(USER, ip="198.51.100.1"), "250 2.1.0"), (USER, "450 4.7.1")):
        assert (await say(talk(house, guard, peer), "EHLO x", "MAIL FROM:<alice@example.test>"))[1] == last
    assert guard.recipient(USER, USER.user) is None
    assert guard.recipient(USER, USER.user) is not None


async def test_mails_of_a_domain(house: House) -> None:
    guard = guard_of(house, domain_message_rate=Rate(2, 60.0))
    for peer, sender, refused in (
        (STRANGER, "a@far.test", False), (USER, "b@far.test", False), (ELSEWHERE, "c@FAR.test", True),
        (ELSEWHERE, "c@near.test", False), (ELSEWHERE, "", False), (TRUSTED, "c@far.test", False),
    ):  # fmt: skip
        assert (guard.message(peer, sender) is not None) is refused


@pytest.mark.parametrize(
    ("peer", "blocked"), [(STRANGER, True), (CLIENT, True), (TRUSTED, False), (LOCAL, False), (USER, False)]
)
async def test_errors_lead_to_a_block(house: House, peer: Peer, blocked: bool) -> None:
    guard = guard_of(house, error_rate=Rate(30, 600.0))
    for _ in range(3):
        await say(talk(house, guard, peer), *["WHAT"] * 10)
    await guard.drain()
    assert (guard.connect(peer) is not None) is blocked
    stored = list(await house.store.load_blocks())
    assert [(block.value, block.reason, block.made_by) for block in stored] == (
        [("192.0.2.9", "30/10m errors", GUARD)] if blocked else []
    )
    assert any(line.startswith("blocked client=192.0.2.9, for=900s") for line in house.log) is blocked


async def test_networks_that_limit_themselves(house: House) -> None:
    guard = guard_of(house, exempt=("192.0.2.0/24",), auth_failure_rate=Rate(2, 600.0), delay_max_s=20.0)
    for _ in range(9):
        guard.auth_failed(CLIENT, "alice")
    assert guard.connect(CLIENT) is None
    assert guard.delay_s(CLIENT) == 0


async def test_failed_sign_ins_lead_to_a_block_of_the_64(house: House) -> None:
    guard = guard_of(house, auth_failure_rate=Rate(3, 600.0))
    for host in range(3):
        guard.auth_failed(replace(CLIENT, ip=f"2001:db8::{host}"), "alice")
    await guard.drain()
    assert [block.value for block in house.blocks.list()] == ["2001:db8::/64"]
    assert guard.connect(replace(CLIENT, ip="2001:db8::abcd")) is not None
    assert guard.connect(replace(CLIENT, ip="2001:db8:0:1::1")) is None
    house.now += 3601
    assert guard.connect(replace(CLIENT, ip="2001:db8::abcd")) is None


async def test_a_lifted_block_forgets_what_led_to_it(house: House) -> None:
    guard = guard_of(house, auth_failure_rate=Rate(3, 600.0), delay_max_s=20.0)
    for _ in range(5):
        guard.auth_failed(CLIENT, "alice")
    await guard.drain()
    await house.blocks.remove("192.0.2.9")
    assert guard.connect(CLIENT) is None
    assert guard.delay_s(CLIENT) == 0


async def test_guesses_from_everywhere_leave_the_user_where_it_was(house: House) -> None:
    guard = guard_of(house, user_auth_failure_rate=Rate(5, 600.0))
    guard.auth_ok(CLIENT, "alice@example.test")
    for number in range(5):
        assert guard.may_sign_in(ELSEWHERE, "alice")
        guard.auth_failed(replace(CLIENT, ip=f"203.0.113.{number}"), "Alice@example.test")
    assert not guard.may_sign_in(ELSEWHERE, "alice")
    assert guard.may_sign_in(CLIENT, "alice")
    assert guard.may_sign_in(ELSEWHERE, "bob")
    assert await say(talk(house, guard, ELSEWHERE), "EHLO x", f"AUTH PLAIN {plain('alice')}") == ["250", "535 5.7.8"]
    assert await say(talk(house, guard, CLIENT), "EHLO x", f"AUTH PLAIN {plain('alice')}") == ["250", "235 2.7.0"]


async def test_answers_to_failed_sign_ins_get_slower(house: House) -> None:
    guard = guard_of(house, delay_max_s=20.0)
    waits = []
    for _ in range(7):
        guard.auth_failed(CLIENT, "alice")
        waits.append(guard.delay_s(CLIENT))
    assert waits == [1, 2, 4, 8, 16, 20, 20]
    assert guard.delay_s(ELSEWHERE) == 0
    house.now += 1000
    assert guard.delay_s(CLIENT) == 0


class Waits:
    """A guard that notes the pauses and does not take them."""

    def __init__(self, guard: Guard) -> None:
        self.seconds: list[float] = []
        guard.pause = self.pause  # type: ignore[method-assign]

    async def pause(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def test_the_dialogue_waits_before_it_answers(house: House) -> None:
    guard = guard_of(house, delay_max_s=20.0)
    waits = Waits(guard)
    wrong = f"AUTH PLAIN {plain('alice', 'wrong')}"
    one = talk(house, guard, CLIENT)
    said = await say(one, "EHLO x", wrong, wrong, "NOOP", wrong, "NOOP")
    assert said == ["250", "535 5.7.8", "535 5.7.8", "250 2.0.0", "421 4.7.0"]
    assert waits.seconds == [1, 2, 4]
    house.now += 1000
    waits.seconds.clear()
    other = talk(house, guard)
    said = await say(other, *["WHAT"] * 14, "NOOP")
    assert said == ["500 5.5.2"] * 14 + ["250 2.0.0"]
    assert waits.seconds == [1, 2, 4, 8]


async def test_what_came_meanwhile_is_answered_in_order(house: House) -> None:
    guard = guard_of(house, delay_max_s=20.0)
    Waits(guard)
    one = talk(house, guard)
    replies = await one.feed(b"WHAT\r\n" * 12 + b"NOOP\r\nEHLO x\r\nMAIL FROM:<a@far.test>\r\nQUIT\r\n")
    codes = [line[:3] for line in replies.splitlines() if line[3:4] == b" "]
    assert codes == [b"500"] * 12 + [b"250"] * 3 + [b"221"]


async def test_nobody_waits_for_a_daemon_that_stops(house: House) -> None:
    guard = guard_of(house, delay_max_s=20.0)
    guard.stop()
    await guard.pause(1e6)


async def test_the_store_in_trouble_leaves_the_block_in_force(house: House) -> None:
    from mtad.queue.store import StoreError

    async def fails(block: Block) -> None:
        raise StoreError("disk")

    guard = guard_of(house, error_rate=Rate(1, 600.0))
    house.blocks._store = replace_save(house.store, fails)
    guard.error(STRANGER)
    await guard.drain()
    assert guard.connect(STRANGER) is not None
    assert any("error: store: the block of 192.0.2.9" in line for line in house.log)


def replace_save(store: Any, save: Any) -> Any:
    class Broken:
        load_blocks = store.load_blocks
        delete_block = store.delete_block
        save_block = staticmethod(save)

    return Broken()


async def test_other_settings_keep_the_counts(house: House) -> None:
    guard = guard_of(house, message_rate=Rate(1, 60.0))
    assert guard.message(STRANGER, "a@far.test") is None
    config = replace(house.config, limits=Limits(message_rate=Rate(1, 60.0)), access=Access(("192.0.2.0/24",)))
    guard.reload(replace(config, access=Access(trusted_networks=())))
    assert guard.message(STRANGER, "a@far.test") is not None
    guard.reload(config)
    assert guard.message(STRANGER, "a@far.test") is None


async def test_usage_says_what_counts(house: House) -> None:
    guard = guard_of(house, delay_max_s=20.0)
    guard.connect(STRANGER)
    guard.auth_failed(CLIENT, "alice")
    guard.auth_failed(CLIENT, "alice")
    guard.message(USER, "alice@example.test")
    by_client = {usage.what: (usage.count, usage.limit, usage.setting) for usage in guard.usage("192.0.2.9")}
    assert by_client["connections"] == (1, "1200/1m", "limits.connection_rate")
    assert by_client["auth_failures"] == (2, "20/10m", "limits.auth_failure_rate")
    assert by_client["delay in seconds"] == (2, "20", "limits.delay_max")
    by_user = {(usage.scope, usage.what): usage.count for usage in guard.usage("Alice@example.test")}
    assert by_user["user", "messages"] == 1
    assert by_user["user", "auth_failures"] == 2
    assert {usage.scope for usage in guard.usage("@example.test")} == {"domain"}
    everything = {(usage.scope, usage.what): usage.count for usage in guard.usage()}
    assert everything["client", "auth_failures"] == 1


def test_the_default_limits_let_honest_servers_work() -> None:
    """A mistake in these numbers costs mail."""
    limits = Limits()
    per_minute = {name: getattr(limits, f"{name}_rate").count * 60 / getattr(limits, f"{name}_rate").window_s
                  for name in RATES}  # fmt: skip
    assert per_minute["message"] >= 60
    assert per_minute["recipient"] >= 600
