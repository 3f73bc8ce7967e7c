"""What is measured: the counters of `events` and gauges of the moment, in the text format of Prometheus."""

import contextlib
import os
from collections import Counter
from collections.abc import Mapping

from mtad import __version__
from mtad.config.certificate import expires_at
from mtad.control.admin import Admin
from mtad.outbound import sitewords
from mtad.queue.store import Stats

SITE_STATES = ("working", "untried", "failing", "suspended", "broken", "probing", "warm-up")


def exposition(counters: Mapping[str, int], gauges: Mapping[str, float]) -> str:
    """Prometheus text format 0.0.4. Keys are whole sample names, labels included: `name{label="value"}`. Pure."""
    lines, last = [], ""
    for kind, samples in (("counter", counters), ("gauge", gauges)):
        for family, key in sorted((key.partition("{")[0], key) for key in samples):
            if family != last:
                lines.append(f"# TYPE {family} {kind}\n")
            lines.append(f"{key} {samples[key]}\n")
            last = family
    return "".join(lines)


def sample(family: str, label: str, value: str) -> str:
    """The name of a sample with a label."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{family}{{{label}="{escaped}"}}'


def queue_gauges(stats: Stats, now: float) -> dict[str, float]:
    states = ("active", "ready", "deferred", "held", "trashed")
    return {
        **{sample("mtad_queue_recipients", "state", state): getattr(stats, state) for state in states},
        "mtad_queue_messages": stats.messages,
        "mtad_queue_bytes": stats.size_bytes,
        "mtad_queue_oldest_seconds": 0 if stats.oldest_at is None else max(now - stats.oldest_at, 0),
    }


def disk_of(path: str) -> tuple[int, int] | None:
    """(octets that are free for us, those and the used ones), as df counts; None when it cannot be told."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(path)
        used = disk.f_blocks - disk.f_bfree
        return disk.f_bavail * disk.f_frsize, (used + disk.f_bavail) * disk.f_frsize
    return None


def certificates_end_at(admin: Admin) -> float | None:
    """When the first certificate of the settings ends; None without one."""
    tls = admin.config.tls
    ends = [expires_at(path) for path in (tls.cert, *(one.cert for one in tls.certificates)) if path]
    return min((end for end in ends if end is not None), default=None)


def gauges(admin: Admin, ends_at: float | None) -> dict[str, float]:
    """Those that need no look at the queue."""
    now, status = admin.clock(), admin.app.status()
    found: dict[str, float] = {
        sample("mtad_build_info", "version", __version__): 1,
        "mtad_start_time_seconds": now - status.get("uptime_s", 0),
        "mtad_sessions": status.get("sessions", 0),
        "mtad_deliveries": status.get("deliveries", 0),
        "mtad_suspensions": len(admin.sites.suspensions.list()),
        "mtad_suppressed_addresses": len(admin.suppressions.list()),
    }
    states = Counter(sitewords.state(admin.sites, site, now) for site in admin.sites.all())
    found |= {sample("mtad_sites", "state", state): states[state] for state in SITE_STATES}
    if ends_at is not None:
        found["mtad_tls_cert_expiry_timestamp_seconds"] = ends_at
    disk = disk_of(admin.config.paths.data)
    if disk is not None:
        found["mtad_disk_free_bytes"], found["mtad_disk_size_bytes"] = disk
    return found
