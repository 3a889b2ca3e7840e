"""`LocalRouter`: the `Router` port, by a split in the fleet's desired state that Envoy is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from pytest_llmdeploy.config.canary import RouterConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.local_fleet.client import Client
from pytest_llmdeploy.platforms.local_fleet.desired import Desired, HeaderRoute, Split
from pytest_llmdeploy.platforms.local_fleet.routing import EnvoyAdmin, read_version
from pytest_llmdeploy.ports import COLORS, Finding, Route, Snapshot

_ALL = 100
Change = Callable[[Callable[[Desired], Desired]], Desired]


class LocalRouter:
    """Splits the traffic of a local fleet.

    A split that somebody else wrote since this object last wrote or took a snapshot is a conflict;
    the way back goes ahead in any case. Between releases there is no split, and the selected colour
    has all the traffic.
    """

    def __init__(
        self,
        config: RouterConfig,
        client: Client,
        admin: EnvoyAdmin,
        *,
        change: Change,
        service: str,
        environment_name: str,
    ) -> None:
        """`change` makes a new desired state, provided that nobody has taken the release over."""
        self._config = config
        self._client = client
        self._admin = admin
        self._change = change
        self._service = service
        self._environment_name = environment_name
        self._knows = False
        """Whether `_left` means anything."""
        self._left: Split | None = None
        """The split as this object last left or found it."""

    @property
    def name(self) -> str:
        """The data plane, for people."""
        return f"Envoy of {self._service}"

    @property
    def has_header(self) -> bool:
        """Whether a header route is wanted."""
        return self._config.header is not None

    @property
    def splits_connections(self) -> bool:
        """No: each request is sent by itself."""
        return False

    def preflight(self, stable: str, canary: str) -> Sequence[Finding]:  # noqa: ARG002 - the port's
        """Return whether Envoy answers, and whether the traffic is where a release starts from."""
        desired, status = self._client.state()
        version = read_version(self._admin.routes(status))
        found = [Finding("router", f"{self.name} answers, with routes {version}")]
        if desired.selector != stable:
            text = f"the service's name leads to {desired.selector}, not to {stable}"
            found.append(Finding("router", text, fatal=True))
        if desired.split is not None:
            shown = _shown(desired.split)
            found.append(Finding("router", f"a split is there already: {shown}"))
        return found

    def read(self) -> Route:
        """Return the wanted split; `lacks` tells whether Envoy has it."""
        desired = self._client.desired()
        header = desired.split.header if desired.split else None
        weights = desired.weights if any(desired.weights.values()) else {}
        return Route(dict(weights), header.color if header else None)

    def prepare(self, stable: str, canary: str) -> None:
        """Split with nothing for `canary` but the requests with the header."""
        config = self._config
        header = None
        if config.header is not None:
            header = HeaderRoute(config.header, config.header_value, canary)
        self._write(lambda _: Split({stable: _ALL, canary: 0}, header))

    def set_weight(self, stable: str, canary: str, weight: int) -> int:
        """Give `canary` the weight; raise PlatformError where nothing was prepared."""

        def split(desired: Desired) -> Split:
            if desired.split is None and self._left is None:
                raise PlatformError(f"{self.name} has no split to change: it must be prepared")
            if desired.split is None:
                raise self._conflict(None)
            return replace(desired.split, weights={stable: _ALL - weight, canary: weight})

        self._write(split)
        return weight

    def lacks(self) -> str | None:
        """Return what Envoy has not loaded yet, by the version that it says its routes have."""
        desired, status = self._client.state()
        if status.seen < desired.version:
            return "the supervisor has not taken up the change"
        has = read_version(self._admin.routes(status))
        if has == str(status.routes):
            return None
        return f"Envoy has routes {has}, not {status.routes}; why, its log tells"

    def promote(self, stable: str) -> None:
        """End the split; where another colour than `stable` is selected, only once that is."""
        weights = {color: _ALL if color == stable else 0 for color in COLORS}
        self._write(lambda _: Split(weights), settle=True)

    def snapshot(self) -> Snapshot:
        """Return the present split; what others changed until now is none of a release's."""
        desired = self._client.desired()
        self._remember(desired)
        return {"weights": dict(desired.weights), "split": _plain(desired.split)}

    def restore_weights(self, snapshot: Snapshot) -> None:
        """Give the weights back, whoever changed them, and whatever is selected."""

        def change(desired: Desired) -> Desired:
            if desired.split is None and desired.weights == snapshot["weights"]:
                return desired
            header = desired.split.header if desired.split else None
            return replace(desired, split=Split(snapshot["weights"], header))

        self._remember(self._change(change))

    def restore(self, snapshot: Snapshot) -> None:
        """Bring the split back, or end it, whoever changed it.

        Where another colour is selected than was, a split keeps the traffic where it was, until the
        fleet's own way back has selected that.
        """

        def change(desired: Desired) -> Desired:
            if snapshot["split"] is not None:
                return replace(desired, split=Split.from_json(snapshot["split"]))
            return replace(desired, split=Split(snapshot["weights"])).settled()

        self._remember(self._change(change))

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the split differs."""
        now = self._client.desired().split
        if _plain(now) == snapshot["split"]:
            return []
        then = None if snapshot["split"] is None else Split.from_json(snapshot["split"])
        return [f"the split is {_shown(now)}, not {_shown(then)}"]

    def commands(self, snapshot: Snapshot) -> Sequence[str]:  # noqa: ARG002 - the port's
        """Return what a person can type."""
        return [f"llmdeploy rollback --env {self._environment_name}"]

    def _write(self, split: Callable[[Desired], Split], *, settle: bool = False) -> None:
        def change(desired: Desired) -> Desired:
            after = replace(desired, split=split(desired))
            after = after.settled() if settle else after
            if self._knows and desired.split not in (self._left, after.split):
                raise self._conflict(desired.split)
            return after

        self._remember(self._change(change))

    def _conflict(self, found: Split | None) -> ConflictError:
        return ConflictError(
            f"somebody else has changed how {self.name} splits the traffic: {_shown(found)} now, "
            f"{_shown(self._left)} as this release left it"
        )

    def _remember(self, desired: Desired) -> None:
        self._knows = True
        self._left = desired.split


def _plain(split: Split | None) -> dict[str, object] | None:
    return None if split is None else asdict(split)


def _shown(split: Split | None) -> str:
    if split is None:
        return "none"
    text = ", ".join(f"{color} {weight} %" for color, weight in sorted(split.weights.items()))
    if split.header is None:
        return text
    return f"{text}, {split.header.header}: {split.header.value} to {split.header.color}"
