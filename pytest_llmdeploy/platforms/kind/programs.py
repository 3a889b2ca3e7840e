"""Run docker, kind and helm: argv lists, an environment of our own, a deadline."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pytest_llmdeploy.errors import LLMDeployError, NotBegunError, PlatformError
from pytest_llmdeploy.untrusted import one_line

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "SSH_AUTH_SOCK")
_KEPT_PREFIXES = ("DOCKER_", "BUILDKIT_", "BUILDX_", "HELM_", "LC_", "SSL_CERT_", "XDG_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
LINES_SHOWN = 20
QUICK = 30.0
"""Seconds for questions that docker and kind answer at once."""
_INSTALL = {
    "docker": "https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "helm": "https://helm.sh/docs/intro/install/",
}


class ProgramError(PlatformError):
    """A program ended with an error, or not in time."""

    def __init__(self, text: str, output: str) -> None:
        super().__init__(text)
        self.output = output


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    setting: str = "",
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Return what the program printed on stdout; raise ProgramError with its last lines.

    `setting` names the key that holds `timeout`. The program gets a session of its own, so that
    Ctrl-C reaches it through us only, and its children end with it.
    """
    shown = " ".join(argv[:3])
    try:
        process = subprocess.Popen(
            list(argv),
            env={**environment(os.environ), **(variables or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramError(f"{shown}: {error.strerror or error}", "") from error
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            output, errors = _end(process)
            named = f" ({setting})" if setting else ""
            text = f"{shown} did not end within {timeout:g} s{named}"
            raise ProgramError(_with_lines(text, output + errors), output + errors) from error
        except BaseException:  # Ctrl-C: nothing of it may go on
            _end(process)
            raise
    if process.returncode:
        text = f"{shown} ended with exit code {process.returncode}"
        raise ProgramError(_with_lines(text, output + errors), output + errors)
    return output


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def _with_lines(text: str, output: str) -> str:
    lines = [one_line(line) for line in output.splitlines() if line.strip()][-LINES_SHOWN:]
    return "\n".join([f"{text}; its last lines:", *(f"  | {line}" for line in lines)])


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what of our environment the programs get: no KUBECONFIG, no KIND_CLUSTER_NAME."""
    return {
        name: value
        for name, value in variables.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower() in _PROXIES
    }


def require_programs() -> None:
    """Raise where Docker or kind is not here: NotBegunError, in CI PlatformError.

    On a developer's machine a missing Docker is a reason to skip loudly; a CI that lost its Docker
    must not turn green.
    """
    reason = unavailable()
    if reason is not None:
        kind_of_error: type[LLMDeployError] = NotBegunError
        if os.environ.get("CI", "").lower() == "true":
            kind_of_error = PlatformError
        raise kind_of_error(reason)


def unavailable() -> str | None:
    """Return why no kind cluster can be made here; None where one can."""
    for name in ("kind", "docker"):
        if shutil.which(name) is None:
            return f"{name} is not on PATH, and kind clusters need it: {_INSTALL[name]}"
    try:
        run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=QUICK)
    except ProgramError as error:
        return f"kind clusters need Docker, whose engine does not answer: {one_line(error.output)}"
    return None


def require_helm() -> None:
    """Raise PlatformError where helm is not here."""
    if shutil.which("helm") is None:
        raise PlatformError(f"helm is not on PATH, and kind.helm needs it: {_INSTALL['helm']}")
