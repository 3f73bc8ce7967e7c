"""AUTH (RFC 4954): the exchange of `auth`, the check against the users, and what follows from it."""

import secrets
from dataclasses import replace

from mtad.accounts.account import StoredUser
from mtad.accounts.users import fingerprint
from mtad.inbound import policy, words
from mtad.inbound.auth import AUTH_FAILED, Certified, Claim, Credentials, Exchange, Proven, Step
from mtad.inbound.talk import Talk
from mtad.mail.reply import Refused, Reply
from mtad.tls.binding import mailboxes

AUTH_FAILURES_MAX = 3
NONCE_BYTES = 18


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
        exchange = Exchange(self.channel, self._host.users.challenge, secrets.token_urlsafe(NONCE_BYTES))
        self._auth = exchange
        return self._auth_step(exchange, exchange.start(arguments))

    def _auth_step(self, exchange: Exchange, step: Step) -> bytes:
        match step:
            case bytes():
                return step
            case Reply():
                self._auth = None
                if step is AUTH_FAILED:
                    return self._auth_failed(exchange)
                return self._fault(step.wire())
            case _:
                self._auth = None
                self.work = self._verify(exchange, step)
                return b""

    async def _verify(self, exchange: Exchange, claim: Claim) -> bytes:
        try:
            user = await self._user_of(claim)
        except Refused as refused:  # the password was right, or nobody looked
            return self._refuse("auth", refused.reply, exchange.name)
        except Exception as exc:  # noqa: BLE001  (unknown failure is temporary)
            self._host.events.internal_error("auth", exc)
            return words.AUTH_UNAVAILABLE.wire()
        if user is None:
            return self._auth_failed(exchange)
        self.peer = replace(self.peer, user=user.name)
        self._who = policy.standing(self.peer, self._host.trusted)
        self._users_seen = self._host.users.changes
        self._host.guard.auth_ok(self.peer, user.name)
        self._host.events.auth_ok(self.peer, user.name)
        return words.AUTHENTICATED

    async def _user_of(self, claim: Claim) -> StoredUser | None:
        users = self._host.users
        may = self._host.guard.may_sign_in(self.peer, claim.name)
        match claim:
            case Credentials(name, password):
                # Who may not pays the price of a wrong password, and learns nothing.
                return await users.verify(name if may else "", password)
            case Proven(name, label):
                return await users.proven(name, label) if may else None
            case Certified(name):
                certificate = self.channel.certificate
                user = await users.certified(name, fingerprint(certificate), mailboxes(certificate))
                allowed = user is not None and self._host.guard.may_sign_in(self.peer, user.name)
                return user if allowed else None

    def _auth_failed(self, exchange: Exchange) -> bytes:
        self._host.events.auth_failed(self.peer, exchange.name, exchange.mechanism)
        self._host.guard.auth_failed(self.peer, exchange.name)
        self._auth_failures += 1
        if self._auth_failures >= AUTH_FAILURES_MAX:
            return self._end(words.TOO_MANY_ERRORS)
        return self._fault(AUTH_FAILED.wire())
