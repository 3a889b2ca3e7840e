"""A fleet on which the tests of a module release by canary, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pytest_llmdeploy.platforms.local_fleet.launching import stop_fleet
from pytest_llmdeploy.release import conductor, journal, prepare
from pytest_llmdeploy.release.canary import judge
from tests.canary_faults import CANARY_CONFIG, CanarySite

pytest.register_assert_rewrite("tests.canary_checks")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CanarySite]:
    """A fleet on which the tests release one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "BASELINE_DURATION", 0.1)
        patch.setattr(prepare, "FEWEST_BASELINE", 3)
        patch.setattr(conductor, "UNLOCK_TIMEOUT", 1.0)
        patch.setattr(journal, "END_INTERVAL", 0.05)
        # A right split is called wrong with this probability at most, in a phase: there are about
        # 300 of them in all. Nothing else is left to chance: a good version has no failure, and a
        # bad one is judged until it is known.
        patch.setattr(judge, "SPLIT_ALPHA", 1e-9)
        made = CanarySite.build(tmp_path_factory.mktemp("site"), CANARY_CONFIG)
        made.fleet.entry()
        yield made
        made.fleet.close()
        assert stop_fleet(made.folder / "output" / "fleets" / "local", 20)


@pytest.fixture(autouse=True)
def _as_before(site: CanarySite) -> Iterator[None]:
    """Let no test meet what another one has left."""
    yield
    site.clear()


@pytest.fixture
def before(site: CanarySite) -> dict[str, Any]:
    """Return the state of fleet and route at rest."""
    return site.whole_state()
