"""Settings: one frozen tree (tree.py), and how it is made from mtad.toml and MTA_* variables (load.py)."""

from mtad.config.errors import ConfigError, ConfigErrors
from mtad.config.keys import describe
from mtad.config.load import load
from mtad.config.places import locate
from mtad.config.tree import (
    Access,
    Address,
    CertificateFiles,
    Config,
    Delivery,
    Dns,
    Keep,
    Limits,
    Listen,
    Local,
    Paths,
    Rate,
    RouteRule,
    SiteRule,
    Smtp,
    Target,
    Tls,
    TlsRule,
)

__all__ = [
    "Access",
    "Address",
    "CertificateFiles",
    "Config",
    "ConfigError",
    "ConfigErrors",
    "Delivery",
    "Dns",
    "Keep",
    "Limits",
    "Listen",
    "Local",
    "Paths",
    "Rate",
    "RouteRule",
    "SiteRule",
    "Smtp",
    "Target",
    "Tls",
    "TlsRule",
    "describe",
    "load",
    "locate",
]
