"""What carries the operations out: one async generator of rows for each, named as the operation."""

from collections.abc import Mapping

from mtad.control.admin import Handler
from mtad.control.handlers import backup, blocks, daemon, dkim, queue, sessions, tls, users

HANDLERS: Mapping[str, Handler] = {
    "status": daemon.status,
    "queue.list": queue.queue_list,
    "queue.show": queue.queue_show,
    "queue.flush": queue.queue_flush,
    "queue.hold": queue.queue_hold,
    "queue.release": queue.queue_release,
    "queue.retry": queue.queue_retry,
    "queue.purge": queue.queue_purge,
    "queue.restore": queue.queue_restore,
    "queue.stats": queue.queue_stats,
    "queue.mailq": queue.queue_mailq,
    "dkim.generate": dkim.dkim_generate,
    "dkim.list": dkim.dkim_list,
    "dkim.show": dkim.dkim_show,
    "user.add": users.user_add,
    "user.list": users.user_list,
    "user.remove": users.user_remove,
    "user.passwd": users.user_passwd,
    "reload": daemon.reload,
    "tls.show": tls.tls_show,
    "tls.reload": tls.tls_reload,
    "alias.check": daemon.alias_check,
    "maildrop.drain": daemon.maildrop_drain,
    "config.show": daemon.config_show,
    "backup.create": backup.backup_create,
    "block.list": blocks.block_list,
    "block.add": blocks.block_add,
    "block.remove": blocks.block_remove,
    "session.list": sessions.session_list,
    "session.close": sessions.session_close,
    "limit.show": sessions.limit_show,
}
