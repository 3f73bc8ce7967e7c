"""Password hashes of other servers: read, refused, and checked."""

import hashlib
import shutil
import subprocess
from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtad.accounts import imported, passwords, sha_crypt
from mtad.accounts.imported import Entry, HashError, Plain
from mtad.accounts.passwords import Cost

# What glibc makes of "Hello world!"; the settings are those of the algorithm's specification.
SHA_CRYPT = [
    "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
    "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
    "$5$rounds=1400$anotherlongsalts$3qrvGONjJLD3nbbdMqiPU3HEkZj9mKxTAR68T172Rv9",
    "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
    "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/"
    "UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
    "$6$rounds=1400$anotherlongsalts$5FGyu8c4BZDX4wJgs0Un26YOw2XibT5eTkHF1I1aP3QqStoJI9BHD2YPJYsAjEePVGUyBj"
    "dZxcNqMWlrrbIOC.",
]

# Made by `doveadm pw -p schemepass`.
DOVECOT = {
    "{SHA}TVzT6+ZwYKPuAoE6RkOeagAyeUY=": "sha",
    "{SHA256}Xd/C008MH4nAjKOAu5URtczuJ3GFdtoycHLduFX03Hw=": "sha256",
    "{SHA512}OPLnZ0kdqkflTJrV6sWGcbYt/vkO8ZdmjyS2lLqyyMGsic1wEN/IjS5bIwcCKyaIDZGkVlGPklMT+xi3AZHlow==": "sha512",
    "{SSHA}WTWBDae8W4YYUoa2KJ1UShWacO25zVDo": "ssha",
    "{SSHA512}cJXtADvPbDgFiQga/9SL2VM6CsrShTwImRUgA1Gb1hXAXudok6scJlqGOBwi0If8+2ked1Fzaovh4zhIuUaACOMylJ8=": "ssha512",
    "{PBKDF2}$1$lFEb4OJLDyhU6ZgU$5000$4aed05ea89039709787c8fc843bfa1603bdacfd7": "pbkdf2",
    "{SCRAM-SHA-256}4096,vdv/YHJYQa53fAJB9ezQ1Q==,p6wP+APVlFpySpKutXoqExFRNmvwP8v7gTufs9gZiUA=,"
    "rmrB9+UuPHWp7rOTu17+xO/UjV7cnnFTaj+T2qY4XFc=": "scram-sha-256",
    "{SHA256-CRYPT}$5$7S6Z/lkpJFtTOWd/$hJ3st5ZJjIn4K30RER7wWrmeJX7fv8FFvB5SzVLkwd7": "sha256-crypt",
    "{SHA512-CRYPT}$6$EEGA/BMdmeIRTnva$esW3P/AS5MxVIn7BnJ9dQNW4RSabQNJ5U0jTiBt//L0xU8XbPM91ARzHuljDisGwJlDEhY22vM0mfIhFwAgKj/":
    "sha512-crypt",
    "$6$EEGA/BMdmeIRTnva$esW3P/AS5MxVIn7BnJ9dQNW4RSabQNJ5U0jTiBt//L0xU8XbPM91ARzHuljDisGwJlDEhY22vM0mfIhFwAgKj/":
    "sha512-crypt",
}  # fmt: skip
ARGON2 = "$argon2id$v=19$m=65536,t=3,p=1$gntqVkNFTPAZzH0NsSQEwg$dhdtiDLZh3szN3S3ooIHNnP/zhmsGSTG+w8mpUM+v84"
BCRYPT = "$2y$05$bk5wqQNiz99UYXkfmkajgey/DRFulNHQ80hAwkLOm0QPpfZfPJ1w2"


@pytest.mark.parametrize("secret", SHA_CRYPT)
def test_sha_crypt_as_glibc_does(secret: str) -> None:
    password = "Hello world!"
    assert sha_crypt.known(secret)
    assert sha_crypt.verify(password.encode(), secret)
    assert not sha_crypt.verify(password.encode() + b"x", secret)
    assert not sha_crypt.verify(password.encode(), secret[:-1] + ("A" if secret[-1] != "A" else "B"))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("kind", ["-5", "-6"])
@pytest.mark.parametrize("password", ["x", "a" * 31, "a" * 32, "b" * 64, "c" * 65, "\u00e4\u00f6", "longer " * 20])
def test_sha_crypt_as_openssl_does(kind: str, password: str) -> None:
    command = ["openssl", "passwd", kind, "-salt", "s.lt", password]
    secret = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert sha_crypt.verify(password.encode(), secret)


@pytest.mark.parametrize("form", DOVECOT)
def test_what_dovecot_wrote(form: str) -> None:
    secret = imported.read(form)
    assert isinstance(secret, str)
    assert imported.scheme_of(secret) == DOVECOT[form]
    assert imported.verify("schemepass", secret)
    assert not imported.verify("Schemepass", secret)
    assert not imported.verify("", secret)
    assert not imported.ours(secret)
    assert imported.read(secret) == secret  # the stored form can be imported again


def test_hex_digests() -> None:
    digest = hashlib.sha256(b"geheim").digest()
    salted = hashlib.sha1(b"geheimsalt").digest() + b"salt"
    for form in (
        f"{{SHA256}}{digest.hex()}",
        f"{{SHA256.HEX}}{digest.hex()}",
        f"{{sha256.b64}}{b64encode(digest).decode()}",
    ):
        assert imported.verify("geheim", str(imported.read(form)))
    assert imported.verify("geheim", str(imported.read(f"{{SSHA.HEX}}{salted.hex()}")))


