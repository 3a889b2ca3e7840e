"""What a VirtualService and an HTTPRoute have in common as routers of a canary."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.kubernetes.api import Object
from pytest_llmdeploy.platforms.kubernetes.refusals import RefusedError
from pytest_llmdeploy.platforms.kubernetes.rights import Right
from pytest_llmdeploy.platforms.kubernetes.routing import rules
from pytest_llmdeploy.platforms.kubernetes.routing.objects import Spec, writer
from pytest_llmdeploy.platforms.kubernetes.routing.rules import Dialect, Rule, RulesError
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site, keep
from pytest_llmdeploy.platforms.kubernetes.snapshot import changes
from pytest_llmdeploy.ports import Finding, Route, Snapshot, other_color

ByHand = ("kubectl", "Mozilla", "helm", "before-first-apply")
"""Field managers of people, who are not at it all the time."""


class RuleRouter(ABC):
    """A route object whose rules split the traffic.

    Subclasses know the object's kind, and make what its rules lead to.
    """

    kind: str
    """``VirtualService``."""
    resource: str
    """Its name for kubectl: ``virtualservice.networking.istio.io``."""
    group: str
    versions: Sequence[str]
    """Versions of the group that will do, the best first."""
    plural: str
    rules_key: str

    def __init__(self, site: Site) -> None:
        self.site = site
        self._router = site.config.router
        self._route = self._router.route or site.names.service
        self._version: str | None = None

    @property
    def name(self) -> str:
        """What splits, for people."""
        return f"{self.kind} {self.site.names.namespace}/{self._route}"

    @property
    def has_header(self) -> bool:
        """Whether there is to be a header route."""
        return self._router.header is not None

    @property
    def splits_connections(self) -> bool:
        """No: a mesh sends each request by itself."""
        return False

    def read(self) -> Route:
        """Return what the rules say that the split is; the first one's where there are several."""
        found = self._get()
        if found is None:
            return Route({})
        dialect = self._dialect()
        with self._explained():
            return self._split_of(found["spec"], dialect)

    def prepare(self, stable: str, canary: str) -> None:
        """Make what the rules lead to, then the rules: weight 0, and the header route."""
        if self._make_places(stable, canary):
            self.site.settle()
        if self._get() is None:
            self.site.objects.make(self._path(), self._made(self._dialect(), stable))
        shares = {stable: 100, canary: 0}
        header = canary if self.has_header else None
        self._write(lambda rule, dialect: _headed(rule, dialect, shares, header))

    def set_weight(self, stable: str, canary: str, weight: int) -> int:
        """Give `canary` that percentage in all rules; the header route stays."""
        shares = {stable: 100 - weight, canary: weight}
        self._write(lambda rule, dialect: [rules.split(rule, dialect, shares)], keep_header=True)
        now = self.read().weights
        if now.get(canary, 0) != weight:
            raise PlatformError(
                f"{self.name}: {weight} % for {canary} was written, and the cluster says "
                f"{_shown(now)}"
            )
        return weight

    def promote(self, stable: str) -> None:
        """Let all requests go to `stable`, without header route; roles follow."""
        if self._get() is None:
            return
        self._before_rest(stable)
        changed = self._write(lambda rule, dialect: [rules.rest(rule, dialect, stable)])
        if changed:
            self.site.settle()
        self._relabel(stable)

    def snapshot(self) -> Snapshot:
        """Return the route, what its rules lead to, and the split in colours."""
        found = self._get()
        route = self.read() if found is not None else Route({})
        return {
            "router": self.kind,
            "route": keep(found),
            "weights": dict(route.weights),
            "header": route.header,
            "places": self._places(),
        }

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Give the weights back, by the colours' own names; the header route stays."""
        found, shares = self._get(), dict(snapshot["weights"])
        if found is None or not shares:
            return
        dialect = self._dialect()
        try:
            now = self._split_of(found["spec"], dialect)
        except RulesError:
            return  # somebody changed the rules themselves: `restore` brings them back
        if now.weights == shares or not self._can_aim(dialect, shares):
            return
        if len(shares) == 1:
            (stable,) = shares
            shares[other_color(stable)] = 0
        self._write(
            lambda rule, dialect: [rules.split(rule, dialect, shares)],
            keep_header=True,
            force=True,
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Bring the route back, then what its rules led to; what we made goes."""
        former: Mapping[str, Any] | None = snapshot["route"]
        if self._restore_route(former) and self.differences(snapshot):
            self.site.settle()
        self._restore_places(snapshot["places"])

    def _restore_route(self, former: Mapping[str, Any] | None) -> bool:
        path, present = self._path(), self._get()
        if former is None:
            return self.site.objects.remove(path)
        if present is None:
            self.site.recreate(path, former, f"{self.group}/{self._served()}", self.kind)
            return True
        dialect, names = self._dialect(), self._router.rules
        return self.site.objects.change(
            path,
            lambda spec: rules.put_back(former["spec"], spec, dialect, names),
            self._part(dialect),
            self.rules_key,
            force=True,
        )

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how our rules, and what they lead to, differ from the snapshot."""
        former = snapshot["route"]
        found, present = self.site.existence(self.name, former, self._path())
        if present is not None:
            dialect = self._dialect()
            back = rules.put_back(former["spec"], present["spec"], dialect, self._router.rules)
            key = self.rules_key
            found += [
                f"{self.name}: {text}" for text in changes(back[key], present["spec"][key], key)
            ]
        return [*found, *self._place_differences(snapshot["places"])]

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return kubectl commands: the route first, then what its rules lead to."""
        first = self.site.command_back(self.resource, self._route, snapshot["route"])
        return [first, *self._place_commands(snapshot["places"])]

    def preflight(self, stable: str, canary: str) -> Sequence[Finding]:
        """Return what speaks against splitting: rights, rules, what the server would refuse."""
        if self.site.version_of(self.group, self.versions) is None:
            text = f"the cluster has no {self.kind} ({self.group}): set canary.router.kind"
            return [Finding("router", text, fatal=True)]
        findings = list(self.site.rights(self.rights()))
        if findings:
            return findings
        try:
            findings += self._examine(stable, canary)
        except (RulesError, PlatformError) as error:
            said = f"{self.name}: {error}" if isinstance(error, RulesError) else str(error)
            findings.append(Finding("router", said, fatal=True))
        return findings

    def _examine(self, stable: str, canary: str) -> Iterator[Finding]:
        yield from self._examine_places(stable, canary)
        dialect = self._planned(stable)
        found = self._get()
        header = canary if self.has_header else None
        shares = {stable: 99, canary: 1}
        if found is None:
            body = self._made(dialect, stable)
            yield Finding("router", f"there is no {self.name} yet; it is made, and removed again")
        else:
            body = found
            yield from self._examine_route(found, dialect, stable)
        wanted = self._edited(
            body["spec"], dialect, lambda rule, dialect: _headed(rule, dialect, shares, header)
        )
        try:
            self.site.objects.rehearse(self._path(), lambda _: wanted, {**body, "spec": wanted})
        except RefusedError as error:
            yield Finding("router", f"the split would be refused: {error}", fatal=True)

    def _examine_route(self, found: Object, dialect: Dialect, stable: str) -> Iterator[Finding]:
        spec = found["spec"]
        all_rules = rules.rules_of(spec, dialect)
        indices = rules.chosen(all_rules, dialect, self._router.rules)
        weights = [rules.weights(all_rules[index], dialect) for index in indices]
        if any(one != weights[0] for one in weights):
            shown = "; ".join(map(_shown, weights))
            raise RulesError(f"its rules split differently ({shown}): a canary begins with one")
        if weights[0].get(stable) != 100:
            raise RulesError(
                f"it gives {_shown(weights[0])}, and {stable} is the running version: a canary "
                "begins where that has all; finish or take back the other release first"
            )
        if (said := self._status_lacks(found)) is not None:
            raise RulesError(
                f"its status is not well before anything was changed, and could not tell later "
                f"whether a weight has arrived: {said}"
            )
        manager = writer(found, self.rules_key)
        if manager is not None and not manager.startswith(ByHand):
            text = (
                f"{manager} wrote the rules of {self.name} last: what keeps them as they stand in "
                "a repository would undo weights; have it ignore them for the release"
            )
            yield Finding("router", text)

    def lacks(self) -> str | None:
        """Return what the status says is still to come; None where it has none, or all is well."""
        found = self._get()
        if found is None:
            return f"{self.name} does not exist"
        said = self._status_lacks(found)
        return None if said is None else f"{self.name}: {said}"

    # What subclasses know.

    @abstractmethod
    def _dialect(self) -> Dialect:
        """Return how rules are written in the cluster as it is."""

    @abstractmethod
    def _planned(self, stable: str) -> Dialect:
        """Return how rules will be written once the places are made."""

    @abstractmethod
    def _made(self, dialect: Dialect, stable: str) -> Object:
        """Return the route to make where there is none, with one rule, to the stable version."""

    @abstractmethod
    def _make_places(self, stable: str, canary: str) -> bool:
        """Make what the rules lead to, and see that it is there; return whether it was not."""

    @abstractmethod
    def _before_rest(self, stable: str) -> None:
        """See that what rules lead to between releases is there."""

    @abstractmethod
    def _relabel(self, stable: str) -> None:
        """Let roles follow a promotion."""

    @abstractmethod
    def _can_aim(self, dialect: Dialect, shares: Mapping[str, int]) -> bool:
        """Return whether there are places for these colours."""

    @abstractmethod
    def _places(self) -> dict[str, Any]:
        """Return the snapshot of what the rules lead to."""

    @abstractmethod
    def _restore_places(self, former: Mapping[str, Any]) -> None:
        """Bring what the rules lead to back."""

    @abstractmethod
    def _place_differences(self, former: Mapping[str, Any]) -> Iterator[str]:
        """Yield in words how what the rules lead to differs."""

    @abstractmethod
    def _place_commands(self, former: Mapping[str, Any]) -> Iterator[str]:
        """Yield the commands that bring it back."""

    @abstractmethod
    def _examine_places(self, stable: str, canary: str) -> Iterator[Finding]:
        """Yield what speaks against what the rules are to lead to."""

    @abstractmethod
    def rights(self) -> Sequence[Right]:
        """Return the rights that it needs."""

    @abstractmethod
    def _status_lacks(self, found: Object) -> str | None:
        """Return what a route's status says is still to come."""

    # What they share.

    def _served(self) -> str:
        if self._version is None:
            self._version = self.site.version_of(self.group, self.versions)
        if self._version is None:
            raise PlatformError(f"the cluster has no {self.kind} ({self.group})")
        return self._version

    def _object_path(self, plural: str, name: str) -> str:
        return self.site.names.group(f"{self.group}/{self._served()}", plural, name)

    def _path(self) -> str:
        return self._object_path(self.plural, self._route)

    def _get(self) -> Object | None:
        return self.site.objects.get(self._path())

    def _part(self, dialect: Dialect) -> Callable[[Spec], object]:
        def part(spec: Spec) -> object:
            try:
                return rules.ours(spec, dialect, self._router.rules)
            except RulesError:
                return rules.rules_of(spec, dialect)

        return part

    def _split_of(self, spec: Spec, dialect: Dialect) -> Route:
        all_rules = rules.rules_of(spec, dialect)
        indices = rules.chosen(all_rules, dialect, self._router.rules)
        weights = rules.weights(all_rules[indices[0]], dialect)
        return Route(weights, rules.header_color(all_rules, dialect, indices))

    def _edited(
        self,
        spec: Spec,
        dialect: Dialect,
        edit: Callable[[Rule, Dialect], Sequence[Rule]],
        *,
        keep_header: bool = False,
    ) -> Spec:
        """Return the spec with each of our rules edited; header routes go, unless kept."""
        all_rules = rules.rules_of(spec, dialect)
        indices = rules.chosen(all_rules, dialect, self._router.rules)
        for index in indices:
            rules.weights(all_rules[index], dialect)  # its targets are ours, or it raises
        edited: dict[int, Sequence[Rule]] = {}
        if not keep_header:
            edited = {index: [] for index in rules.headers_of(all_rules, dialect)}
        edited |= {index: edit(all_rules[index], dialect) for index in indices}
        return rules.with_rules(spec, dialect, edited)

    def _write(
        self,
        edit: Callable[[Rule, Dialect], Sequence[Rule]],
        *,
        keep_header: bool = False,
        force: bool = False,
    ) -> bool:
        dialect = self._dialect()

        def change(spec: Spec) -> Spec:
            with self._explained():
                return self._edited(spec, dialect, edit, keep_header=keep_header)

        part = self._part(dialect)
        return self.site.objects.change(self._path(), change, part, self.rules_key, force=force)

    def _explained(self) -> _Explained:
        return _Explained(self.name)


class _Explained:
    """Turns a RulesError into one that names the route."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, RulesError):
            raise ConflictError(f"{self._name}: {error}") from error


def _headed(
    rule: Rule, dialect: Dialect, shares: Mapping[str, int], header: str | None
) -> list[Rule]:
    result = rules.split(rule, dialect, shares)
    return [result] if header is None else [dialect.header_rule(result, header), result]


def _shown(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{color} {weight} %" for color, weight in weights.items()) or "nothing"
