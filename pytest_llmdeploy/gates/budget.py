"""What the gates of a run may spend, over all its processes; prices of tokens."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmdeploy.config.gates import BudgetConfig, PriceConfig
from pytest_llmdeploy.errors import BudgetSpentError, NotMeasuredError

SCHEMA = """
CREATE TABLE IF NOT EXISTS spending (
    budget TEXT PRIMARY KEY,
    started REAL NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    dollars REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
BUSY_TIMEOUT = 30.0


def limited(config: BudgetConfig) -> bool:
    """Return whether the budget limits anything."""
    return any(
        limit is not None
        for limit in (config.dollars, config.tokens, config.requests, config.seconds)
    )


@dataclass(frozen=True, slots=True)
class Used:
    """What one call has used up."""

    requests: int = 0
    """Attempts besides the one that was reserved."""
    tokens: int = 0
    dollars: float = 0.0


class Budget:
    """One budget of a run, in its record; each process has an instance, used from one thread.

    A call is let through while nothing is spent; what is in flight then is paid all the same, so
    that a run can spend more by at most the calls that were in flight.
    """

    def __init__(
        self,
        record: Path,
        name: str,
        config: BudgetConfig,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`name` tells the budgets of several files apart; `clock` is that of all processes."""
        self._name = name
        self._config = config
        self._clock = clock
        self._database = sqlite3.connect(
            record, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(SCHEMA)

    def close(self) -> None:
        """Close the record."""
        self._database.close()

    def reserve(self) -> None:
        """Count one request that is about to be sent; raise BudgetSpentError where none is left."""
        config = self._config
        now = self._clock()
        try:
            rows = self._database.execute(
                "INSERT INTO spending (budget, started, requests) VALUES (?1, ?2, 1)"
                " ON CONFLICT (budget) DO UPDATE SET requests = requests + 1"
                " WHERE (?3 IS NULL OR requests < ?3) AND (?4 IS NULL OR tokens < ?4)"
                " AND (?5 IS NULL OR dollars < ?5) AND (?6 IS NULL OR ?2 - started < ?6)"
                " RETURNING 1",
                (self._name, now, config.requests, config.tokens, config.dollars, config.seconds),
            ).fetchall()
            if not rows:
                raise BudgetSpentError(self._spent(now))
        except sqlite3.Error as error:
            raise _unusable(error) from error

    def _spent(self, now: float) -> str:
        requests, tokens, dollars, started = self._database.execute(
            "SELECT requests, tokens, dollars, started FROM spending WHERE budget = ?",
            (self._name,),
        ).fetchone()
        config = self._config
        if config.requests is not None and requests >= config.requests:
            return f"the budget of {config.requests} requests is spent"
        if config.tokens is not None and tokens >= config.tokens:
            return f"the budget of {config.tokens} tokens is spent ({tokens} used)"
        if config.dollars is not None and dollars >= config.dollars:
            return f"the budget of {config.dollars:g} dollars is spent ({dollars:.4f} used)"
        return f"the budget of {config.seconds:g} s is spent ({now - started:.1f} s passed)"

    def charge(self, used: Used) -> None:
        """Count what a call has used."""
        try:
            self._database.execute(
                "UPDATE spending SET requests = requests + ?, tokens = tokens + ?,"
                " dollars = dollars + ? WHERE budget = ?",
                (used.requests, used.tokens, used.dollars, self._name),
            )
        except sqlite3.Error as error:
            raise _unusable(error) from error


def _unusable(error: sqlite3.Error) -> NotMeasuredError:
    return NotMeasuredError(f"the record of the answers cannot be used: {error}")


@dataclass(frozen=True, slots=True)
class Prices:
    """What tokens cost, by the file."""

    models: Mapping[str, PriceConfig]
    needed: bool = False
    """A budget in dollars is to be kept, so that no call may be without a price."""

    def known(self, *names: str | None) -> PriceConfig | None:
        """Return the price of the first name that has one."""
        return next((self.models[name] for name in names if name and name in self.models), None)

    def check(self, name: str) -> None:
        """Raise NotMeasuredError for a model that cannot be paid by a budget in dollars."""
        if self.needed and name and self.known(name) is None:
            raise NotMeasuredError(missing_price(name))

    def cost(
        self, answered: str, configured: str, prompt: int | None, completion: int | None
    ) -> float | None:
        """Return dollars; None where the model has no price or did not tell its tokens.

        With a budget in dollars None would be spending unseen: raises NotMeasuredError then.
        """
        price = self.known(answered, configured)
        if price is None:
            if self.needed:
                raise NotMeasuredError(missing_price(configured or answered))
            return None
        if prompt is None or completion is None:
            if self.needed:
                raise NotMeasuredError(
                    f"{answered or configured} does not tell how many tokens it used, so that"
                    " budget.dollars cannot be kept: limit budget.requests instead"
                )
            return None
        return (prompt * price.input + completion * price.output) / 1e6


def missing_price(model: str) -> str:
    """Return the sentence about a model that a budget in dollars cannot pay."""
    return (
        f"budget.dollars needs the price of '{model}': add it to the file, as prices: "
        f"{{{model}: {{input: …, output: …}}}} in dollars per million tokens"
    )
