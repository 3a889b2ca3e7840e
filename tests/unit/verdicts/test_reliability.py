"""pass@k and pass^k against every choice of k answers."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest

from pytest_llmdeploy.verdicts.reliability import pass_at_k, pass_hat_k


@pytest.mark.parametrize("n", range(9))
def test_both_count_all_choices(n: int) -> None:
    for passed in range(n + 1):
        answers = [True] * passed + [False] * (n - passed)
        for k in range(1, n + 1):
            choices = list(combinations(answers, k))
            assert pass_at_k(passed, n, k) == Fraction(sum(map(any, choices)), len(choices))
            assert pass_hat_k(passed, n, k) == Fraction(sum(map(all, choices)), len(choices))


def test_too_few_answers_say_nothing() -> None:
    assert pass_at_k(2, 2, 3) is None
    assert pass_hat_k(2, 2, 3) is None


def test_a_thousand_answers() -> None:
    assert float(pass_at_k(1, 1000, 500) or 0) == 0.5
    assert float(pass_hat_k(999, 1000, 500) or 0) == 0.5


@pytest.mark.parametrize(("passed", "n", "k"), [(-1, 3, 1), (4, 3, 1), (1, 3, 0)])
def test_what_cannot_be_is_refused(passed: int, n: int, k: int) -> None:
    for estimate in (pass_at_k, pass_hat_k):
        with pytest.raises(ValueError, match=rf"^{passed} of {n} answers, by {k}, cannot be$"):
            estimate(passed, n, k)
