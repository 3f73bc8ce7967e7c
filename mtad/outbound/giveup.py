"""Giving mail up because an operator says so: the outcome, with the report that the sender gets."""

from collections.abc import Callable
from dataclasses import replace

from mtad.config import Config
from mtad.mail.envelope import Attempt, Content, Job, State
from mtad.mail.ident import Ids
from mtad.mail.reply import Reply
from mtad.outbound import bounce
from mtad.queue.store import Settlement, Store, StoreError


async def give_up(
    job: Job,
    reply: Reply,
    store: Store,
    config: Config,
    now: float,
    ids: Ids,
    expand: Callable[[str], tuple[str, ...]],
) -> tuple[Settlement, str]:
    """What to settle, and why nobody is told of it ("" = somebody is, or need not be)."""
    after = [replace(one, state=State.FAILED, last=reply) for one in job.recipients]
    attempts = [Attempt(one.n, now, 0.0, reply, "operator") for one in job.recipients]
    reports = bounce.Reports()
    if any(bounce.due(job.message, old, new, bounce.HERE) for old, new in zip(job.recipients, after, strict=True)):
        try:
            content = await store.content(job.message.id)
        except StoreError:  # the report needs no more than that there was a mail
            content = Content(b"\r\n", b"")
        reports = bounce.reports(job.message, content, job.recipients, after, attempts, {}, config, now, ids, expand)
    return Settlement(job, attempts, after, reports.messages), reports.nobody
