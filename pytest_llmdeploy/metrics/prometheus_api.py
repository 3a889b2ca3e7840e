"""Queries to a Prometheus: one request each, with a deadline, and errors that name the query."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.canary import PrometheusConfig
from pytest_llmdeploy.errors import MissingExtraError, NotMeasuredError
from pytest_llmdeploy.untrusted import one_line

_NOT_SHORTER = 4
"""Characters from which on a header's value is taken for a secret."""


class Api:
    """A connection to a Prometheus, opened by the first query."""

    def __init__(
        self,
        config: PrometheusConfig,
        *,
        forward: Callable[[str], AbstractContextManager[str]] | None = None,
        directory: Path | None = None,
    ) -> None:
        """`forward` leads to ``NAMESPACE/SERVICE:PORT``; `ca_file` is relative to `directory`."""
        try:
            import prometheus_api_client  # noqa: F401 - is it there?
        except ModuleNotFoundError:
            raise MissingExtraError(
                "the source 'prometheus' of canary.metrics", "prometheus", "prometheus-api-client"
            ) from None
        if config.url is None and forward is None:
            raise NotMeasuredError(
                f"prometheus: {config.service} is a service of a cluster, which this platform "
                "does not lead to: give canary.metrics.prometheus.url"
            )
        self._config = config
        self._forward = forward
        self._directory = directory or Path()
        self._stack = ExitStack()
        self._client: Any = None

    def query(self, query: str, time: float) -> list[Any]:
        """Return the result of a query at a time; raise NotMeasuredError with it in the text.

        The result is a list of series, or of the time and value of a scalar.
        """
        from prometheus_api_client.exceptions import PrometheusApiClientException

        parameters = {
            "time": f"{time:.3f}",
            "timeout": f"{max(1, int(self._config.timeout * 1000))}ms",
            # Newer servers take it: older samples are then not there at all.
            "lookback_delta": f"{int(2000 * self._config.scrape_interval)}ms",
        }
        try:
            with warnings.catch_warnings():
                if not self._config.verify_tls:
                    warnings.simplefilter("ignore")  # urllib3 warns of what the file asks for
                result = self._connected().custom_query(query, params=parameters)
        except PrometheusApiClientException as error:
            raise self._failed(query, _reason(error)) from None
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(query, f"the answer is none of its API ({error!r})") from None
        except OSError as error:  # all of requests', and a ca_file that is not there
            self.close()
            raise self._failed(query, _reason(error)) from None
        if not isinstance(result, list):
            raise self._failed(query, "the answer is none of its API (no list of results)")
        series = [one for one in result if isinstance(one, Mapping)]
        if series and not all(isinstance(one.get("metric"), Mapping) for one in series):
            raise self._failed(query, "the answer is none of its API (series without labels)")
        return result

    def close(self) -> None:
        """Release the connection; the next query opens it again."""
        self._client = None
        stack, self._stack = self._stack, ExitStack()
        stack.close()

    def _connected(self) -> Any:
        if self._client is not None:
            return self._client
        import requests
        from prometheus_api_client import PrometheusConnect
        from urllib3 import Retry

        config = self._config
        session = self._stack.enter_context(requests.Session())
        session.max_redirects = 0  # whoever it would lead to is not meant to get the headers
        url = config.url
        if url is None:
            assert self._forward is not None
            assert config.service is not None
            url = self._stack.enter_context(self._forward(config.service))
            session.trust_env = False
        session.verify = config.verify_tls
        if config.verify_tls and config.ca_file is not None:
            session.verify = str(self._directory / config.ca_file)
        headers = dict(config.headers)
        if config.token:
            headers["Authorization"] = f"Bearer {config.token}"
        self._client = PrometheusConnect(
            url=url.rstrip("/"),
            headers=headers,
            session=session,
            timeout=config.timeout,
            retry=Retry(total=0),
            auth=_as_it_is,
        )
        return self._client

    def _failed(self, query: str, reason: str) -> NotMeasuredError:
        secrets = [self._config.token or "", *self._config.headers.values()]
        for secret in sorted(secrets, key=len, reverse=True):
            if len(secret) >= _NOT_SHORTER:
                reason = reason.replace(secret, "***")
        return NotMeasuredError(f"prometheus: {query}: {one_line(reason)}")


def _as_it_is(request: Any) -> Any:
    """Keep a .netrc from replacing the token."""
    return request


def _reason(error: Exception) -> str:
    """Return why a query failed: the API's own words, where there are any."""
    text = str(error)
    start, end = text.find("{"), text.rfind("}")
    if start >= 0:
        try:
            said = json.loads(text[start : end + 1].replace("\\'", "'").replace("\\\\", "\\"))
            return f"{text.partition(' (')[0]}: {said['error']}"
        except (ValueError, KeyError, TypeError):
            pass
    inner = error.args[0] if error.args else error
    return f"{type(error).__name__}: {getattr(inner, 'reason', inner)}"
