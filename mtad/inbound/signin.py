"""AUTH (RFC 4954): the exchange of `auth`, the check against the users, and what follows from it."""

from dataclasses import replace

from mtad.accounts.users import StoredUser
from mtad.inbound import policy, words
from mtad.inbound.auth import AUTH_FAILED, Credentials, Exchange, Step
from mtad.inbound.talk import Talk
from mtad.mail import address as mail_address
from mtad.mail.reply import Refused, Reply

AUTH_FAILURES_MAX = 3


class SignIn(Talk):
    def smtp_AUTH(self, arguments: str) -> bytes:  # noqa: N802
        if self.peer.source not in ("submission", "submissions"):
            return self._fault(words.UNSUPPORTED)
        if not self.peer.tls:
            return self._fault(words.AUTH_NEEDS_TLS)
        if not self.peer.helo or not self.peer.esmtp:
            return self._fault(words.EHLO_FIRST)
        if self.peer.user:
            return self._fault(words.AUTH_TWICE)
        if self._mail is not None:
            return self._fault(words.AUTH_IN_MAIL)
        exchange = Exchange()
        self._auth = exchange
        return self._auth_step(exchange.start(arguments))

    def _auth_step(self, step: Step) -> bytes:
        match step:
            case bytes():
                return step
            case Credentials():
                self._auth = None
                self.work = self._verify(step)
                return b""
            case Reply():
                self._auth = None
                if step is AUTH_FAILED:
                    return self._auth_failed("", "PLAIN")
                return self._fault(step.wire())

    async def _verify(self, claim: Credentials) -> bytes:
        user: StoredUser | None = None
        try:
            user = await self._host.users.verify(claim.name, claim.password)
        except Refused as refused:
            return refused.reply.wire()
        except mail_address.AddressError:
            pass  # such a name cannot exist
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary)
            self._host.events.internal_error("auth", exc)
            return words.AUTH_UNAVAILABLE.wire()
        if user is None:
            return self._auth_failed(claim.name, claim.mechanism)
        self.peer = replace(self.peer, user=user.name)
        self._who = policy.standing(self.peer, self._host.trusted)
        self._host.events.auth_ok(self.peer, user.name)
        return words.AUTHENTICATED

    def _auth_failed(self, name: str, mechanism: str) -> bytes:
        self._host.events.auth_failed(self.peer, name, mechanism)
        self._auth_failures += 1
        if self._auth_failures >= AUTH_FAILURES_MAX:
            return self._end(words.TOO_MANY_ERRORS)
        return self._fault(AUTH_FAILED.wire())
