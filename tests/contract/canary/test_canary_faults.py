"""Canaries of which one call fails: promoted or taken back; never half."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pytest_llmdeploy.errors import PlatformError
from pytest_llmdeploy.verdicts import Verdict
from tests.canary_checks import CALLS, Once, check
from tests.canary_faults import BAD, CanarySite

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the local fleet needs Linux")

BACK = [
    ("rollback", "rollout"),
    ("rollback", "journal.append"),
    ("rollback", "router.restore_weights"),
    ("rollback", "restore_traffic"),
    ("rollback", "endpoints"),
    ("rollback", "pods"),
    ("rollback", "evidence"),
    ("rollback", "router.read"),
    ("rollback", "router.restore"),
    ("rollback", "restore_replicas"),
    ("rollback", "router.differences"),
    ("rollback", "differences"),
]


def test_every_call_of_a_canary_is_tried_below(site: CanarySite) -> None:
    done = site.perform(old="scale_down")
    assert done.result.success, done.failed
    assert dict.fromkeys(done.calls) == dict.fromkeys(CALLS)
    done = site.perform(image=BAD)
    assert (done.failed.name, done.failed.verdict) == ("weight-40", Verdict.FAIL)
    assert done.failed.reason.startswith("error_rate (")
    back = [call for call in done.calls if call[0] == "rollback"]
    assert dict.fromkeys(back) == dict.fromkeys(BACK)
    assert done.result.rollback is not None
    assert done.result.rollback.succeeded
    phases = done.result.canary["phases"]
    assert [(phase["name"], phase["verdict"]) for phase in phases] == [("weight-40", "FAIL")]


@pytest.mark.parametrize("call", CALLS + BACK, ids="-".join)
def test_one_call_that_fails(
    site: CanarySite, before: dict[str, Any], call: tuple[str, str]
) -> None:
    fault = Once(call, PlatformError("HTTP 500 of the platform"))
    done = site.perform(fault, image=fault.image, old="scale_down")
    assert fault.met
    ended = check(site, done, before)
    assert ended != "rollback failed", done.final
    if not done.result.success:
        text = done.failed.reason
        assert "HTTP 500 of the platform" in text or call[0] == "rollback", done.failed
        assert (done.failed.verdict is Verdict.ERROR) is (call[0] != "rollback")
