"""Who is kept out: values, look-ups, repeaters, and that it lasts."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts import blocks as blocks_module
from mtad.accounts.blocks import GUARD, MEMORY_S, Block, BlockError, Blocks, Networks, canonical

NOW = 1_800_000_000.0


class Memory:
    """A store of blocks."""

    def __init__(self) -> None:
        self.rows: dict[str, Block] = {}

    async def load_blocks(self) -> Sequence[Block]:
        return list(self.rows.values())

    async def save_block(self, block: Block) -> None:
        self.rows[block.value] = block

    async def delete_block(self, value: str) -> bool:
        return self.rows.pop(value, None) is not None


class Bench:
    def __init__(self) -> None:
        self.now = NOW
        self.store = Memory()
        self.blocks = Blocks(self.store, lambda: self.now)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("given_text", "value"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7/32 ", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("Spam@Bad.Example", "Spam@bad.example"),
        ("@Bad.Example.", "@bad.example"),
        ("@bücher.example", "@xn--bcher-kva.example"),
    ],
)
def test_values(given_text: str, value: str) -> None:
    assert canonical(given_text) == value
    assert canonical(value) == value


@pytest.mark.parametrize(
    "bad", ["", "@", "alice", "bad.example", "300.1.1.1", "1.2.3.4/33", "a b@c.test", "@a b", "<a@b>"]
)
def test_nothing_to_block(bad: str) -> None:
    with pytest.raises(BlockError):
        canonical(bad)


NETWORK = st.one_of(
    st.builds(lambda n, p: ip_network((n >> (32 - p) << (32 - p), p)), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(
        lambda n, p: ip_network((n >> (128 - p) << (128 - p), p)), st.integers(2**32, 2**128 - 1), st.integers(0, 128)
    ),
)


@given(
    networks=st.lists(NETWORK, max_size=12, unique=True), ip=st.one_of(st.ip_addresses(), NETWORK.map(lambda n: n[0]))
)
def test_an_address_is_found_as_by_looking_at_all(networks: list, ip: object) -> None:
    table = Networks()
    for network in networks:
        table.put(Block(str(network)))
    address = ip_address(str(ip))
    address = getattr(address, "ipv4_mapped", None) or address
    covering = [network for network in networks if network.version == address.version and address in network]
    found = table.find(str(ip), NOW)
    if not covering:
        assert found is None
    else:
        assert found is not None
        assert found.value == str(max(covering, key=lambda network: network.prefixlen))
    for network in networks:
        table.pop(str(network))
    assert table.find(str(ip), NOW) is None
    assert not table._tables


async def test_an_operators_block_comes_before_ours(bench: Bench) -> None:
    bench.blocks.punish("192.0.2.7", "errors", 900, 86400)
    await bench.blocks.add(Block("192.0.2.0/24", made_by="uid=0"))
    found = bench.blocks.of_ip("::ffff:192.0.2.7")
    assert found is not None
    assert found.made_by == "uid=0"


@pytest.mark.parametrize(
    ("value", "address", "blocked"),
    [
        ("spam@bad.example", "spam@bad.example", True),
        ("spam@bad.example", "SPAM@Bad.Example", True),
        ("Spam@bad.example", "spam@bad.example", True),
        ("spam@bad.example", "ham@bad.example", False),
        ("@bad.example", "any@bad.example", True),
        ("@bad.example", "any@sub.bad.example", False),
        ("@xn--bcher-kva.example", "x@bücher.example", True),
        ("@bad.example", "", False),
        ("@bad.example", "postmaster", False),
    ],
)
async def test_addresses_and_domains(bench: Bench, value: str, address: str, blocked: bool) -> None:
    await bench.blocks.add(Block(value))
    assert (bench.blocks.of_address(address) is not None) is blocked


async def test_it_ends_by_itself_and_is_forgotten(bench: Bench) -> None:
    await bench.blocks.add(Block("192.0.2.7", until_at=NOW + 60))
    await bench.blocks.add(Block("@bad.example"))
    bench.now += 59
    assert bench.blocks.of_ip("192.0.2.7") is not None
    bench.now += 1
    assert bench.blocks.of_ip("192.0.2.7") is None
    assert [block.value for block in bench.blocks.list()] == ["@bad.example"]
    assert await bench.blocks.sweep() == 1
    assert set(bench.store.rows) == {"@bad.example"}


async def test_it_outlives_the_process(bench: Bench) -> None:
    await bench.blocks.add(Block("2001:db8::/32", "why", "uid=0", NOW))
    await bench.blocks.record(*bench.blocks.punish("192.0.2.7", "errors", 900, 86400))
    again = Blocks(bench.store, lambda: NOW)
    await again.load()
    assert again.list() == bench.blocks.list()
    assert again.of_ip("2001:db8::9") is not None
    assert again.of_ip("192.0.2.7") is not None


async def test_repeaters_stay_out_twice_as_long(bench: Bench) -> None:
    lengths = []
    for _ in range(9):
        block, _ = bench.blocks.punish("192.0.2.7", "errors", 900, 7200)
        lengths.append(block.until_at - bench.now)
        bench.now = block.until_at + 10
    assert lengths == [900, 1800, 3600, 7200, 7200, 7200, 7200, 7200, 7200]
    await bench.blocks.sweep()
    assert bench.blocks.get("192.0.2.7") is not None  # remembered
    bench.now += MEMORY_S
    await bench.blocks.sweep()
    assert bench.blocks.punish("192.0.2.7", "errors", 900, 7200)[0].times == 1


async def test_a_removed_block_is_gone_everywhere(bench: Bench) -> None:
    told: list[str] = []
    bench.blocks.lifted = told.append
    pending = bench.blocks.punish("192.0.2.7", "errors", 900, 7200)
    assert await bench.blocks.remove("192.0.2.7") is not None
    await bench.blocks.record(*pending)  # which was on its way
    assert bench.blocks.of_ip("192.0.2.7") is None
    assert bench.store.rows == {}
    assert told == ["192.0.2.7"]
    assert await bench.blocks.remove("192.0.2.7") is None


async def test_our_own_blocks_have_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "BLOCKS_MAX", 3)
    await bench.blocks.add(Block("@bad.example"))
    for number in range(6):
        bench.now += 1
        await bench.blocks.record(*bench.blocks.punish(f"192.0.2.{number}", "errors", 900, 7200))
    assert [block.value for block in bench.blocks.list()] == ["192.0.2.3", "192.0.2.4", "192.0.2.5", "@bad.example"]
    assert set(bench.store.rows) == {block.value for block in bench.blocks.list()}


async def test_the_version_grows_with_each_block(bench: Bench) -> None:
    seen = [bench.blocks.version]
    await bench.blocks.add(Block("@bad.example"))
    seen.append(bench.blocks.version)
    bench.blocks.punish("192.0.2.7", "errors", 900, 7200)
    seen.append(bench.blocks.version)
    assert seen == sorted(set(seen))
    assert bench.blocks.list()[0].made_by == GUARD
