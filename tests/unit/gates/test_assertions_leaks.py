"""Personal data and secrets: what is found, what only looks so, and that no reason tells it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmdeploy.gates.measures.leaks import PII, SECRETS, iban, leaks, luhn
from tests.unit.gates.judging import holds_and_fails, judged, not_evaluable, refused

RANDOM = "Zx81kQp0Lm2nVb7T"
FOUND = [
    ("email", "bob.x+y@ex-am.co.uk"),
    ("phone", "+49 30 1234567"),
    ("phone", "(555) 123-4567"),
    ("iban", "DE89 3704 0044 0532 0130 00"),
    ("iban", "GB82WEST12345698765432"),
    ("card", "4111 1111 1111 1111"),
    ("card", "378282246310005"),
    ("ssn", "123-45-6789"),
    ("ip", "192.168.1.20"),
    ("ip", "2001:db8::1"),
    ("provider-key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("provider-key", "ghp_" + "a1" * 18),
    ("provider-key", "sk-proj-" + RANDOM * 2),
    ("provider-key", "xoxb-" + "1234567890-abc"),
    ("private-key", "-----BEGIN RSA " + "PRIVATE KEY-----"),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0.abc"),
    ("bearer", "Bearer " + "abcdef0123456789abcd"),
    ("url-password", "postgres://bob:" + "s3cret@"),
    ("assignment", RANDOM),
]


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_found_in_a_sentence(kind: str, text: str) -> None:
    kinds = PII if kind in PII else SECRETS
    before = 'api_key = "' if kind == "assignment" else "It is "
    found = [(one.kind, one.start, one.length) for one in leaks(f"{before}{text}, AND so.", kinds)]
    assert found == [(kind, len(before), len(text))]


@pytest.mark.parametrize(
    "text",
    [
        "At 12:30:45 on 2024-01-02, order 1234567890123456 of v1.2.3 and 1.2.3.4.5",
        "4111 1111 1111 1112",
        "DE88 3704 0044 0532 0130 00",
        "000-12-3456 and 123-45-67890",
        "127.0.0.1, ::1, 0.0.0.0, 999.1.1.1 and std::string ad::be",
        "user@localhost",
        "password: correct-horse-battery, API_KEY=your-api-key-1234, token = ${TOKEN}",
        "sk-learn-is-a-nice-library-for-ml and task-oriented-dialogue-systems",
        "https://example.org:8080/path@x",
        "-----BEGIN PUBLIC KEY-----",
    ],
)
def test_what_only_looks_so(text: str) -> None:
    assert leaks(text, {**PII, **SECRETS}) == []


def test_check_digits() -> None:
    # ISO/IEC 7812-1's own example, and one of the registry of IBANs.
    assert [digit for digit in range(10) if luhn(f"7992739871{digit}")] == [3]
    assert iban("NO9386011117947")
    assert not iban("NO9386011117948")


def test_reasons_name_kinds_and_places_only() -> None:
    holds_and_fails(
        "is-pii",
        "bob@example.org",
        "Bob",
        "expected the answer to have personal data, none was found",
    )
    assert judged("not-is-pii: email", "ask bob@example.org").reason == (
        "expected the answer not to have personal data (email), found an e-mail address of 15"
        " characters at character 5"
    )
    many = " ".join(f"b{n}@example.org" for n in range(7))
    assert judged("not-is-pii", many).reason.endswith(" and 2 more")


@pytest.mark.parametrize(("kind", "text"), FOUND)
def test_no_reason_tells_what_was_found(kind: str, text: str) -> None:
    raw = "not-is-pii" if kind in PII else "not-is-secret"
    found = judged(raw, f"secret={text}")
    assert not found.passed
    assert text not in found.reason


def test_what_cannot_work() -> None:
    assert refused("not-is-secret: jwt, barer") == (
        "not-is-secret: there is no kind 'barer', did you mean 'bearer'?"
    )
    assert refused({"is-pii": 3}) == "is-pii: the value must be a list of kinds, got 3"
    assert not_evaluable("not-is-pii", "a" * 200_001) == (
        "the answer has 200001 characters, at most 200000 are looked through"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", ["a.a@", "eyJaaaaa-", "://a:", "GB82", "+1 ", "token", "4 ", "a:"])
def test_no_text_takes_for_ever(part: str) -> None:
    judged("is-pii", part * (200_000 // len(part)))
    judged("is-secret", part * (200_000 // len(part)))


@given(
    st.sampled_from(["is-pii", "is-secret"]),
    st.text(max_size=80) | st.text("0123456789 -+.@:ABab/=", max_size=80),
)
def test_any_text_is_judged(kind: str, text: str) -> None:
    assert judged(kind, text).passed is not judged(f"not-{kind}", text).passed
