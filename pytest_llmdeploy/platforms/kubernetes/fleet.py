"""ports.Fleet on Kubernetes: a Deployment for each colour, a Service that selects one of them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_llmdeploy.config.canary import CanaryConfig
from pytest_llmdeploy.config.models import ServiceConfig
from pytest_llmdeploy.config.release import BlueGreenConfig
from pytest_llmdeploy.errors import ConflictError, PlatformError
from pytest_llmdeploy.platforms.existing import ExistingPlatform
from pytest_llmdeploy.platforms.kubernetes import evidence, manifests
from pytest_llmdeploy.platforms.kubernetes import snapshot as states
from pytest_llmdeploy.platforms.kubernetes.api import FIELD_MANAGER, PATIENCE, Api, Object
from pytest_llmdeploy.platforms.kubernetes.endpoints import SERVICE_LABEL, endpoints
from pytest_llmdeploy.platforms.kubernetes.entry import discover
from pytest_llmdeploy.platforms.kubernetes.journal import ConfigMapJournal
from pytest_llmdeploy.platforms.kubernetes.lease import LeaseLock
from pytest_llmdeploy.platforms.kubernetes.names import APP, Names, selector_text
from pytest_llmdeploy.platforms.kubernetes.pods import (
    is_ready,
    labels,
    main_container,
    to_pod,
)
from pytest_llmdeploy.platforms.kubernetes.portforward import forwarded
from pytest_llmdeploy.platforms.kubernetes.preflight import Plan, autoscaler_targets, examine
from pytest_llmdeploy.platforms.kubernetes.reach import reached
from pytest_llmdeploy.platforms.kubernetes.refusals import TakenError, UnclearError
from pytest_llmdeploy.platforms.kubernetes.rollout import Seen, judge
from pytest_llmdeploy.platforms.kubernetes.routing.choosing import choose
from pytest_llmdeploy.platforms.kubernetes.routing.replicas import Scaling
from pytest_llmdeploy.platforms.kubernetes.routing.site import Site
from pytest_llmdeploy.platforms.kubernetes.traffic import Traffic
from pytest_llmdeploy.platforms.kubernetes.transport import (
    KubernetesTransport,
    LateTransport,
    Transport,
    require_client,
)
from pytest_llmdeploy.ports import (
    COLORS,
    Endpoint,
    Finding,
    Pod,
    Rollout,
    Router,
    Service,
    Snapshot,
)
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.waiting import Clock

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,40}[a-z0-9])?")
EVIDENCE_PATIENCE = 2.0
LOG_TAIL = 10
ATTEMPTS = 5


class KubernetesFleet:
    """The versions of the service `name` in one namespace of one context's cluster.

    `environment` is what the containers' variable ENVIRONMENT says; `url` is where users reach the
    service (without it the Service's load balancer or node port is looked for); `node_port` makes
    a Service that has to be created one of type NodePort. `patience` is for how many seconds a
    request that may be repeated is, while the API server is away or overloaded.
    """

    def __init__(
        self,
        *,
        kubeconfig: Sequence[Path],
        context: str,
        namespace: str,
        name: str,
        environment: str,
        config: BlueGreenConfig,
        service: ServiceConfig,
        root: Path,
        redact: Redactor,
        url: str | None = None,
        node_port: int | None = None,
        patience: float = PATIENCE,
        transport: Transport | None = None,
        clock: Clock = time,
    ) -> None:
        if not _LABEL.fullmatch(name):
            raise PlatformError(
                f"'{name}' cannot be a Service's name: set blue_green.name to small letters, "
                "digits and hyphens, beginning with a letter"
            )
        self._kubectl = ["kubectl", "--context", context, "--namespace", namespace]
        if len(kubeconfig) == 1:
            self._kubectl[1:1] = ["--kubeconfig", str(kubeconfig[0])]
        self._environment = environment
        self._config = config
        self._service_config = service
        self._root = root
        self._redact = redact
        self._url = url
        self._own = manifests.read_manifest(root / config.manifest) if config.manifest else None
        self._names = Names(namespace, name)
        require_client()
        self._transport = transport or LateTransport(
            lambda: KubernetesTransport(kubeconfig, context)
        )
        self._api = Api(self._transport, patience=patience, clock=clock)
        self._clock = clock
        self._traffic = Traffic(self._api, self._names, config, node_port, clock)
        self._generations: dict[str, int] = {}
        """The Deployments' generations that our latest writes returned, by colour."""
        self.lock = LeaseLock(self._api, self._names)
        self.journal = ConfigMapJournal(self._api, self._names)

    def entry(self) -> Service:
        """Return the service as its users reach it; the stable version runs behind it."""
        url = self._url or discover(self._api, self._names)
        return ExistingPlatform(url, self._service_config, self._root).service()

    def preflight(self, color: str, image: str) -> Sequence[Finding]:
        """Return what speaks against deploying `image` as `color`, and what is worth knowing."""
        manifest = self._manifest(color, image, {})

        def rehearse() -> None:
            self._apply(color, manifest, dry_run=True)

        return examine(self._api, self._names, Plan(color, image, manifest, rehearse))

    def color(self) -> str | None:
        """Return the colour that the Service's selector names; None where it names none of ours."""
        return self._traffic.color()

    def image(self, color: str) -> str | None:
        """Return the image of a colour's replicas; None where nothing is deployed there."""
        found = self._deployment(color)
        if found is None:
            return None
        pod = found["spec"]["template"]["spec"]
        return str(main_container(pod, self._names.service)["image"])

    def deploy(self, color: str, image: str, variables: Mapping[str, str]) -> None:
        """Create or update a colour's Deployment by server-side apply; returns before it is up."""
        self.lock.check()
        manifest = self._manifest(color, image, variables)
        if color in self._autoscaled() and (present := self._deployment(color)) is not None:
            # What the autoscaler decided is not ours to change.
            manifest["spec"]["replicas"] = present["spec"]["replicas"] or self._config.replicas
        applied = self._apply(color, manifest)
        self._note(color, applied)

    def rollout(self, color: str) -> Rollout:
        """Return how far the latest `deploy` or `scale` of a colour has come."""
        found = self._deployment(color)
        if found is None:
            title = self._names.deployment_name(color)
            gone = f"Deployment {title} does not exist"
            return Rollout(0, 0, 0, complete=False, waiting_for=gone, failure=gone)
        selector = selector_text(self._names.labels(color))
        replica_sets = self._names.group("apps/v1", "replicasets")
        pods = self._pods(color)
        seen = Seen(
            deployment=found,
            replica_sets=self._api.items(replica_sets, labelSelector=selector),
            pods=pods,
            events=[event for pod in pods if not is_ready(pod) for event in self._events(pod)],
            now=self._api.now(),
        )
        generation = self._generations.get(color, int(found["metadata"]["generation"]))
        return judge(seen, generation, self._last_lines)

    def pods(self, color: str) -> Sequence[Pod]:
        """Return the replicas of a colour, those that are terminating too."""
        return [to_pod(pod, self._names.service) for pod in self._pods(color)]

    def direct(self, pod: str) -> AbstractContextManager[str]:
        """Lead to one replica through the API server: yields an address of this machine."""
        return forwarded(self._api, self._names, pod, self._config.port)

    def router(self, config: CanaryConfig) -> Router:
        """Return what splits the requests between the colours, by `canary.router`."""
        return choose(
            Site(
                api=self._api,
                names=self._names,
                config=config,
                kubectl=self._kubectl,
                check_lock=self.lock.check,
                clock=self._clock,
            ),
            Scaling(
                fleet=self,
                traffic=self._traffic,
                ready=self._require_ready,
                full=self._config.replicas,
                timeout=self._config.rollout_timeout,
                autoscaled=self._autoscaled,
            ),
        )

    def reach(self, namespace: str, service: str, port: int) -> AbstractContextManager[str]:
        """Lead to a port of any Service in the cluster, by one of its ready pods."""
        return reached(self._api, Names(namespace, service), port)

    def stats_addresses(self) -> Sequence[str]:
        """Return nothing: what a gateway counts is asked of a Prometheus."""
        return ()

    def switch(self, old: str | None, new: str) -> None:
        """Let the Service lead to `new`, provided that it leads to `old` now."""
        self.lock.check()
        self._traffic.switch(old, new, self._require_ready)

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the pods that the Service leads to now, by its EndpointSlices."""
        selector = f"{SERVICE_LABEL}={self._names.service}"
        path = self._names.group("discovery.k8s.io/v1", "endpointslices")
        slices = self._api.items(path, labelSelector=selector)
        pods = self._api.items(
            self._names.core("pods"), labelSelector=f"{APP}={self._names.service}"
        )
        return endpoints(slices, pods)

    def scale(self, color: str, replicas: int) -> None:
        """Change the number of replicas; returns before that has happened."""
        self.lock.check()
        if replicas == 0:
            self._require_no_traffic(color)
        operation = {"op": "replace", "path": "/spec/replicas", "value": replicas}
        path = self._names.deployment(color)
        self._note(color, self._api.patch(path, [operation], repeat=True))

    def delete(self, color: str) -> None:
        """Remove a colour's Deployment; its pods finish what they are answering."""
        self.lock.check()
        self._require_no_traffic(color)
        self._api.delete(self._names.deployment(color))

    def snapshot(self) -> Snapshot:
        """Return the Service and both Deployments, without what the server sets."""
        deployments = {color: self._deployment(color) for color in COLORS}
        return states.take(self._traffic.service(), deployments, self._autoscaled())

    def restore_traffic(self, snapshot: Snapshot) -> None:
        """Let the Service select what the snapshot says, also where it was deleted meanwhile."""
        self.lock.check()
        self._traffic.restore(snapshot["service"])

    def restore_replicas(self, snapshot: Snapshot) -> None:
        """Bring both Deployments back to the snapshot; returns before their pods are ready."""
        self.lock.check()
        former = snapshot["deployments"]
        # What was there comes first: nothing is deleted before it.
        for color in sorted(COLORS, key=lambda color: former.get(color) is None):
            self._restore(color, snapshot)

    def differences(self, snapshot: Snapshot) -> Sequence[str]:
        """Return in words how the present state differs from the snapshot; empty: not at all."""
        return states.differences(snapshot, self.snapshot(), self._names)

    def commands(self, snapshot: Snapshot) -> Sequence[str]:
        """Return kubectl commands with which a person can bring the snapshot's state back."""
        return states.commands(snapshot, self._names, self._kubectl)

    def evidence(self, colors: Sequence[str]) -> Mapping[str, str]:
        """Return what tells why a step failed: file name to text. Never raises."""
        hasty = Api(self._transport, patience=EVIDENCE_PATIENCE)
        return evidence.collect(hasty, self._names, colors, self._redact)

    def close(self) -> None:
        """Release connections; what is deployed stays, and a lease that is held goes stale."""
        self.lock.close()
        self._api.close()

    def _deployment(self, color: str) -> Object | None:
        return self._api.get(self._names.deployment(color))

    def _autoscaled(self) -> list[str]:
        targets = autoscaler_targets(self._api, self._names)
        return [color for color in COLORS if self._names.deployment_name(color) in targets]

    def _pods(self, color: str) -> list[Object]:
        selector = selector_text(self._names.labels(color))
        return self._api.items(self._names.core("pods"), labelSelector=selector)

    def _events(self, pod: Object) -> list[Object]:
        selector = f"involvedObject.uid={pod['metadata']['uid']}"
        return self._api.items(self._names.core("events"), fieldSelector=selector)

    def _last_lines(self, pod: str, container: str) -> str:
        path = f"{self._names.core('pods', pod)}/log"
        query = {"container": container, "tailLines": str(LOG_TAIL)}
        for previous in ("true", "false"):
            try:
                if text := self._api.text(path, previous=previous, **query):
                    return self._redact(text)
            except PlatformError:
                continue  # it has no previous container, or none yet
        return ""

    def _note(self, color: str, written: Object) -> None:
        self._generations[color] = int(written["metadata"]["generation"])

    def _manifest(self, color: str, image: str, variables: Mapping[str, str]) -> Object:
        ours = {
            "ENVIRONMENT": self._environment,
            "COLOR": color,
            **self._config.variables,
            **variables,
        }
        return manifests.deployment(
            self._names, color, image, config=self._config, variables=ours, own=self._own
        )

    def _apply(self, color: str, body: Object, *, dry_run: bool = False) -> Object:
        path = self._names.deployment(color)
        try:
            return self._api.apply(path, body, dry_run=dry_run)
        except TakenError as error:
            # What we scaled or restored by other requests counts as another manager's.
            if set(error.managers) != {FIELD_MANAGER}:
                raise
            return self._api.apply(path, body, force=True, dry_run=dry_run)

    def _require_ready(self, color: str, selector: Mapping[str, str]) -> None:
        found = self._deployment(color)
        desired = int(found["spec"].get("replicas") or 0) if found else 0
        ready = [
            pod
            for pod in self._pods(color)
            if is_ready(pod) and selector.items() <= labels(pod).items()
        ]
        if not desired or len(ready) < desired:
            raise PlatformError(
                f"{len(ready)} of {desired} replicas of {color} are ready and would be selected: "
                "the Service stays as it is"
            )

    def _require_no_traffic(self, color: str) -> None:
        if self._traffic.leads_to(color):
            raise ConflictError(
                f"Service {self._names.service} leads to {color}: its replicas are not removed"
            )

    def _restore(self, color: str, snapshot: Snapshot) -> None:
        path, title = self._names.deployment(color), self._names.deployment_name(color)
        for _ in range(ATTEMPTS):
            present = self._deployment(color)
            former = states.former_state(snapshot, color, present)
            if former is None:
                if present is not None:
                    self._require_no_traffic(color)
                    self._api.delete(path)
                return
            if present is not None and states.is_same(former, present):
                return
            try:
                if present is None:
                    body = states.recreated(former, "Deployment", title)
                    written = self._api.create(self._names.group("apps/v1", "deployments"), body)
                else:
                    written = self._api.replace(path, states.returned(former, present))
            except (UnclearError, TakenError):
                continue  # look again what is there now
            self._note(color, written)
            return
        raise ConflictError(f"Deployment {title} is written by somebody else all the time")
