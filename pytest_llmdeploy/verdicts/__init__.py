"""Pure decisions: numbers in, verdict out. No clock, no I/O, no exceptions as verdicts."""

from pytest_llmdeploy.verdicts.verdict import Verdict, worst

__all__ = ["Verdict", "worst"]
