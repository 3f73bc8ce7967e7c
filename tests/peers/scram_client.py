"""The client's side of SCRAM-SHA-256, written from RFC 5802 alone, to be told apart from the server's."""

import base64
import hashlib
import hmac


class ScramClient:
    def __init__(
        self,
        name: str,
        password: str,
        *,
        header: str = "n,,",
        binding: bytes = b"",
        nonce: str = "fyko+d2lbbFgONRv9qkxdawL",
    ) -> None:
        self.password = password
        self.header = header
        self.binding = binding
        self.nonce = nonce
        escaped = name.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={escaped},r={nonce}"
        self.iterations = 0
        self.salt = b""

    @property
    def first(self) -> str:
        return self.header + self.bare

    def final(self, server_first: str) -> str:
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        assert fields["r"].startswith(self.nonce)
        assert len(fields["r"]) > len(self.nonce)
        self.salt, self.iterations = base64.b64decode(fields["s"]), int(fields["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), self.salt, self.iterations)
        client_key = hmac.new(salted, b"Client Key", "sha256").digest()
        stored_key = hashlib.sha256(client_key).digest()
        channel = base64.b64encode(self.header.encode() + self.binding).decode()
        without_proof = f"c={channel},r={fields['r']}"
        text = f"{self.bare},{server_first},{without_proof}".encode()
        signature = hmac.new(stored_key, text, "sha256").digest()
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.new(salted, b"Server Key", "sha256").digest()
        self.expected = "v=" + base64.b64encode(hmac.new(server_key, text, "sha256").digest()).decode()
        return f"{without_proof},p={base64.b64encode(proof).decode()}"
