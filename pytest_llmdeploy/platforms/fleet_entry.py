"""The service that a fleet leads its users to, for the stages that only ask it."""

from __future__ import annotations

from pytest_llmdeploy.ports import Fleet, Service


class FleetPlatform:
    """What runs behind the entry of a fleet; provisioned first where need be."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def service(self) -> Service:
        """Return the service as its users reach it now; raise PlatformError."""
        return self._fleet.entry()
