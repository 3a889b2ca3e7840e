"""Agreement of judges, against statsmodels and the definitions."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa as reference_kappa
from statsmodels.stats.proportion import proportion_confint

from pytest_llmdeploy.verdicts.agreement import Agreement, cohens_kappa, krippendorffs_alpha

LABELS = "pfx"
PAIRS = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60
)


@given(PAIRS)
def test_kappa_is_that_of_statsmodels(pairs: list[tuple[str, str]]) -> None:
    agreed = cohens_kappa(pairs)
    counts = Counter(pairs)
    table = [[counts[first, second] for second in LABELS] for first in LABELS]
    if agreed.kappa is None:
        assert len({label for pair in pairs for label in pair}) == 1
    else:
        assert agreed.kappa == pytest.approx(
            reference_kappa(table, return_results=False), abs=1e-12
        )
    alike = sum(first == second for first, second in pairs)
    lower, upper = proportion_confint(alike, len(pairs), alpha=0.1, method="wilson")
    assert agreed[:4] == pytest.approx((len(pairs), alike / len(pairs), lower, upper), abs=1e-9)


def test_perfect_agreement_about_one_label_is_no_evidence() -> None:
    assert cohens_kappa([("p", "p")] * 50)[:2] == (50, 1.0)
    assert cohens_kappa([("p", "p")] * 50).kappa is None
    assert cohens_kappa([]) == Agreement(0, None, 0.0, 1.0, None)
    assert cohens_kappa([(True, True), (False, False)]).kappa == 1.0


def by_definition(units: list[list[str | None]]) -> float | None:
    """Return alpha as one less observed over expected disagreement, pair by pair."""
    kept = [[label for label in unit if label is not None] for unit in units]
    kept = [unit for unit in kept if len(unit) >= 2]
    everything = [label for unit in kept for label in unit]
    n = len(everything)
    if len(set(everything)) < 2:
        return None
    observed = math.fsum(
        sum(a != b for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j)
        / (len(unit) - 1)
        for unit in kept
    )
    expected = sum(a != b for i, a in enumerate(everything) for j, b in enumerate(everything))
    return 1 - (observed / n) / (expected / (n * (n - 1)))


@given(
    st.lists(
        st.lists(st.none() | st.sampled_from(LABELS), min_size=1, max_size=4),
        min_size=1,
        max_size=15,
    )
)
def test_alpha_is_by_the_definition(units: list[list[str | None]]) -> None:
    expected = by_definition(units)
    alpha = krippendorffs_alpha(units)
    assert alpha == (expected if expected is None else pytest.approx(expected, abs=1e-9))


def test_alpha_by_krippendorffs_own_example() -> None:
    # "Computing Krippendorff's alpha-reliability", 2011, section C: four observers, nominal.
    rows = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    columns = zip(*(row.split() for row in rows), strict=True)
    units = [[None if label == "." else label for label in unit] for unit in columns]
    assert round(krippendorffs_alpha(units) or 0, 3) == 0.743
