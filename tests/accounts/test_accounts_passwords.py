import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.accounts import passwords
from mtad.accounts.passwords import Cost, PasswordError, check, hash_password, verify

CHEAP = Cost(ln=4, r=8, p=1)
SALT = b"0123456789abcdef"


def test_the_stored_form() -> None:
    secret = hash_password("geheim12", SALT, CHEAP)
    digest = hashlib.scrypt(b"geheim12", salt=SALT, n=16, r=8, p=1, dklen=32)
    coded = [base64.b64encode(octets).decode().rstrip("=") for octets in (SALT, digest)]
    assert secret == f"$scrypt$ln=4,r=8,p=1${coded[0]}${coded[1]}"
    assert verify("geheim12", secret)
    assert not verify("geheim13", secret)


def test_the_default_cost_works_here() -> None:
    secret = hash_password("correct horse", SALT, Cost())
    assert secret.startswith("$scrypt$ln=15,r=8,p=3$")
    assert verify("correct horse", secret)


def test_composed_and_decomposed_characters_are_one_password() -> None:
    assert verify("pa\u0308sswort", hash_password("p\u00e4sswort", SALT, CHEAP))


@pytest.mark.parametrize("password", ["", "1234567", "line\nbreak", "nul\0inside", "x" * 1025, "\ud800surrogate"])
def test_weak_passwords_are_refused_without_being_told(password: str) -> None:
    with pytest.raises(PasswordError) as caught:
        check(password)
    assert not password or password not in str(caught.value)


def test_eight_characters_suffice() -> None:
    check("12345678")
    check("p\u00e4ssw\u00f6rt \U0001f600")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "geheim12",
        "$2b$12$abcdefghijklmnopqrstuv",
        "$scrypt$ln=30,r=8,p=1$MDEyMw$" + "A" * 43,  # 1 TiB of memory
        "$scrypt$ln=0,r=8,p=1$MDEyMw$" + "A" * 43,
        "$scrypt$ln=4,r=0,p=1$MDEyMw$" + "A" * 43,
        "$scrypt$ln=4,r=8,p=1$M$" + "A" * 43,
        "$scrypt$ln=4,r=8,p=1$MDEyMw$" + "A" * 43 + "\n",
    ],
)
def test_a_foreign_or_damaged_form_is_never_right(secret: str) -> None:
    assert not verify("geheim12", secret)


def test_a_nul_makes_no_password_right() -> None:
    assert not verify("geheim12\0", hash_password("geheim12", SALT, CHEAP))


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@given(password=WORDS, other=WORDS)
def test_only_the_password_itself_is_right(password: str, other: str) -> None:
    import unicodedata

    secret = hash_password(password, SALT, CHEAP)
    assert verify(password, secret)
    assert verify(other, secret) == (unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", password))


@pytest.mark.parametrize("scheme", ["scrypt", "argon2id"])
def test_nobodys_form_is_a_real_one_that_no_password_fits(scheme: str) -> None:
    cost = passwords.Cost(ln=4, r=1, p=1, scheme=scheme, passes=1, memory_kib=64, lanes=1)
    form, real = (
        passwords.nobodys(b"s" * passwords.SALT_BYTES, b"d" * passwords.HASH_BYTES, cost),
        passwords.hash_password("a password", b"s" * passwords.SALT_BYTES, cost),
    )
    assert passwords.known(form)
    assert form.rpartition("$")[0] == real.rpartition("$")[0]  # the same work
    assert len(form) == len(real)
    assert not passwords.verify("a password", form)
