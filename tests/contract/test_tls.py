"""Health, smoke and gates over https: who is believed, and what is said to those who are not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
import uvicorn

from pytest_llmdeploy.reference.app import Service
from pytest_llmdeploy.reference.engines import make_engine
from pytest_llmdeploy.reference.faults import FaultBook
from pytest_llmdeploy.reference.settings import read_settings
from tests.plugin.conftest import Project

CONFIG = """
service:
  timeout: 20
  %s
environments:
  local: {url: "%s"}
smoke:
  checks: [models, completion, stream, tls]
gates:
  echo:
    retries: 0
    cases: [{id: a, prompt: "Say exactly: Paris", assert: ["equals: Paris"]}]
"""
SELF_SIGNED = (
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
    "unable to get local issuer certificate"
)


@dataclass
class Secure:
    """The reference service behind TLS."""

    url: str
    authority: trustme.CA


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Return a service whose certificate a private authority signed."""
    authority = trustme.CA()
    chain = tmp_path_factory.mktemp("tls") / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(chain))
    settings = read_settings(["--engine", "scripted", "--ttft", "0"], {})
    service = Service(settings, make_engine(settings), FaultBook({}))
    server = uvicorn.Server(
        uvicorn.Config(service.app, port=0, lifespan="off", log_config=None, ssl_certfile=chain)
    )
    # Not run(): that would take the signals of the test process, and a thread cannot.
    thread = threading.Thread(target=lambda: asyncio.run(server._serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Secure(f"https://127.0.0.1:{port}", authority)
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def project(tmp_path: Path, secure: Secure) -> Project:
    """Return a project that has the authority's certificate beside its file."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    secure.authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return Project(tmp_path, secure.url)


def reasons(project: Project, line: str, code: int) -> dict[str, str]:
    """Run with one more line below service: and return verdict and reason by item."""
    project.config(CONFIG % (line, project.url))
    done = project.run()
    assert done.code == code, done.out
    assert "Traceback" not in done.out
    assert "Warning" not in done.out
    return {
        f"{item['stage']}::{item['name']}": f"{item['verdict']} {item['reason']}"
        for item in done.report["items"]
    }


FINE = {
    "health::health": "PASS as expected",
    "health::ready": "PASS as expected",
    "smoke::models": "PASS as expected",
    "smoke::completion": "PASS as expected",
    "smoke::stream": "PASS as expected",
    "smoke::tls": "PASS as expected",
    "gates::echo::a": "PASS 1 of 1 assertions passed",
    "gates::echo::gate": "PASS pass rate 1.00 (1 of 1) >= min_pass_rate 1.00",
}


def refused(url: str) -> str:
    """Return the start of what the tls check says."""
    return f"FAIL GET {url}/: cannot connect: {SELF_SIGNED}"


def test_a_private_authority_is_believed_through_ca_file(project: Project) -> None:
    assert reasons(project, "ca_file: authority.pem", 0) == FINE


def test_an_unknown_authority_is_a_failure_of_tls_and_an_error_of_all_else(
    project: Project,
) -> None:
    found = reasons(project, "version_header: x-llm-version", 1)
    tls = found.pop("smoke::tls")
    assert tls.startswith(refused(project.url))
    assert tls.endswith("(a private authority's certificate goes into service.ca_file)")
    gate = found.pop("gates::echo::a")
    assert gate.startswith(f"ERROR {project.url}/v1/models cannot be reached: {SELF_SIGNED}")
    assert gate.endswith("(see service.ca_file)")
    assert found.pop("gates::echo::gate") == "ERROR none of the 1 cases could be measured"
    for name, reason in found.items():
        assert reason.startswith("ERROR "), name
        assert f": cannot connect: {SELF_SIGNED}" in reason


def test_without_verification_only_the_tls_check_fails(project: Project) -> None:
    found = reasons(project, "verify_tls: false", 1)
    tls = found.pop("smoke::tls")
    assert tls.startswith(refused(project.url))
    assert found == {name: reason for name, reason in FINE.items() if name != "smoke::tls"}
