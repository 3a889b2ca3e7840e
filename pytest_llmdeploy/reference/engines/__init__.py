"""What writes the answers, one engine a module. Nothing here knows HTTP."""

from __future__ import annotations

from pytest_llmdeploy.reference.engines.base import Ending, Engine
from pytest_llmdeploy.reference.settings import Settings

__all__ = ["Ending", "Engine", "make_engine"]


def make_engine(settings: Settings) -> Engine:
    """Return the engine that the settings name; raise LLMDeployError when it cannot run here."""
    if settings.engine == "scripted":
        from pytest_llmdeploy.reference.engines.scripted import Scripted

        return Scripted(settings)
    from pytest_llmdeploy.reference.engines.smollm2 import SmolLM2

    return SmolLM2(settings)
