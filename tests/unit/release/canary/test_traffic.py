"""What a canary sends."""

from __future__ import annotations

from pytest_llmdeploy.assembly.release_parts import Stage
from pytest_llmdeploy.config.release import BlueGreenConfig
from tests.unit.release.canary.looks_of import section


def test_where_connections_are_split_none_is_used_twice() -> None:
    """Else all requests of a kept one are one version's, and the split seems wrong."""
    sent = {}
    for one_each in (False, True):
        stage = Stage.canary(section(), BlueGreenConfig(), one_each=one_each)
        sent[one_each] = dict(stage.traffic.clients)
    assert sent[False] == {"keep_alive": 4, "new_connection": 4, "long_stream": 1}
    assert sent[True] == {"keep_alive": 0, "new_connection": 8, "long_stream": 1}


def test_how_long_is_sent() -> None:
    stage = Stage.canary(section(), BlueGreenConfig())
    assert stage.known_duration == 120
    assert stage.longest == 3600 + 240
