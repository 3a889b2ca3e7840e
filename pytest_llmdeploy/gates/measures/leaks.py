"""Personal data and secrets in a text, by their formats and check digits; no model, no lists.

Every pattern reads a text in a time that grows with its length: parts are bounded.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_IBAN_LENGTHS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22,
    "BR": 29, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20,
    "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18,
    "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30,
    "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24,
    "ME": 22, "MK": 19, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "TN": 24, "TR": 26, "UA": 29, "VA": 22, "XK": 20,
}  # fmt: skip
_EMAIL: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[^\W_](?:[\w-]{0,62})\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)
_PHONE: Final = re.compile(
    r"(?<![\w+])\+\d[\d ().\u00a0/-]{5,22}\d(?!\d)"
    r"|(?<![\w.-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
)
_IBAN: Final = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}")
_CARD: Final = re.compile(r"(?<![\w.-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\w-])")
_SSN: Final = re.compile(
    r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])", re.ASCII
)
_IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w)")
_IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?![\w:])")
_ENTROPY: Final = 3.3
"""Bits a character that a value beside a word such as password must have: no word has as much."""
_ASSIGNED: Final = re.compile(
    r"(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|credentials?)[\w-]{0,30}[\"']?\s{0,4}(?:[:=]|=>|:=)\s{0,4}[\"']?([^\s\"',;<>{}()\[\]]{12,200})",
    re.IGNORECASE,
)
_PLACEHOLDER: Final = re.compile(r"your|example|placeholder|changeme|x{4}|\*{3}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that should not be in a text; what it says is not kept."""

    kind: str
    start: int
    """Its first character's place, from 0."""
    length: int


def leaks(text: str, kinds: Mapping[str, Finder]) -> list[Leak]:
    """Return what is found of the kinds, in the order of the text."""
    found = [
        Leak(kind, start, end - start)
        for kind, finder in kinds.items()
        for start, end in finder(text)
    ]
    return sorted(found, key=lambda one: (one.start, one.kind))


Finder = Callable[[str], Iterator[tuple[int, int]]]
"""Yields where each begins and ends."""


def _all(*patterns: str, flags: re.RegexFlag = re.ASCII) -> Finder:
    compiled = re.compile("|".join(patterns), flags)
    return lambda text: (match.span() for match in compiled.finditer(text))


def _where(pattern: re.Pattern[str], holds: Callable[[str], bool]) -> Finder:
    return lambda text: (match.span() for match in pattern.finditer(text) if holds(match[0]))


def _is_phone(text: str) -> bool:
    digits = _digits(text)
    return 8 <= len(digits) <= 15 and len(set(digits)) > 2


def _is_card(text: str) -> bool:
    digits = _digits(text)
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and luhn(digits)


def luhn(digits: str) -> bool:
    """Say whether the last digit is right by Luhn's rule (ISO/IEC 7812-1)."""
    doubled = (int(one) * 2 for one in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(n - 9 if n > 9 else n for n in doubled)) % 10 == 0


def _digits(text: str) -> str:
    return "".join(char for char in text if "0" <= char <= "9")


def _ibans(text: str) -> Iterator[tuple[int, int]]:
    for match in _IBAN.finditer(text):
        length = _IBAN_LENGTHS.get(match[0][:2])
        places = [at for at, char in enumerate(match[0]) if char.isalnum()]
        if length is None or len(places) < length:
            continue
        if iban("".join(match[0][at] for at in places[:length])):
            yield match.start(), match.start() + places[length - 1] + 1


def iban(text: str) -> bool:
    """Say whether the check digits are right (ISO 13616, mod 97)."""
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def _is_address(text: str) -> bool:
    """Say whether it is an address of some machine: not this one, nor any."""
    if ":" in text and not any(char.isdigit() for char in text):
        return False
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    for pattern in (_IPV4, _IPV6):
        yield from (one.span() for one in pattern.finditer(text) if _is_address(one[0]))


def _assigned(text: str) -> Iterator[tuple[int, int]]:
    for match in _ASSIGNED.finditer(text):
        value = match[1]
        mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
        if mixed and entropy(value) >= _ENTROPY and not _PLACEHOLDER.search(value):
            yield match.span(1)


def entropy(text: str) -> float:
    """Return Shannon's entropy in bits a character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -math.fsum(share * math.log2(share) for share in shares)


PII: Final[Mapping[str, Finder]] = {
    "email": _all(_EMAIL.pattern, flags=re.UNICODE),
    "phone": _where(_PHONE, _is_phone),
    "iban": _ibans,
    "card": _where(_CARD, _is_card),
    "ssn": _all(_SSN.pattern),
    "ip": _addresses,
}
"""Personal data. A national phone number is found in the form of North America only."""

SECRETS: Final[Mapping[str, Finder]] = {
    "provider-key": _all(
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
        r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b|\bgithub_pat_\w{22,255}\b",
        r"\bglpat-[\w-]{20,255}",  # GitLab
        r"\bxox[abeoprs]-[A-Za-z0-9-]{10,255}",  # Slack
        r"\bhooks\.slack\.com/services/\w{5,30}/\w{5,30}/\w{10,60}",
        # OpenAI, Anthropic and others; "sk-" begins words with hyphens, too.
        r"\bsk-(?=[\w-]{0,80}\d)(?=[\w-]{0,80}[A-Z])[\w-]{20,300}",
        r"\bsk-(?=[a-z]{0,40}\d)[a-z0-9]{24,300}\b",
        r"\bAIza[\w-]{35}(?![\w-])",  # Google
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{10,255}\b",  # Stripe
        r"\bhf_[A-Za-z0-9]{30,255}\b",  # Hugging Face
        r"\bnpm_[A-Za-z0-9]{36}\b",
        r"\bpypi-AgE[\w-]{50,300}",
        r"\bSG\.[\w-]{16,100}\.[\w-]{16,100}",  # SendGrid
    ),
    "private-key": _all(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
    "jwt": _all(r"\beyJ[\w-]{5,1000}\.eyJ[\w-]{5,1000}\.[\w-]{0,1000}"),
    "bearer": _all(r"\bbearer\s{1,4}[A-Za-z0-9._~+/-]{20,1000}=*", flags=re.ASCII | re.IGNORECASE),
    "url-password": _all(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:[^\s:/@]{3,200}@"),
    "assignment": _assigned,
}
"""Credentials. An assignment counts when its value is as random as keys are."""
