"""Errors, by what their reader must do. A FAIL is a verdict, not an exception of this tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace


class LLMDeployError(Exception):
    """Base of every error that this package raises on purpose; its text is meant for the user."""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a file that the user wrote."""

    file: str
    """Path as the user would write it."""
    line: int
    """1-based; 0 when the problem has no line of its own."""
    where: str
    """Dotted path of the key, such as ``gates.capitals.cases``; empty for the whole file."""
    message: str
    """What is wrong, and a suggestion."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return (
            f"{place}: {self.where}: {self.message}" if self.where else f"{place}: {self.message}"
        )


class ConfigError(LLMDeployError):
    """Mend the file: carries every problem found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs at least one problem")
        self.problems = tuple(dict.fromkeys(sorted(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def redacted(self, redact: Callable[[str], str]) -> ConfigError:
        """Return the same error without the secrets that its messages may quote."""
        return ConfigError(
            [replace(problem, message=redact(problem.message)) for problem in self.problems]
        )


class MissingExtraError(LLMDeployError):
    """Install something: a stage was asked for whose optional packages are absent."""

    def __init__(self, what: str, extra: str, module: str) -> None:
        super().__init__(
            f"{what} needs the package '{module}', which is not installed: "
            f"pip install 'pytest-llmdeploy[{extra}]'"
        )


class NotMeasuredError(LLMDeployError):
    """Look at the infrastructure: the question could not be answered, so the verdict is ERROR."""

    attempts = 1
    """Requests that were sent in vain."""


class ThrottledError(NotMeasuredError):
    """Ask less at once, and later: the endpoint refused because of how much it is asked (429)."""

    def __init__(self, text: str, wait: float | None = None) -> None:
        super().__init__(text)
        self.wait = wait
        """Seconds until it wants to be asked again; None where it did not say."""


class BudgetSpentError(NotMeasuredError):
    """Raise the budget, or ask for less: what the run may spend is spent."""


class NoDataError(NotMeasuredError):
    """Wait, or look at what is watched: what was asked for is not there, which never passes."""


class NotBegunError(NotMeasuredError):
    """Look at what comes first: a stage was not begun because an earlier one failed."""


class PlatformError(NotMeasuredError):
    """Look at the service's log: the version to test could not be brought up."""


class UnreachableError(NotMeasuredError):
    """Mend the endpoint or its credentials: every request would be refused alike."""


class ConflictError(PlatformError):
    """Find out who else changes the service: what we were about to change is not as we left it."""


class LockedError(PlatformError):
    """Wait for the release that holds the lock, or finish one that was interrupted."""

    def __init__(self, text: str, holder: str, *, alive: bool) -> None:
        super().__init__(text)
        self.holder = holder
        """``user@host:pid``."""
        self.alive = alive
        """It has shown lately that it is at work."""


class GateWarning(UserWarning):
    """Ask more cases, or for less: as it stands a gate can never pass."""
