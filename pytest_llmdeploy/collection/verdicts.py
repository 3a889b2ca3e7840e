"""Puts the verdict of a test on its pytest report, as builtins that cross process borders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmdeploy.collection.items import StageItem
from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.events import OWN_TESTS, Measurement, VerdictEvent
from pytest_llmdeploy.markers import MARKERS
from pytest_llmdeploy.redaction import KEY_HEADERS
from pytest_llmdeploy.verdicts import Verdict

if TYPE_CHECKING:
    from pytest_llmdeploy.assembly import Assembly
    from pytest_llmdeploy.config.loader import LoadedConfig
    from pytest_llmdeploy.redaction import Redactor


def attach_verdict(
    assembly: Assembly, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> None:
    """Redact the report, and add the verdict once it is known: after call, or a failed setup."""
    _redact(assembly, report)
    error = call.excinfo.value if call.excinfo else None
    if report.failed and not isinstance(item, StageItem) and _not_measured(item, error):
        plain = str(error) if isinstance(error, LLMDeployError) else f"cannot connect: {error}"
        report.longrepr = assembly.redact(plain)
        report.when = "setup"  # not measured is an error, never a failure
    if report.when == "teardown" or (report.when == "setup" and report.passed):
        return
    event = _event(assembly, item, report, error)
    if event is None:
        return
    # From the item they also reach the teardown report, which is where JUnit takes them from.
    properties = [("llmdeploy_stage", event.stage), ("llmdeploy_verdict", str(event.verdict))]
    item.user_properties += properties
    report.user_properties += properties
    report.llmdeploy = event.to_dict()  # type: ignore[attr-defined]
    if event.counted:
        report.outcome = "skipped"
        report.wasxfail = f"counted by the gate: {event.reason}"
        report.llmdeploy_counted = True  # type: ignore[attr-defined]


def _redact(assembly: Assembly, report: pytest.TestReport) -> None:
    redact = assembly.redact
    report.sections = [(title, redact(text)) for title, text in report.sections]
    if report.longrepr is not None:
        shown = str(report.longrepr)
        if redact(shown) != shown:
            if isinstance(report.longrepr, tuple):
                path, line, reason = report.longrepr
                report.longrepr = (path, line, redact(reason))
            else:
                report.longrepr = redact(shown)


def _event(
    assembly: Assembly, item: pytest.Item, report: pytest.TestReport, error: BaseException | None
) -> VerdictEvent | None:
    """Return the verdict of an item of ours, or of a user's test with one of our markers."""
    duration = getattr(report, "duration", 0.0)
    if report.skipped and (hasattr(report, "wasxfail") or not _measured(item)):
        return None  # skipped or expected to fail by the user: no verdict
    gate, judges, counted = None, False, False
    if isinstance(item, StageItem):
        measured = item.measurement
        if measured is None:  # setup ended before anything was measured, as by Ctrl-C
            measured = Measurement(Verdict.ERROR, str(error or "interrupted"))
        else:
            counted = item.counted and measured.verdict in (Verdict.FAIL, Verdict.ERROR)
        reason, stage, name = measured.reason, item.stage, item.title
        verdict = measured.verdict
        detail = _detail(assembly, item, measured.detail)
        loaded: LoadedConfig | None = item.loaded
        gate, judges = item.gate, item.judges_gate
    else:
        stages = [marker.name for marker in item.iter_markers() if marker.name in MARKERS]
        if not stages and not (report.failed and _not_measured(item, error)):
            return None
        stage, name, detail = [*stages, OWN_TESTS][0], item.name, {}
        loaded = assembly.default
        verdict = _users_verdict(report)
        reason = "as expected" if report.passed else str(error or report.longrepr)
    redact = assembly.redact
    service = assembly.service_if_known(loaded) if loaded else None
    return VerdictEvent(
        nodeid=item.nodeid,
        stage=stage,
        name=name,
        verdict=verdict,
        reason=redact(reason),
        duration=duration,
        environment=loaded.environment_name if loaded else "",
        service=loaded.service.name if loaded else "",
        version=redact(service.version) if service and service.version else None,
        gate=gate,
        judges_gate=judges,
        counted=counted,
        scripted=bool(service and service.scripted),
        detail=detail,
    )


def _detail(assembly: Assembly, item: StageItem, detail: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detail without secrets; what is ours in it stays as it is."""
    secrets = set(assembly.redact.secrets)
    if item.is_case and "samples" in detail:
        if secrets <= set(item.loaded.redactor.secrets):
            return dict(detail)  # redacted once, and that is all there is to hide
        from pytest_llmdeploy.gates.record import redacted

        return redacted(detail, assembly.redact.deep)
    # The first keys are always ours; what stands below them can come from a service.
    return {key: _told(key, value, assembly.redact) for key, value in detail.items()}


_OUR_KEYS = frozenset(
    {
        *("name", "verdict", "reason", "usage", "answers", "prompt_tokens", "completion_tokens"),
        *("dollars", "replayed", "latency", "p50", "p95", "metrics", "mean", "n", "judges", "type"),
        *("judge", "prompt_sha256", "verdicts", "baseline", "baseline_run", "compared", "low"),
        *("difference", "high", "p_value", "max_regression", "regressed", "fixed", "case", "then"),
        *("now", "not_comparable", "imported", "format", "unsupported", "vacuous", "warnings"),
        *("findings", "pass_rate", "min_pass_rate", "passed", "failed", "errors", "total"),
        *("not_asked", "error_rate", "rule", "confidence", "estimate", "lower", "upper"),
        *("effective_n", "smallest_n"),
    }
)
"""Keys of a gate's detail; all others are names that users and services gave."""
_VERDICTS = frozenset(map(str, Verdict))


def _told(key: Any, value: Any, redact: Redactor) -> Any:
    """Redact what stands below a key, but no key and no verdict of ours."""
    if isinstance(value, Mapping):
        return {
            (each if each in _OUR_KEYS else redact.deep(each)): _below(each, part, redact)
            for each, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [_told(None, part, redact) for part in value]
    if key == "verdict" and value in _VERDICTS:
        return value
    return redact.deep(value)


def _below(key: Any, value: Any, redact: Redactor) -> Any:
    if isinstance(key, str) and key.lower() in KEY_HEADERS:
        return redact.deep({key: value}).popitem()[1]
    return _told(key, value, redact)


_FIXTURES = frozenset({"llm_env", "llm_service", "llm_client", "llm_load", "gate"})
_UNREACHABLE = {
    "openai": ("APIConnectionError",),
    "httpx": ("ConnectError", "ConnectTimeout"),
    "httpx2": ("ConnectError", "ConnectTimeout"),
}
"""What HTTP clients raise when there is no service; looked up without importing them."""


def _not_measured(item: pytest.Item, error: BaseException | None) -> bool:
    """Return whether a test of the user's could not ask its question."""
    if isinstance(error, LLMDeployError):
        return True
    if not _FIXTURES & set(getattr(item, "fixturenames", ())):
        return False
    kinds = [
        getattr(sys.modules[module], name, None)
        for module, names in _UNREACHABLE.items()
        if module in sys.modules
        for name in names
    ]
    return isinstance(error, tuple(kind for kind in kinds if isinstance(kind, type)))


def _measured(item: pytest.Item) -> bool:
    return isinstance(item, StageItem) and item.measurement is not None


def _users_verdict(report: pytest.TestReport) -> Verdict:
    if report.passed:
        return Verdict.PASS
    return Verdict.ERROR if report.when == "setup" else Verdict.FAIL
