"""How reliably a case is answered, from several answers to it.

pass@k, the probability that at least one of k answers is right: Chen et al., "Evaluating large
language models trained on code" (arXiv 2107.03374). pass^k, that all of k are: Yao et al.,
"tau-bench" (arXiv 2406.12045). Both are unbiased for answers drawn independently.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb


def pass_at_k(passed: int, n: int, k: int) -> Fraction | None:
    """Return the share of all choices of k among n answers that hold at least one that passed.

    None for n < k: so few answers say nothing about k of them. Raises ValueError for numbers that
    cannot be.
    """
    _check(passed, n, k)
    return None if n < k else 1 - Fraction(comb(n - passed, k), comb(n, k))


def pass_hat_k(passed: int, n: int, k: int) -> Fraction | None:
    """Return the share of all choices of k among n answers of which every one passed.

    None for n < k: so few answers say nothing about k of them. Raises ValueError for numbers that
    cannot be.
    """
    _check(passed, n, k)
    return None if n < k else Fraction(comb(passed, k), comb(n, k))


def _check(passed: int, n: int, k: int) -> None:
    if not 0 <= passed <= n or k < 1:
        raise ValueError(f"{passed} of {n} answers, by {k}, cannot be")
