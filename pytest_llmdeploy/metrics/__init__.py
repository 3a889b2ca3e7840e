"""Where figures about versions come from, one source a module, behind `ports.MetricsSource`.

Nothing here judges, or knows a stage; `prometheus_api.py` alone imports prometheus_api_client.
"""

from __future__ import annotations

from pytest_llmdeploy.metrics.limits import Limits
from pytest_llmdeploy.metrics.sources import make_sources

__all__ = ["Limits", "make_sources"]