def test_argon2_when_it_is_there() -> None:
    pytest.importorskip("argon2")
    for form in (ARGON2, f"{{ARGON2ID}}{ARGON2}"):
        assert imported.read(form) == ARGON2
    assert imported.verify("schemepass", ARGON2)
    assert not imported.verify("other", ARGON2)
    cost = Cost(scheme="argon2id", passes=1, memory_kib=64, lanes=1)
    secret = passwords.hash_password("geheim", b"s" * 16, cost)
    assert secret.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert passwords.verify("geheim", secret)
    assert not passwords.outdated(secret, cost)
    assert passwords.outdated(secret, Cost(scheme="argon2id"))
    assert passwords.outdated(secret, Cost())
    assert passwords.best().scheme == "argon2id"
    with pytest.raises(HashError, match="too much work"):
        imported.read(ARGON2.replace("m=65536", "m=99999999"))
    assert not passwords.verify("schemepass", ARGON2.replace("m=65536", "m=99999999"))


def test_without_argon2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_argon2", lambda: None)
    assert passwords.best() == Cost()
    assert passwords.hash_password("x", b"s" * 16, Cost(ln=4, p=1, scheme="argon2id")).startswith("$scrypt$ln=4,")
    assert not passwords.verify("schemepass", ARGON2)
    with pytest.raises(HashError, match="argon2-cffi, which is not installed"):
        imported.read(ARGON2)


def test_bcrypt_when_it_is_there() -> None:
    pytest.importorskip("bcrypt")
    assert imported.read(f"{{BLF-CRYPT}}{BCRYPT}") == BCRYPT
    assert imported.verify("schemepass", BCRYPT)
    assert not imported.verify("other", BCRYPT)
    assert not imported.verify("a\0b", BCRYPT)
    with pytest.raises(HashError, match="of a cost above"):
        imported.read(BCRYPT.replace("$05$", "$31$"))


def test_without_bcrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imported, "_bcrypt", lambda: None)
    with pytest.raises(HashError, match="the Python package bcrypt, which is not installed"):
        imported.read(BCRYPT)
    assert not imported.verify("schemepass", BCRYPT)


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ("", "no password"), ("*", "no password"), ("!$6$x$y", "no password"), ("x", "no password"),
        ("geheim", "names no scheme"), ("{CRYPT}abXYZ", "too weak"), ("{MD5-CRYPT}$1$a$b", "MD5-CRYPT: this scheme"),
        ("$1$IPJrdagy$4zMUL.JIdkQdP.aKFmkQI/", r"\$1\$: this scheme"), ("{CRAM-MD5}00", "CRAM-MD5: this scheme"),
        ("{SSHA}####", "no SSHA hash"), ("{SHA256}AAAA", "has 3 octets"),
        ("{SSHA}TVzT6+ZwYKPuAoE6RkOeagAyeUY=", "20 octets"),
        ("{PLAIN.B64}Zm9v", "this scheme"), ("{PBKDF2}$1$a$0$" + "0" * 40, "too many rounds"),
        ("{PBKDF2}x", "no PBKDF2"),
        ("{SCRAM-SHA-256}4096,a", "no SCRAM"), ("{SCRAM-SHA-256}x", "no SCRAM"), ("$6$salt$short", "damaged"),
        ("$6$rounds=999999999$salt$" + "a" * 86, "more than"), ("$5$salt$" + "a" * 86, "damaged"),
        ("{" + "A" * 40 + "}x", "no password hash"), ("{SSHA", "no password hash"), ("a" * 2000, "no password hash"),
        ("{SSHA}\x1b[2J", "no password hash"),
    ],
)  # fmt: skip
def test_what_is_refused(form: str, why: str) -> None:
    with pytest.raises(HashError, match=why) as caught:
        imported.read(form)
    assert len(form) < 8 or form not in str(caught.value)


def test_a_password_file() -> None:
    lines = [
        (1, "# comment"),
        (2, ""),
        (3, "alice:{PLAIN}geheim:1000:1000::/home::"),
        (5, "bob@b.test:$6$saltstring$x"),
        (6, "carol"),
        (7, ":{PLAIN}x"),
        (8, "dave:" + "{PLAIN}" + "x" * 5000),
    ]
    found = list(imported.entries(lines))
    assert [(entry.line, entry.name, bool(entry.problem)) for entry in found] == [
        (3, "alice", False),
        (5, "bob@b.test", True),
        (6, "", True),
        (7, "", True),
        (8, "dave", True),
    ]
    assert isinstance(found[0].secret, Plain)
    assert found[0].secret.password == "geheim"
    assert "geheim" not in repr(found)
    assert "geheim" not in str(found[0].secret)
    assert Entry(1, "x").secret == ""


@given(st.text(max_size=200), st.text(max_size=20))
@settings(max_examples=200)
def test_anything_is_read_or_refused(form: str, password: str) -> None:
    try:
        secret = imported.read(form)
    except HashError:
        return
    assert isinstance(secret, Plain) or imported.verify(password, secret) in (True, False)
