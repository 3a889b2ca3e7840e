"""pytest's hooks: a few lines each, which delegate.

Nothing heavy is imported here: every pytest run pays for it, whether it uses us or not.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pytest_llmdeploy import hookspecs, options
from pytest_llmdeploy.fixtures import (
    blue_green,
    gate,
    llm_client,
    llm_env,
    llm_load,
    llm_service,
)
from pytest_llmdeploy.fixtures.cluster import kind_cluster, kubeconfig, namespace
from pytest_llmdeploy.markers import MARKERS
from pytest_llmdeploy.session import SESSION, LLMDeploySession

# Fixtures are found by being here.
__all__ = [
    "blue_green",
    "gate",
    "kind_cluster",
    "kubeconfig",
    "llm_client",
    "llm_env",
    "llm_load",
    "llm_service",
    "namespace",
]


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    options.add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    options.forget_env_value(early_config.known_args_namespace.file_or_dir, args)
    yield
    options.add_env_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    for line in MARKERS.values():
        config.addinivalue_line("markers", line)
    session = config.stash[SESSION] = LLMDeploySession(config)
    options.collect_config_file(config)
    config.pluginmanager.register(RunHooks(session), "llmdeploy-run")
    if config.pluginmanager.has_plugin("xdist") and session.is_controller:
        config.pluginmanager.register(XdistHooks(session), "llmdeploy-xdist")


def pytest_report_header(config: pytest.Config) -> list[str]:
    return options.header(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    session = parent.config.stash[SESSION]
    if not options.wants_file(session.config, file_path):
        return None
    from pytest_llmdeploy.collection.files import ConfigFile

    return ConfigFile.from_parent(parent, path=file_path, assembly=session.assembly)


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    if getattr(report, "llmdeploy_counted", False):
        return "missed", "m", "MISSED"
    return None


class RunHooks:
    """The hooks that need the run's session."""

    def __init__(self, session: LLMDeploySession) -> None:
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._session.note_selected(session.items)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._session.refuse_change(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        self._session.attach_verdict(item, call, report)
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        self._session.note_report(report)
        yield
        self._session.forget_report(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._session.note_collection(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._session.finish(session)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self._session.write_summary(terminalreporter)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        self._session.close()


class XdistHooks:
    """Lets xdist's workers take part in the controller's run."""

    def __init__(self, session: LLMDeploySession) -> None:
        self._session = session

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["llmdeploy"] = self._session.run.to_worker()
        if options.config_path(self._session.config).is_file():
            self._session.end_with_sigterm()
