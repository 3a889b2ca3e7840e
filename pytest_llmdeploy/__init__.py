"""The release of an LLM service as a pytest run.

These names are public; everything else is internal. They are loaded when first used, since every
pytest run imports this package.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "AssertionContext": "pytest_llmdeploy.gates.assertions",
    "AssertionRegistry": "pytest_llmdeploy.gates.assertions",
    "AssertionResult": "pytest_llmdeploy.gates.assertions",
    "ConfigError": "pytest_llmdeploy.errors",
    "LLMDeployError": "pytest_llmdeploy.errors",
    "NotMeasuredError": "pytest_llmdeploy.errors",
    "ReleaseResult": "pytest_llmdeploy.release.record",
    "Service": "pytest_llmdeploy.ports",
    "Verdict": "pytest_llmdeploy.verdicts",
    "VerdictEvent": "pytest_llmdeploy.events",
    "environment": "pytest_llmdeploy.scripting",
    "load_config": "pytest_llmdeploy.config.loader",
}
__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pytest_llmdeploy' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
