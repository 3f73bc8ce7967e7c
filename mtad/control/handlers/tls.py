"""Certificates: which are in use, and reading them again."""

from collections.abc import AsyncGenerator, Mapping

from mtad.config import ConfigErrors
from mtad.control.admin import Admin, Args, Failed, Handler, Row
from mtad.tls.certificates import Certificate


async def tls_show(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    for certificate in admin.app.certificates():
        yield _row(certificate)


async def tls_reload(admin: Admin, args: Args) -> AsyncGenerator[Row, None]:
    try:
        loaded = await admin.app.reload_tls()
    except ConfigErrors as errors:
        raise Failed("BadConfig", f"{errors}\nnothing was changed: the certificates of before stay in use") from None
    for certificate in loaded:
        yield _row(certificate)


def _row(certificate: Certificate) -> Row:
    return {
        "cert": certificate.cert,
        "key": certificate.key,
        "names": list(certificate.names),
        "expires": int(certificate.expires_at),
    }


HANDLERS: Mapping[str, Handler] = {
    "tls.show": tls_show,
    "tls.reload": tls_reload,
}
