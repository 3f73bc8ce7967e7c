"""Every reply has its enhanced code (RFC 2034), whichever room it is written in."""

import importlib
import pkgutil
import re
from collections.abc import Iterator

import mtad.inbound
import mtad.mail
import mtad.outbound
from mtad.inbound import words
from mtad.mail.reply import Reply

LINE = re.compile(rb"([2-5])[0-9]{2}[ -]\1\.[0-9]{1,3}\.[0-9]{1,3} [ -~]+")
WITHOUT = re.compile(rb"3[0-9]{2} ")  # 334 and 354 ask for more; RFC 2034 4 leaves them out


def constants() -> Iterator[tuple[str, Reply | bytes]]:
    for package in (mtad.inbound, mtad.mail, mtad.outbound):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if (isinstance(value, Reply) and value.code) or (isinstance(value, bytes) and value[:3].isdigit()):
                    yield f"{module.name}.{name}", value


def test_every_reply_has_an_enhanced_code_of_its_class() -> None:
    found = dict(constants())
    assert len(found) > 60
    found["chunk"] = words.chunk_taken(7)
    found["priority"] = words.priority_changed(0)
    for name, value in found.items():
        octets = value.wire() if isinstance(value, Reply) else value
        lines = octets.split(b"\r\n")
        assert lines.pop() == b"", name
        for line in lines:
            assert LINE.fullmatch(line) or WITHOUT.match(line), (name, line)
            assert len(line) <= 510, name
