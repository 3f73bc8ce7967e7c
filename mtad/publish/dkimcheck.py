"""Whether DNS has the keys that sign, so that receivers can use them (RFC 6376 3.6.1)."""

import asyncio
import base64
import binascii
from typing import Literal

from mtad.dkim.rotation import Stage
from mtad.dkim.taglist import first_tag, tag_list
from mtad.publish.area import Area, Checked, txt
from mtad.publish.host import Key

RSA_BITS_GOOD = 2048
Fault = Literal["revoked", "syntax", "mismatch", "weak", "testing", "restricted"]


async def check(checked: Checked) -> Area:
    area = Area("dkim")
    if not checked.signing:
        where = checked.domain
        area.find("dkim.none", f"no key signs mail of {where}", f"mtactl dkim generate {where}")
    await asyncio.gather(*(_key(area, checked, key) for key in checked.keys))
    area.findings.sort(key=lambda finding: finding.what)
    area.said.sort()
    return area


async def _key(area: Area, checked: Checked, key: Key) -> None:
    seen = await checked.view.get(key.name, "TXT")
    texts = [text for text in seen.texts() if not text.lower().startswith("v=spf")]
    if key.stage is Stage.RETIRED:
        if texts and tags(texts[0]) and (tags(texts[0]) or {}).get("p"):
            fix = f"remove\n{txt(key.name, texts[0])}"
            area.find("dkim.leftover", f"{key.name} still has the record of a retired key", fix)
        return
    if area.untold(seen):
        return
    right = txt(key.name, key.record)
    waiting = key.stage in (Stage.PENDING, Stage.PUBLISHED)
    if not texts:
        if waiting:
            area.find("dkim.waiting", f"{key.name} is not in DNS yet", right)
        else:
            area.find("dkim.missing", f"{key.name} has no TXT record", right)
        return
    if len(texts) > 1:
        area.find("dkim.multiple", f"{key.name} has {len(texts)} TXT records", f"remove all but\n{right}")
        return
    faults = judge(texts[0], key.record)
    for fault, words in faults:
        if fault == "weak":
            area.find("dkim.weak", f"{key.name}: {words}", f"mtactl dkim rotate {checked.domain}")
        else:
            area.find(f"dkim.{fault}", f"{key.name}: {words}", f"replace it by\n{right}")
    if not faults:
        area.say(f"{key.name} is the key here ({key.stage.value})")


async def served(checked: Checked) -> bool:
    """Whether one key that signs for the domain could be verified with what DNS has."""
    for key in checked.keys:
        if key.stage is Stage.ACTIVE:
            texts = (await checked.view.get(key.name, "TXT")).texts()
            if len(texts) == 1 and not {fault for fault, _ in judge(texts[0], key.record)} - {"weak"}:
                return True
    return False


def judge(text: str, record: str) -> list[tuple[Fault, str]]:
    """What is wrong with a record in DNS, where `record` should be. Pure."""
    found, ours = tags(text), tags(record) or {}
    if found is None:
        return [("syntax", f"cannot be read: {text[:80]!a}")]
    if "p" not in found:
        return [("syntax", f"has no p=: {text[:80]!a}")]
    if found.get("v", "DKIM1") != "DKIM1":
        return [("syntax", f"has v={found['v'][:20]!a} where v=DKIM1 belongs")]
    if "v" in found and first_tag(found) != "v":
        return [("syntax", "v= is not its first tag, so receivers take it for no key")]
    if not found["p"]:
        return [("revoked", "p= is empty")]
    try:
        octets = base64.b64decode(found["p"], validate=True)
    except (binascii.Error, ValueError):
        return [("syntax", "p= is no base64: is the record cut off?")]
    if found.get("k", "rsa") != ours.get("k", "rsa"):
        return [
            ("mismatch", f"has a key of kind {found.get('k', 'rsa')[:20]!a}, the one here is {ours.get('k', 'rsa')}")
        ]
    if octets != base64.b64decode(ours.get("p", "")):
        return [("mismatch", "has another key than the one here")]
    faults: list[tuple[Fault, str]] = []
    if found.get("k", "rsa") == "rsa" and (bits := _bits(octets)) and bits < RSA_BITS_GOOD:
        faults.append(("weak", f"the RSA key has {bits} bits"))
    if "y" in found.get("t", "").split(":"):
        faults.append(("testing", "t=y"))
    if "h" in found and "sha256" not in found["h"].split(":"):
        faults.append(("restricted", f"h={found['h'][:20]} does not allow sha256"))
    if "s" in found and not {"*", "email"} & set(found["s"].split(":")):
        faults.append(("restricted", f"s={found['s'][:20]} does not allow email"))
    return faults


def tags(text: str) -> dict[str, str] | None:
    """The tags of a key record, blanks within values left out; None when it is no list of tags."""
    found = tag_list(text)
    return None if found is None else {name: "".join(value.split()) for name, value in found.items()}


def _bits(octets: bytes) -> int:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return 0
    return key.key_size if isinstance(key, RSAPublicKey) else 0
