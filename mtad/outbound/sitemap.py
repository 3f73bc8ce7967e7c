"""Which domain belongs to which site: by the plans that were made, as far as they are remembered. Bounded."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mtad.config import Config, SiteRule
from mtad.mail.envelope import Clock
from mtad.outbound.site import Site

SITES_MAX = 10_000
DOMAINS_MAX = 100_000  # of which we remember the site
WAYS_S = 3600.0  # without another way, and a domain that had several is one site's again


@dataclass(frozen=True, slots=True)
class Ways:
    """A domain that was seen to go to more than one site: by another sender's route, or its MX records changed.
    `newest` is the name of the one seen last, `since` when nothing else was. Its jobs wait at `planning` for their
    plans, which say where each goes."""

    newest: str
    since: float
    planning: Site


class SiteMap:
    """All sites, and the domains that go to them. The base of `mtad.outbound.sites.Sites`, which paces them."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._sites: dict[str, Site] = {}
        self._domains: dict[str, Site | Ways] = {}
        self._shut: dict[str, Site] = {}  # those that may be closed by breaker or warm-up: they are not forgotten

    def reload(self, config: Config) -> None:
        self._config = config
        for site in self._sites.values():
            site.rule = self._rule(site, site.domains)
        self._domains = {
            domain: site for domain, site in self._domains.items() if isinstance(site, Site) and not site.local
        }

    def of(self, domain: str) -> Site:
        """The site of a domain, as far as it is known."""
        match self._domains.get(domain):
            case Site() as site:
                return site
            case Ways() as ways:
                return ways.planning
            case None:
                return self._get(domain)

    def known(self, domain: str) -> bool:
        """Whether jobs for this domain are sure to go to the site that `of` says."""
        return isinstance(self._domains.get(domain), Site)

    def seen(self, domain: str) -> Site | None:
        """The site that `of` says, if anything is known of it."""
        return self.of(domain) if domain in self._domains else self._sites.get(domain)

    def learn(self, domain: str, name: str, hosts: Iterable[str]) -> Site:
        """A plan was made: mail for the domain goes to this site now; "" is this machine."""
        bound = self._domains.get(domain)
        if isinstance(bound, Site) and bound.name == (name or domain):
            return bound
        site = self._get(name or domain)
        site.local = not name
        if name:
            site.hosts = site.hosts or tuple(dict.fromkeys(host for host in hosts if host))[:10]
            site.rule = self._rule(site, (*site.domains, domain))
        now = self._clock()
        match bound:
            case None:
                self._bind(site, (domain,))
            case Site():
                bound.domains.discard(domain)
                rule = self._rule(site, (domain,))
                # No host has such a name, so its lane is nobody else's.
                planning = Site(f"{domain} plans", rule=rule, local=True, domains={domain})
                self._domains[domain] = Ways(site.name, now, planning)
            case Ways() if bound.newest != site.name:
                self._domains[domain] = replace(bound, newest=site.name, since=now)
            case Ways():
                if not 0 <= now - bound.since < WAYS_S:
                    self._bind(site, (domain,))
        return site

    def find(self, name: str) -> Site | None:
        """By a domain whose mail goes there, else by its own name, else by that of one of its hosts."""
        name = name.lower().removesuffix(".")
        bound = self._domains.get(name)
        site = bound if isinstance(bound, Site) else self._sites.get(name)
        return site or next((site for site in self._sites.values() if name in site.hosts), None)

    def named(self, name: str) -> Site | None:
        return self._sites.get(name)

    def _bind(self, site: Site, domains: Iterable[str]) -> None:
        for domain in tuple(domains):
            while len(self._domains) >= DOMAINS_MAX:
                oldest = next(iter(self._domains))
                before = self._domains.pop(oldest)
                if isinstance(before, Site):
                    before.domains.discard(oldest)
            self._domains[domain] = site
            site.domains.add(domain)

    def _get(self, name: str) -> Site:
        site = self._sites.get(name)
        if site is None:
            self._make_room()
            site = self._sites[name] = Site(name)
            site.rule = self._rule(site, (name,))
        return site

    def _make_room(self) -> None:
        while len(self._sites) >= SITES_MAX:
            idle = next((one for one in self._sites.values() if not one.running and one.name not in self._shut), None)
            if idle is None:
                return
            self._drop(idle)

    def _drop(self, site: Site) -> None:
        del self._sites[site.name]
        for domain in site.domains:
            self._domains.pop(domain, None)

    def _rule(self, site: Site, domains: Iterable[str]) -> SiteRule | None:
        return self.rule_of((*site.names, *domains)) if self._config.delivery.sites else None

    def rule_of(self, names: Iterable[str]) -> SiteRule | None:
        """The settings for a site that is known by these names, of hosts and domains."""
        rules = self._config.delivery.sites
        names = tuple(names)
        fit = [rule for rule in rules if any(f".{name}".endswith(f".{rule.match}") for name in names)]
        return max(fit, key=lambda rule: len(rule.match), default=None)
