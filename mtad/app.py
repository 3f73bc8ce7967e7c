"""The daemon: builds everything once, owns the task group: start, reload, drain, stop.

Start runs from the queue outwards; listeners open last, so that nobody is let in before there is a place to keep what
they bring. Stop runs the other way round.
"""

import asyncio
import contextlib
import gc
import os
import random
import signal
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mtad import __version__, service
from mtad.accounts import passwords
from mtad.accounts.aliases import load_aliases
from mtad.accounts.blocks import Blocks
from mtad.accounts.directory import Directory
from mtad.accounts.suppressions import Suppressions
from mtad.accounts.users import Users
from mtad.config import Config, ConfigError, ConfigErrors, load
from mtad.control import published
from mtad.control.admin import Admin
from mtad.control.chronicle import Chronicle
from mtad.control.http import HttpServer
from mtad.control.server import ControlServer
from mtad.dkim.keys import Keys
from mtad.dkim.signer import Signer
from mtad.dkim.watch import Watch, rules_of
from mtad.dns.resolver import Resolver
from mtad.events import Events
from mtad.housekeeping import Housekeeping, OwnCertificates
from mtad.inbound.accept import Acceptor
from mtad.inbound.guard import Guard, Usage
from mtad.inbound.maildrop import Maildrop
from mtad.inbound.server import Inbound, SessionInfo
from mtad.mail.ident import Ids
from mtad.outbound.explain import Outlook
from mtad.outbound.outlook import outlook
from mtad.outbound.policies import Policies
from mtad.outbound.scheduler import Scheduler
from mtad.outbound.security import Security
from mtad.outbound.sites import Sites
from mtad.outbound.suspensions import Suspensions
from mtad.outbound.tlsreports import TlsReports
from mtad.queue.sqlite import SqliteStore, open_store
from mtad.queue.store import StoreError
from mtad.tls import certificates
from mtad.tls.certificates import Certificate
from mtad.tls.contexts import Mode, ServerContext, TlsError, client_context

