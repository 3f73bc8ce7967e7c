"""Accounts. Passwords come in a frame, never in argv, and go nowhere but into the user store."""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import replace
from typing import Any

from mtad.accounts import imported
from mtad.accounts.account import StoredUser
from mtad.accounts.passwords import PasswordError
from mtad.accounts.profile import CERTIFICATES_MAX, SENDERS_MAX, Profile
from mtad.accounts.users import UserError
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.control.handlers.freeze import quota_of, thaw
from mtad.control.values import DEFAULT
from mtad.inbound import quota
from mtad.mail import address as addresses
from mtad.mail.reply import Refused


def _row(user: StoredUser) -> Row:
    return {"name": user.name, "created": int(user.created_at), "disabled": user.disabled}


async def user_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    if admin.users.get(args["name"]) is not None:
        raise Failed(
            "CannotCreate", f"there is a user {args['name']} already; `mtactl user passwd` changes the password"
        )
    try:
        user = await admin.users.add(args["name"], args["password"], receive_only=args["receive_only"])
    except (UserError, PasswordError) as error:
        raise Failed("BadData", str(error)) from None
    yield _row(user)


async def user_passwd(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    try:
        user = await admin.users.set_password(user.name, args["password"])
    except (UserError, PasswordError) as error:
        raise Failed("BadData", str(error)) from None
    yield {**_row(user), "app_passwords": [one.label for one in user.profile.app_passwords]}


async def user_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for user in admin.users.list():
        yield _row(user)


async def user_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    form = user.profile
    yield {
        **_row(user),
        "scheme": imported.scheme_of(user.secret),
        "scram": form.keys is not None,
        "receive_only": form.receive_only,
        "senders": list(form.senders),
        "app_passwords": _app_passwords(form),
        "certificates": list(form.certificates),
        **await quota_of(admin, user),
    }


async def user_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    if args["dry_run"]:
        yield {"name": user.name, "changed": 0, "would_change": 1}
        return
    changed = int(await admin.users.remove(user.name))
    yield {"name": user.name, "changed": changed}


async def user_verify(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    try:
        found = await admin.users.verify(user.name, args["password"])
    except Refused as refused:
        raise Failed("Denied" if refused.reply.permanent else "Busy", refused.reply.text) from None
    if found is None:
        raise Failed("Denied", f"this is not a password of {user.name}")
    yield {"name": user.name, "right": True}


async def user_disable(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = await admin.users.disable(_known(admin, args["name"]).name, args["reason"] or "")
    yield _row(user)


async def user_enable(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    name = _known(admin, args["name"]).name
    if any(rule.freezes and rule.user == name for rule in await admin.store.hold_rules()):
        yield await thaw(admin, name, release=False)
        return
    user = await admin.users.enable(_known(admin, args["name"]).name)
    yield _row(user)


async def user_grant(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    name, sender = _known(admin, args["name"]).name, _sender(args["sender"])

    def granted(form: Profile) -> Profile:
        if sender in form.senders:
            return form
        if len(form.senders) >= SENDERS_MAX:
            raise Failed("BadData", f"{name} has {SENDERS_MAX} sender addresses already")
        return replace(form, senders=(*form.senders, sender))

    user = await _update(admin, name, granted)
    yield {"name": user.name, "senders": list(user.profile.senders)}


async def user_revoke(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user, sender = _known(admin, args["name"]), _sender(args["sender"])
    if sender not in user.profile.senders:
        raise Failed("NotFound", f"{sender} is not granted to {user.name}")

    def revoked(form: Profile) -> Profile:
        return replace(form, senders=tuple(one for one in form.senders if one != sender))

    user = await _update(admin, user.name, revoked)
    yield {"name": user.name, "senders": list(user.profile.senders)}


async def user_limit(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user = _known(admin, args["name"])
    wanted: dict[str, Any] = {
        name: None if args[name] == DEFAULT else args[name]
        for name in ("messages_per_day", "new_recipients_per_day")
        if args[name] is not None
    }
    if args["receive_only"]:
        wanted["receive_only"] = args["receive_only"] == "yes"
    if wanted:
        user = await _update(admin, user.name, lambda form: replace(form, **wanted))
    allowed = quota.allowance(user, admin.config.limits)
    yield {
        "name": user.name,
        "messages_per_day": allowed.messages,
        "new_recipients_per_day": allowed.new_recipients,
        "receive_only": user.profile.receive_only,
    }


async def user_app_password_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    name = _known(admin, args["name"]).name
    try:
        user, password = await admin.users.add_app_password(name, args["label"])
    except UserError as error:
        raise Failed("BadData", str(error)) from None
    yield {"name": user.name, "label": args["label"].strip(), "password": password}


async def user_app_password_list(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for row in _app_passwords(_known(admin, args["name"]).profile):
        yield row


async def user_app_password_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user, label = _known(admin, args["name"]), args["label"].strip()
    if all(one.label != label for one in user.profile.app_passwords):
        raise Failed("NotFound", f"{user.name} has no app password {label}")

    def removed(form: Profile) -> Profile:
        return replace(form, app_passwords=tuple(one for one in form.app_passwords if one.label != label))

    await _update(admin, user.name, removed)
    yield {"name": user.name, "label": label}


async def user_certificate_add(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user, fingerprint = _known(admin, args["name"]), args["fingerprint"]
    for other in admin.users.list():
        if fingerprint in other.profile.certificates and other.name != user.name:
            raise Failed("CannotCreate", f"this certificate is registered for {other.name}")

    def added(form: Profile) -> Profile:
        if fingerprint in form.certificates:
            return form
        if len(form.certificates) >= CERTIFICATES_MAX:
            raise Failed("BadData", f"{user.name} has {CERTIFICATES_MAX} certificates already")
        return replace(form, certificates=(*form.certificates, fingerprint))

    changed = await _update(admin, user.name, added)
    yield {"name": changed.name, "certificates": list(changed.profile.certificates)}


async def user_certificate_remove(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    user, fingerprint = _known(admin, args["name"]), args["fingerprint"]
    if fingerprint not in user.profile.certificates:
        raise Failed("NotFound", f"{user.name} has no certificate {fingerprint}")

    def removed(form: Profile) -> Profile:
        return replace(form, certificates=tuple(one for one in form.certificates if one != fingerprint))

    user = await _update(admin, user.name, removed)
    yield {"name": user.name, "certificates": list(user.profile.certificates)}


async def user_import(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    """A row for each user of the file, and then how many were added."""
    dry_run, added, problems = args["dry_run"], 0, 0
    seen: set[str] = set()
    for entry in imported.entries(args["lines"]):
        name, result, problem = entry.name, "refused", entry.problem
        try:
            if not problem:
                name = admin.users.qualify(entry.name)
                if admin.users.get(name) is not None or name.casefold() in seen:
                    result = "exists"
                else:
                    seen.add(name.casefold())
                    if not dry_run:
                        await admin.users.add_imported(name, entry.secret)
                    result = "would be added" if dry_run else "added"
                    added += 1
        except UserError as error:
            problem = str(error)
        problems += bool(problem)
        yield {"line": entry.line, "name": name, "result": result, "problem": problem}
    counts = {"changed": 0, "would_change": added} if dry_run else {"changed": added}
    yield {**counts, "problems": problems}


async def _update(admin: Admin, name: str, change: Callable[[Profile], Profile]) -> StoredUser:
    try:
        return await admin.users.update(name, change)
    except UserError as error:
        raise Failed("NotFound", str(error)) from None


def _app_passwords(form: Profile) -> list[Row]:
    return [
        {"label": one.label, "created": int(one.created_at), "used": int(one.used_at) or None}
        for one in form.app_passwords
    ]


def _sender(given: str) -> str:
    """Canonical: an address, or "@" and a domain in A-labels."""
    try:
        if given.startswith("@"):
            return f"@{addresses.domain_of(addresses.parse(f'any{given}', utf8=True))}"
        return addresses.parse(given, utf8=True)
    except addresses.AddressError as error:
        raise Failed("BadData", f"{given} is neither an address nor a @domain: {error}") from None


def _known(admin: Admin, name: str) -> StoredUser:
    user = admin.users.get(name)
    if user is None:
        raise Failed("NotFound", f"there is no user {name}")
    return user


HANDLERS: Mapping[str, Handler] = {
    "user.add": user_add,
    "user.list": user_list,
    "user.remove": user_remove,
    "user.passwd": user_passwd,
    "user.show": user_show,
    "user.verify": user_verify,
    "user.disable": user_disable,
    "user.enable": user_enable,
    "user.grant": user_grant,
    "user.revoke": user_revoke,
    "user.limit": user_limit,
    "user.app_password.add": user_app_password_add,
    "user.app_password.list": user_app_password_list,
    "user.app_password.remove": user_app_password_remove,
    "user.certificate.add": user_certificate_add,
    "user.certificate.remove": user_certificate_remove,
    "user.import": user_import,
}
