"""Several tests at once: Holm's correction.

"A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6
(1979). It holds whatever the tests have to do with each other.
"""

from __future__ import annotations

from collections.abc import Sequence


def adjusted(p_values: Sequence[float]) -> list[float]:
    """Return p-values of which each may be held against alpha as if it were the only one.

    The probability that any true hypothesis is then refuted is at most alpha. Raises ValueError
    for what is no p-value; NaN is none.
    """
    for p_value in p_values:
        if not 0 <= p_value <= 1:
            raise ValueError(f"a p-value must lie between 0 and 1, not {p_value}")
    result = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        result[place] = largest
    return result
