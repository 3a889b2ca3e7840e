"""What one replica may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """None where nothing limits it, or nobody knows: then its use has no share."""

    cpu_cores: float | None = None
    memory_bytes: float | None = None
