"""SHA-crypt: "$5$" (SHA-256) and "$6$" (SHA-512), as crypt(3) of other systems wrote them. To check what was imported.

The algorithm is Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512". Python's own `crypt` ended with 3.12.
"""

import hashlib
import hmac
import re

ROUNDS_DEFAULT = 5000
ROUNDS_MIN = 1000
ROUNDS_MAX = 200_000  # it runs in Python: more would keep a thread busy for seconds
SALT_MAX = 16

_FORM = re.compile(r"\$([56])\$(?:rounds=(\d{1,9})\$)?([^$:\n]{0,64})\$([./0-9A-Za-z]{43}|[./0-9A-Za-z]{86})\Z")
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def known(secret: str) -> bool:
    """Is it of this form, complete, and not too much work?"""
    found = _FORM.fullmatch(secret)
    return (
        found is not None
        and len(found[4]) == (43 if found[1] == "5" else 86)
        and int(found[2] or ROUNDS_DEFAULT) <= ROUNDS_MAX
    )


def verify(password: bytes, secret: str) -> bool:
    """Is this the password? Constant time in the digest."""
    found = _FORM.fullmatch(secret)
    if found is None or not known(secret):
        return False
    rounds = max(ROUNDS_MIN, int(found[2] or ROUNDS_DEFAULT))
    digest = crypt(password, found[3].encode()[:SALT_MAX], rounds, "sha256" if found[1] == "5" else "sha512")
    return hmac.compare_digest(digest, found[4])


def crypt(password: bytes, salt: bytes, rounds: int, name: str) -> str:
    """The digest in crypt's own base64. `name` is "sha256" or "sha512"."""
    size = hashlib.new(name).digest_size
    other = hashlib.new(name, password + salt + password).digest()
    first = password + salt + _stretched(other, len(password))
    length = len(password)
    while length:
        first += other if length & 1 else password
        length >>= 1
    digest = hashlib.new(name, first).digest()
    p = _stretched(hashlib.new(name, password * len(password)).digest(), len(password))
    s = _stretched(hashlib.new(name, salt * (16 + digest[0])).digest(), len(salt))
    new = getattr(hashlib, name)
    for number in range(rounds):
        odd = number & 1
        mix = p if odd else digest
        if number % 3:
            mix += s
        if number % 7:
            mix += p
        digest = new(mix + (digest if odd else p)).digest()
    return _encoded(digest, size)


def _stretched(octets: bytes, length: int) -> bytes:
    return (octets * (length // len(octets) + 1))[:length]


def _encoded(digest: bytes, size: int) -> str:
    """Three octets, one from each third of the digest in turn, make four letters; what is left makes two or three."""
    third = size // 3
    turn = (0, 2, 1) if size == 32 else (0, 1, 2)
    text = ""
    for number in range(third):
        parts = [digest[number], digest[number + third], digest[number + 2 * third]]
        shift = turn[number % 3]
        a, b, c = parts[shift:] + parts[:shift]
        text += _letters(a << 16 | b << 8 | c, 4)
    return text + (_letters(digest[31] << 8 | digest[30], 3) if size == 32 else _letters(digest[63], 2))


def _letters(word: int, count: int) -> str:
    return "".join(_ALPHABET[word >> 6 * place & 63] for place in range(count))
