"""Signing beside the event loop."""

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from mtad.dkim.keys import SigningKey
from mtad.dkim.sign import sign_all
from mtad.dkim.signer import PART_MAX, Signer

KEY = SigningKey("example.test", "s1", "ed25519", 256, "", ed25519.Ed25519PrivateKey.generate(), b"ed25519-sha256")
BODY_HASH = bytes(32)


def head(number: int) -> bytes:
    return b"From: a@example.test\r\nSubject: %d\r\n\r\n" % number


async def test_each_mail_gets_its_own_signature() -> None:
    signer = Signer(threads=2)
    count = 5 * PART_MAX + 1  # Ed25519 signs the same octets the same way
    signed = await asyncio.gather(*(signer.sign_all((KEY,), head(n), BODY_HASH, n) for n in range(count)))
    assert signed == [sign_all((KEY,), head(n), BODY_HASH, n) for n in range(count)]
    signer.close()


async def test_an_error_reaches_only_its_own_caller() -> None:
    signer = Signer(threads=1)
    broken = SigningKey("example.test", "s1", "ed25519", 256, "", None, b"ed25519-sha256")  # type: ignore[arg-type]
    first, second, third = await asyncio.gather(
        signer.sign_all((KEY,), head(1), BODY_HASH, 1),
        signer.sign_all((broken,), head(2), BODY_HASH, 2),
        signer.sign_all((KEY,), head(3), BODY_HASH, 3),
        return_exceptions=True,
    )
    assert isinstance(second, AttributeError)
    assert (first, third) == tuple(sign_all((KEY,), head(n), BODY_HASH, n) for n in (1, 3))
    signer.close()


async def test_who_is_gone_takes_nobody_along() -> None:
    signer = Signer(threads=1)
    tasks = [asyncio.create_task(signer.sign_all((KEY,), head(n), BODY_HASH, n)) for n in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert await tasks[2] == sign_all((KEY,), head(2), BODY_HASH, 2)
    signer.close()
