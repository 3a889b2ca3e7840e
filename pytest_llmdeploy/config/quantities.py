"""Kubernetes quantities, such as 512Mi and 500m, as numbers."""

from __future__ import annotations

from decimal import Decimal

_FACTORS = {
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
}


def quantity(text: object) -> Decimal:
    """Return a Kubernetes quantity as a number."""
    word = str(text)
    for suffix in sorted(_FACTORS, key=len, reverse=True):
        if word.endswith(suffix):
            return Decimal(word.removesuffix(suffix)) * _FACTORS[suffix]
    return Decimal(word)
