"""What a load run must not do: hit a host that nobody allowed, or cost more than was agreed."""

from __future__ import annotations

import urllib.request
from ipaddress import ip_address
from urllib.parse import urlsplit

from pytest_llmdeploy.config.load import LoadLimits
from pytest_llmdeploy.config.models import EnvironmentConfig
from pytest_llmdeploy.errors import NotMeasuredError
from pytest_llmdeploy.load.schedule import expected_arrivals
from pytest_llmdeploy.load.spec import TrafficSpec


def check_host(url: str, environment_name: str, environment: EnvironmentConfig) -> None:
    """Raise NotMeasuredError where load may not be put on the host of `url`.

    This machine may always take it; another host where the environment's ``load_hosts`` names it.
    A proxy between is refused: it would be the proxy that is measured.
    """
    host = urlsplit(url).hostname or ""
    if _is_this_machine(host):
        return
    if host not in {name.lower() for name in environment.load_hosts}:
        raise NotMeasuredError(
            f"load may not be put on {host}: to allow it, add it to "
            f"environments.{environment_name}.load_hosts"
        )
    scheme = urlsplit(url).scheme
    if urllib.request.getproxies().get(scheme) and not urllib.request.proxy_bypass(host):
        raise NotMeasuredError(
            f"{host} would be reached through the proxy of the environment's {scheme}_proxy, "
            "which load does not take: add the host to no_proxy where it is reached directly"
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_limits(
    traffic: TrafficSpec,
    environment_name: str,
    environment: EnvironmentConfig,
    *,
    probes: int = 1,
) -> LoadLimits | None:
    """Return the environment's caps; raise NotMeasuredError where the run would exceed them.

    `probes` is how often the traffic may be sent at most. A protected environment must have caps.
    """
    limits = environment.load_limits
    key = f"environments.{environment_name}.load_limits"
    if limits is None:
        if environment.protected:
            raise NotMeasuredError(
                f"the environment '{environment_name}' is protected: it takes no load without "
                f"{key}: {{requests: …, tokens: …, seconds: …}}"
            )
        return None
    if traffic.locustfile:
        raise NotMeasuredError(
            f"a locustfile does not tell its tokens, so {key}.tokens cannot be kept: "
            "give rate, steps, trace or users without it"
        )
    seconds = traffic.traffic_duration * probes
    if seconds > limits.seconds:
        raise NotMeasuredError(
            f"the run would take {seconds:g} s of traffic; {key}.seconds allows {limits.seconds:g}"
        )
    requests = expected_arrivals(traffic) * traffic.turns * probes
    if requests > limits.requests:
        raise NotMeasuredError(
            f"the run would send {requests} requests; {key}.requests allows {limits.requests}"
        )
    return limits
