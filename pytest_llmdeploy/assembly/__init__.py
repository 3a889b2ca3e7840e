"""Plugs adapters into stages, once per process and on first use.

Collection and fixtures both build on it, so that they meet the same service, engine and settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_llmdeploy.assembly.fleets import end_fleets
from pytest_llmdeploy.assembly.gate_plans import GatePlan
from pytest_llmdeploy.assembly.recoveries import await_workers, finish_interrupted
from pytest_llmdeploy.assembly.releases import Releases
from pytest_llmdeploy.assembly.targets import check_target, digest, load_target, service_at
from pytest_llmdeploy.checks.exchange import Target
from pytest_llmdeploy.checks.measure import measure_smoke
from pytest_llmdeploy.checks.smoke import smoke_checks
from pytest_llmdeploy.config.load import LoadConfig
from pytest_llmdeploy.config.loader import LoadedConfig, load_config
from pytest_llmdeploy.errors import (
    ConfigError,
    MissingExtraError,
    NotBegunError,
    NotMeasuredError,
    PlatformError,
)
from pytest_llmdeploy.models.openai_chat import Endpoint
from pytest_llmdeploy.platforms.existing import ExistingPlatform
from pytest_llmdeploy.platforms.fleet_entry import FleetPlatform
from pytest_llmdeploy.platforms.local import LocalPlatform, stop_all
from pytest_llmdeploy.ports import Platform, Service
from pytest_llmdeploy.redaction import Redactor
from pytest_llmdeploy.run import Run
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from pytest_llmdeploy.gates.assertions import AssertionRegistry
    from pytest_llmdeploy.gates.baseline import Baseline
    from pytest_llmdeploy.gates.engine import GateEngine
    from pytest_llmdeploy.gates.store import Result
    from pytest_llmdeploy.load.run import LoadRun, Subject

STOP_TIMEOUT = 60.0
"""Seconds to wait for started services to end; each has its own stop_timeout and is killed then."""


class Assembly:
    """The stages of this process, with the adapters that the chosen environment needs."""

    def __init__(self, run: Run, register_assertions: Callable[[AssertionRegistry], None]) -> None:
        self.run = run
        self._register_assertions = register_assertions
        self._loaded: dict[Path, LoadedConfig] = {}
        self._platforms: dict[Path, Platform] = {}
        self._services: dict[Path, Service] = {}
        self._broken: dict[Path, str] = {}
        """Why a service could not be started, or has ended, in one line."""
        self._baselines: dict[Path, Baseline] = {}
        self._plans: dict[tuple[Path, str], GatePlan] = {}
        self._registry: AssertionRegistry | None = None
        self._engine: GateEngine | None = None
        self._asked = count(1)
        self.redact = Redactor(())
        """Hides the secrets of every file loaded so far."""
        self.while_waiting: Callable[[Callable[[], str]], None] = lambda _line: None
        """Called now and then while an item waits, with what makes a line about it."""
        self.releases = Releases(run, lambda: self.while_waiting, self.ask_cases)

    @property
    def default(self) -> LoadedConfig | None:
        """The first file loaded; None before any was."""
        return next(iter(self._loaded.values()), None)

    def load(self, path: Path) -> LoadedConfig:
        """Return the file's settings for the run's environment; raise ConfigError."""
        path = path.absolute()
        if path not in self._loaded:
            loaded = self._loaded[path] = load_config(path, self.run.environment)
            self.redact = Redactor({*self.redact.secrets, *loaded.redactor.secrets})
            if str(loaded.root) not in sys.path:
                sys.path.append(str(loaded.root))  # where python assertions are looked for
        return self._loaded[path]

    def service(self, loaded: LoadedConfig) -> Service:
        """Return the running service of the environment; raise PlatformError."""
        if loaded.path in self._broken:
            raise PlatformError(self._broken[loaded.path])
        if loaded.path not in self._platforms:
            self.run.prepare()
            self._platforms[loaded.path] = self._platform(loaded)
        try:
            self._services[loaded.path] = self._platforms[loaded.path].service()
        except PlatformError as error:
            # Told at length once; a hundred items need not repeat a log.
            first = str(error).partition("\n")[0]
            self._broken[loaded.path] = f"{first} (more at the first error of the run)"
            raise
        return self._services[loaded.path]

    @contextmanager
    def explaining(self, loaded: LoadedConfig) -> Iterator[None]:
        """Let an end of the started service explain why something could not be measured."""
        try:
            yield
        except PlatformError:
            raise
        except NotMeasuredError:
            self.service(loaded)  # raises where the service has ended
            raise

    def service_if_known(self, loaded: LoadedConfig) -> Service | None:
        """Return the service, but start nothing."""
        return self._services.get(loaded.path)

    def _platform(self, loaded: LoadedConfig) -> Platform:
        environment = loaded.environment
        if environment.url is not None:
            return ExistingPlatform(environment.url, loaded.service, loaded.root)
        if environment.platform != "local":
            return FleetPlatform(self.releases.fleet(loaded))
        return LocalPlatform(
            name=f"{loaded.environment_name}-{digest(loaded)}",
            environment=environment,
            service=loaded.service,
            root=loaded.root,
            folder=services_folder(self.run),
            owner=self.run.owner,
            redact=loaded.redactor,
        )

    def target(self, loaded: LoadedConfig) -> Target:
        """Return what health and smoke checks talk to."""
        return check_target(loaded, self.service(loaded))

    def load_run(
        self, loaded: LoadedConfig, name: str, config: LoadConfig | None = None
    ) -> LoadRun:
        """Return one load run, ready to be asked; raise MissingExtraError.

        `config` is for a run that the file does not have.
        """
        from pytest_llmdeploy.load.run import LoadRun

        for module in ("zstandard", "locust"):  # looked for only: the second is never imported here
            if find_spec(module) is None:
                raise MissingExtraError(f"load '{name}'", "load", module)
        config = config or loaded.load[name]
        return LoadRun(
            name=name,
            config=config,
            environment_name=loaded.environment_name,
            environment=loaded.environment,
            root=loaded.root,
            folder=self.run.prepare() / "records" / "load" / self._record_name(loaded, name),
            subject=partial(self._load_subject, loaded, config),
            redact=loaded.redactor,
            waiting=self.while_waiting,
        )

    def _record_name(self, loaded: LoadedConfig, name: str) -> str:
        """Return a folder's name; two files of one run can have load runs of the same name."""
        if loaded is self.default:
            return name
        return f"{name}-{digest(loaded)}"

    def _load_subject(self, loaded: LoadedConfig, config: LoadConfig) -> Subject:
        """Return what load is put on; raise NotBegunError where it fails its smoke checks."""
        from pytest_llmdeploy.load.run import Subject

        service = self.service(loaded)
        for check in smoke_checks(loaded.smoke, loaded.service, loaded.environment.url):
            smoke = measure_smoke(self.target(loaded), check)
            if smoke.verdict is not Verdict.PASS:
                raise NotBegunError(f"smoke check '{check.title}' fails: {smoke.reason}")
        services = [service]
        if config.compare and config.compare.url:
            services.append(service_at(loaded, config.compare.url.rstrip("/")))
        return Subject(
            name=loaded.service.name,
            url=service.url,
            scripted=service.scripted,
            targets=tuple(load_target(loaded, each) for each in services),
        )

    @staticmethod
    def endpoint(loaded: LoadedConfig, service: Service) -> Endpoint:
        """Return the service's chat endpoint, with the key and the headers of the file."""
        config = loaded.service
        return Endpoint(
            base_url=service.api_url,
            model=config.model,
            api_key=config.api_key,
            headers=config.headers,
            version_header=config.version_header,
            verify_tls=config.verify_tls,
            ca_file=config.ca_path(loaded.root),
        )

    @property
    def registry(self) -> AssertionRegistry:
        """The assertion types: the built-in ones and those of pytest_llmdeploy_assertions."""
        if self._registry is None:
            from pytest_llmdeploy.gates.assertions import AssertionRegistry

            self._registry = AssertionRegistry()
            self._register_assertions(self._registry)
        return self._registry

    def baseline(self, loaded: LoadedConfig) -> Baseline | None:
        """Return what the run's gates are held against; None where nothing was named.

        Raises NotMeasuredError, again each time, where it cannot be read.
        """
        if self.run.baseline is None:
            return None
        if loaded.root not in self._baselines:
            from pytest_llmdeploy.assembly.baselines import find_baseline

            self._baselines[loaded.root] = find_baseline(self.run.baseline, loaded.root)
        return self._baselines[loaded.root]

    def gate_plan(self, loaded: LoadedConfig, name: str) -> GatePlan:
        """Return one gate, its cases loaded and checked; raise ConfigError."""
        key = (loaded.path, name)
        if key not in self._plans:
            try:
                self._plans[key] = GatePlan(self, loaded, name, loaded.gates[name])
            except ConfigError as error:
                raise error.redacted(loaded.redactor) from None
        return self._plans[key]

    def ask_cases(
        self, loaded: LoadedConfig, name: str, url: str, most: int | None
    ) -> Mapping[str, Result]:
        """Ask the first cases of a gate at an address; return the results by case.

        They are asked anew each time: who answers there may have changed, for ports are used again.
        """
        if self.run.replay.strict:
            raise NotMeasuredError(
                f"gate '{name}' asks the version that is released, which no recorded answer comes"
                " from: release without --llmdeploy-replay strict"
            )
        asker = f"{self.run.worker or 'main'} {next(self._asked)}"
        plan = GatePlan(
            self,
            loaded,
            name,
            loaded.gates[name],
            key=f"{loaded.path}::{name} at {url} ({asker})",
            service=service_at(loaded, url),
        )
        plan.wanted = list(plan.suite.cases)[:most]
        return {case: plan.result(case) for case in plan.wanted}

    @property
    def engine(self) -> GateEngine:
        """The engine that asks the cases of all gates."""
        if self._engine is None:
            from pytest_llmdeploy.gates.answers import answers_file
            from pytest_llmdeploy.gates.engine import GateEngine

            record = self.run.prepare() / "records" / "gates.sqlite"
            pulse = self.run.process_pulse_path
            replay = self.run.replay
            self._engine = GateEngine(
                record,
                pulse,
                self.run.worker_count,
                replay=answers_file(replay.answers) if replay.strict else None,
                answers=replay.answers if replay.mode == "record" else None,
            )
        return self._engine

    def close(self, finish: Callable[[], bool] = lambda: False) -> list[str]:
        """End the engine, and releases that are under way; return what has to be said of those.

        Services live until the controller stops them. Requests in flight are awaited while `finish`
        returns true.
        """
        said = self.releases.close()
        if self._engine is not None:
            self._engine.close(finish)
            self._engine = None
        return said


def services_folder(run: Run) -> Path:
    """Return where the started services of a run keep their logs."""
    return run.output / "services"


def end_run(run: Run) -> list[str]:
    """Undo what was left half done, and end what the run started; return what has to be said."""
    said = [*await_workers(run), *finish_interrupted(run.output)]
    said += [
        f"a started service has not ended; its guardian's pid is in {pulse}"
        for pulse in stop_all(services_folder(run), STOP_TIMEOUT)
    ]
    return [*said, *end_fleets(run.output, run.id, keep=run.keep)]