DRAIN_S = 20.0
SWEEP_INTERVAL_S = 60.0
MAILDROP_INTERVAL_S = 30.0
CERTIFICATES_INTERVAL_S = 60.0
TLS_COUNTS_INTERVAL_S = 60.0
TLS_CARE_INTERVAL_S = 1800.0
EVENTS_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Options:
    root: str = ""
    config: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What follows from the files alone: replaced as a whole on reload, or not at all."""

    config: Config
    directory: Directory
    tls: ServerContext | None
    notes: tuple[str, ...]


class App:
    """The running daemon. Also `control.admin.App`: what operations may ask of it."""

    def __init__(
        self, options: Options, config: Config, log: service.LogWriter, clock: Callable[[], float] = time.time
    ) -> None:
        self._options = options
        self._first = config
        self._log = log
        self._clock = clock
        self._rng = random.SystemRandom()
        self._dice = random.Random()  # for ids and jitter: without a system call for each mail
        self._events = Events(clock, log)
        self._keys = Keys(config.paths.dkim)
        self._signer = Signer()
        self._certificates = OwnCertificates(self._events, clock)
        self._begun_s = time.monotonic()
        self._refused: tuple[str, ...] = ()  # why the last reload was refused
        self._maildrop_seen = False  # by this process
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()

    async def run(self, sockets: Mapping[str, Sequence[Any]]) -> None:
        """Start, serve until told to stop, drain. Raises StoreError, TlsError and OSError when it cannot start."""
        loop = asyncio.get_running_loop()
        self._log.attach(loop)
        sys.unraisablehook = self._unraisable
        store = await asyncio.to_thread(open_store, self._first.paths, self._clock)
        try:
            await self._serve(store, sockets)
        finally:
            await store.close()
            self._events.stopped()
            self._log.attach(None)
            self._log.flush()

    async def _serve(self, store: SqliteStore, sockets: Mapping[str, Sequence[Any]]) -> None:
        config = self._first
        self._store = store
        self._chronicle = Chronicle(store, self._events, self._clock)
        self._ids = Ids(self._clock, self._dice, after=await store.newest_id())
        self._users = Users(store, self._clock, self._rng, domain=config.domains[0], cost=passwords.best())
        await self._users.load()
        self._settings = settings = await asyncio.to_thread(self._read, config)
        for note in (*self._users.problems, *settings.notes):
            self._events.warned(note)
        acceptor = self._acceptor(settings)
        resolver = Resolver(config.dns, self._clock)
        policies = Policies(config, resolver, store, self._events, self._clock)
        await policies.load()
        self._security = Security(config, resolver, policies, self._events, self._clock)
        self._tls_reports = TlsReports(
            config, store, resolver, self._keys, self._events, self._ids, self._clock, self._came_in
        )
        self._suppressions = Suppressions(store, self._clock)
        await self._suppressions.load()
        self._suspensions = Suspensions(store, self._clock)
        await self._suspensions.load()
        self._sites = Sites(config, store, self._suspensions, self._events, self._clock, self._rng)
        await self._sites.load()
        self._scheduler = Scheduler(
            config,
            store,
            resolver,
            settings.directory,
            self._events,
            self._clock,
            self._dice,
            self._ids,
            self._security,
            self._tls_reports.seen,
            self._sites,
            suppressions=self._suppressions,
            tls_context=self._client_context,
            keys=self._keys,
        )
        self._blocks = Blocks(store, self._clock)
        await self._blocks.load()
        for note in (*self._blocks.problems, *self._suppressions.problems, *self._suspensions.problems):
            self._events.warned(note)
        keeping = self._housekeeping = Housekeeping(
            store, self._blocks, self._suppressions, self._suspensions, self._events, self._clock
        )
        guard = Guard(config, self._blocks, self._events, self._clock)
        self._inbound = Inbound(
            config, acceptor, settings.directory, self._users, settings.tls, self._events, self._clock, guard
        )
        self._maildrop = Maildrop(self._inbound, self._clock)
        self._dkim = Watch(
            self._keys,
            self._events,
            self._clock,
            rules_of(config),
            published.asker(config, self._clock),
            self._oldest_mail,
            published.publisher(config),
        )
        self._keys.stir = self._dkim.stir
        self._control = ControlServer(self._admin(settings), config.paths.control, config.access.admin_group)
        self._http = HttpServer(self._admin(settings), config.listen.http) if config.listen.http else None
        self._on_signals()
        await self._inbound.start(sockets)
        await self._control.start()
        if self._http is not None:
            await self._http.start()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (
                    self._scheduler.run(),
                    self._dkim.run(),
                    keeping.every(SWEEP_INTERVAL_S, self._sweep),
                    keeping.every(MAILDROP_INTERVAL_S, self.drain_maildrop),
                    keeping.every(CERTIFICATES_INTERVAL_S, self._look_at_certificates),
                    keeping.every(TLS_COUNTS_INTERVAL_S, self._tls_reports.flush),
                    keeping.every(EVENTS_INTERVAL_S, self._chronicle.flush),
                    keeping.every(TLS_CARE_INTERVAL_S, self._care_for_tls),
                    keeping.every(TLS_CARE_INTERVAL_S, self._tls_reports.send),
                    keeping.watchdog(),
                )
            ]
            gc.collect()
            gc.freeze()  # modules and settings stay: looking at them again cost 23 ms in a full collection
            self._events.started(__version__, config.paths.data)
            service.notify(f"READY=1\nSTATUS=serving {config.hostname}")
            await self._stop.wait()
            service.notify("STOPPING=1")
            self._inbound.stop_listening()
            await self._control.stop()
            if self._http is not None:
                await self._http.stop()
            await self._inbound.drain(DRAIN_S)
            await self._scheduler.drain(DRAIN_S)
            await self._keep_counts()
            for task in tasks:
                task.cancel()
        self._signer.close()
        self._users.close()

    def _read(self, config: Config) -> Settings:
        """Everything that is read from files. Blocking; raises TlsError."""
        aliases, problems = load_aliases(config.local.aliases)
        notes = [*config.warnings, *problems, *self._keys.load()]
        directory = Directory(config, self._users, aliases, self._clock)
        return Settings(config, directory, self._certificates.read(config.tls), tuple(notes))

    def _acceptor(self, settings: Settings) -> Acceptor:
        return Acceptor(
            settings.config,
            self._store,
            settings.directory,
            self._keys,
            self._events,
            self._ids,
            self._clock,
            came_in=self._came_in,
            signer=self._signer,
        )

    def _admin(self, settings: Settings) -> Admin:
        return Admin(
            settings.config,
            self._store,
            self._users,
            self._keys,
            self._events,
            self._clock,
            self,
            self._blocks,
            self._suppressions,
            self._sites,
        )

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hangup)

    def _hangup(self) -> None:
        self._hangup_task = asyncio.get_running_loop().create_task(self._reload_quietly())

    async def _reload_quietly(self) -> None:
        try:
            await self.reload()
        except ConfigErrors:
            pass  # told by the event
        except Exception as error:  # noqa: BLE001  (the daemon lives on, as it was)
            self._events.internal_error("reload", error)

    # What operations ask for (control.admin.App)

    def status(self) -> Mapping[str, Any]:
        now = self._clock()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": int(time.monotonic() - self._begun_s),
            "listeners": list(self._inbound.listening()),
            "sessions": len(self._inbound.sessions()),
            "deliveries": self._scheduler.active(),
            "certificates": [f"{one.cert} {certificates.remaining(one, now)}" for one in self.certificates()],
            "dane": self._security.dane,
            "problems": [
                *(f"configuration refused, the old one is in use: {why}" for why in self._refused),
                *([f"tls: {self._certificates.problem}"] if self._certificates.problem else []),
                *self._users.problems,
                *self._settings.notes,
            ],
        }

    def wake(self) -> None:
        self._scheduler.changed()

    async def reload(self) -> Sequence[str]:
        """All or nothing. Listening addresses and places stay until a restart."""
        async with self._reloading:
            service.notify_reloading()
            try:
                config = await asyncio.to_thread(load, self._options.root, self._options.config)
                settings = await asyncio.to_thread(self._read, config)
                await self._users.load()
            except (ConfigErrors, TlsError) as error:
                self._refused = tuple(str(error).splitlines())
                self._events.config_refused(self._refused)
                service.notify("READY=1\nSTATUS=configuration refused, the old one is in use")
                if isinstance(error, ConfigErrors):
                    raise
                raise ConfigErrors([ConfigError("tls", str(error))]) from None
            except BaseException:  # whatever it was, the service manager must not wait for the end of it
                service.notify("READY=1\nSTATUS=the reload failed, the old settings are in use")
                raise
            self._refused = ()
            self._certificates.problem = ""
            notes = [*self._users.problems, *settings.notes]
            if config.listen != self._settings.config.listen:
                notes.append("the listening addresses change at the next restart")
            self._settings = settings
            acceptor = self._acceptor(settings)
            self._inbound.reload(config, acceptor, settings.directory, self._users, settings.tls)
            resolver = Resolver(config.dns, self._clock)
            self._security.reload(config, resolver)
            self._tls_reports.reload(config, resolver)
            self._scheduler.reload(config, resolver, settings.directory)
            self._dane_task = asyncio.create_task(self._security.look())
            self._dkim.update(rules_of(config), published.asker(config, self._clock), published.publisher(config))
            self._control.update(self._admin(settings))
            if self._http is not None:
                self._http.update(self._admin(settings))
            self._events.config_reloaded()
            service.notify(f"READY=1\nSTATUS=serving {config.hostname}")
            return notes

    def outlook(self) -> Outlook:
        return outlook(self._sites, self._clock)

    def security(self) -> Security:
        return self._security

    def certificates(self) -> Sequence[Certificate]:
        return self._settings.tls.certificates if self._settings.tls is not None else ()

    async def reload_tls(self) -> Sequence[Certificate]:
        """Read the certificates again; sessions that are open stay as they are. Raises ConfigErrors: the old ones
        stay in use."""
        async with self._reloading:
            tls = self._settings.config.tls
            try:
                context = await asyncio.to_thread(self._certificates.read, tls)
                if context is None:
                    raise TlsError("there is no certificate: set tls.cert and tls.key")
            except TlsError as error:
                self._certificates.problem = f"{error}; the certificates of before are in use"
                self._events.tls_refused(str(error))
                raise ConfigErrors([ConfigError("tls", str(error))]) from None
            self._certificates.problem = ""
            self._settings = settings = replace(self._settings, tls=context)
            self._inbound.renew_tls(context)
            if self._http is not None:
                self._http.update(self._admin(settings))
            for certificate in context.certificates:
                self._events.tls_loaded(certificate.cert, certificate.names, certificate.expires_at)
            return context.certificates

    async def drain_maildrop(self) -> int:
        return await self._maildrop.drain()

    def sessions(self) -> Sequence[SessionInfo]:
        return self._inbound.sessions()

    def close_session(self, number: int) -> bool:
        return self._inbound.close(number)

    def expand(self, address: str) -> tuple[str, ...]:
        return self._settings.directory.expand(address)

    def ids(self) -> Ids:
        return self._ids

    def usage(self, who: str) -> Sequence[Usage]:
        return self._inbound.usage(who)

    # Housekeeping

    def _came_in(self, at: float) -> None:
        """There is new mail, made at that time."""
        self._scheduler.came_in(at)

    def _client_context(self, mode: Mode) -> ssl.SSLContext:
        return client_context(mode, ca_file=self._settings.config.tls.server_ca)

    async def _care_for_tls(self) -> None:
        """What keeps the TLS of others in order, at times that hurry nobody."""
        await self._security.look()
        await self._security.policies.renew()

    async def _keep_counts(self) -> None:
        await self._security.policies.close()
        try:
            await self._tls_reports.flush()
            await self._chronicle.flush()
        except StoreError as error:
            self._events.store_trouble(str(error))

    async def _oldest_mail(self) -> float | None:
        return (await self._store.stats(self._clock())).oldest_at

    async def _sweep(self) -> None:
        # A file whose mail was accepted just before a crash is known by that mail: look there first, then forget.
        if not self._maildrop_seen:
            await self.drain_maildrop()
            self._maildrop_seen = True
        await self._housekeeping.sweep(self._settings.config)

    def _unraisable(self, what: "sys.UnraisableHookArgs") -> None:
        """What failed where nobody could be told: to the log, not to the terminal."""
        if isinstance(what.exc_value, UnicodeDecodeError) and isinstance(what.object, bytes):
            return  # a client asked for a name that is not ASCII; its handshake ends, and that is told
        if what.exc_value is not None:
            self._events.internal_error("unraisable", what.exc_value)

    async def _look_at_certificates(self) -> None:
        """Take over renewed certificates; say once a day which ones end soon."""
        if await self._certificates.renewed(self._settings.config.tls):
            with contextlib.suppress(ConfigErrors):  # told by the event
                await self.reload_tls()
        self._certificates.tell(self.certificates())
