"""Formats of JSON Schema, by examples of their standards."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.gates.promptfoo.assertions.formats import OF_NUMBERS, OF_TEXTS, fits

GOOD: dict[str, list[object]] = {
    "date": ["2024-02-29"],
    "time": ["23:59:60Z", "15:59:60-08:00", "01:02:03.5+0130"],
    "date-time": ["1985-04-12T23:20:50.52Z", "1990-12-31t15:59:60-08:00"],
    "iso-time": ["10:00:00"],
    "iso-date-time": ["2024-01-01 10:00:00"],
    "duration": ["P3Y6M4DT12H30M5S", "P2W", "PT1H1S"],
    "hostname": ["a.b", "xn--bcher-kva.example.", "a" * 63],
    "email": ["o'hara+x@mail.example", "a.b@c.d"],
    "ipv4": ["127.0.0.1"],
    "ipv6": ["::ffff:1.2.3.4"],
    "uuid": ["URN:UUID:123E4567-e89b-12d3-a456-426614174000"],
    "uri": ["http://[::1]:80/a%20b?c#d", "urn:x:y", "mailto:a@b"],
    "uri-reference": ["", "../a?b"],
    "uri-template": ["/{a}{?q,r*}{#h:3}", "x%20"],
    "url": ["https://bücher.example/a", "http://10.0.0.1:8080"],
    "json-pointer": ["", "/a~1b/~0"],
    "json-pointer-uri-fragment": ["#/a%25"],
    "relative-json-pointer": ["0", "1/a", "0#"],
    "regex": ["a+"],
    "byte": ["YQ==", ""],
    "password": ["x"],
    "binary": ["x"],
    "int32": [5, -(2**31), 2.0],
    "int64": [2**40],
    "float": [0.5],
    "double": [0.5],
}
BAD: dict[str, list[object]] = {
    "date": ["2023-02-29", "20240101", "2024-W01-1"],
    "time": ["23:58:60Z", "24:00:00Z", "10:00:00", "10:00:00+24:00", "1\u0660:00:00Z"],
    "date-time": ["2024-01-01", "2024-01-01_00:00:00Z"],
    "iso-time": ["10:00"],
    "iso-date-time": ["2024-13-01T10:00:00"],
    "duration": ["P", "PT", "P1DT", "P1M1Y", "P1Y2W", "P1WT1H", "PT1D", "1D", "P1.5D"],
    "hostname": ["", "-a", "a-", "a_b", "a..b", "a" * 64, ".".join(["abcdefgh"] * 29)],
    "email": ["a@b", "@b.c", "a..b@c.d", "a b@c.d", "a@b.c."],
    "ipv4": ["01.2.3.4", "1.2.3"],
    "ipv6": ["fe80::1%eth0", "1::2::3"],
    "uuid": ["{123e4567-e89b-12d3-a456-426614174000}", "123e4567e89b12d3a456426614174000"],
    "uri": ["a/b", "http://a b", "http://[x", "http://a/%2", "http://a/[b]"],
    "uri-reference": ["a b", "a#b#c"],
    "uri-template": ["{", "{}", "{a:0}", "a b", "{a,}"],
    "url": ["ftp://x.y", "nope", "https://a", "http://1.2.3.999", "http://a.de:99999"],
    "json-pointer": ["a", "/~2", "/~"],
    "json-pointer-uri-fragment": ["/a", "#a", "#/a b"],
    "relative-json-pointer": ["01", "/a", "", "1a"],
    "regex": ["("],
    "byte": ["YQ", "Y!=="],
    "int32": [5.5, 2**31, float("inf")],
    "int64": [0.5],
}


@pytest.mark.parametrize("wanted", [*OF_TEXTS, *OF_NUMBERS])
def test_examples(wanted: str) -> None:
    assert [one for one in GOOD[wanted] if not fits(one, wanted)] == []
    assert [one for one in BAD.get(wanted, []) if fits(one, wanted)] == []


def test_values_of_another_kind_have_every_format() -> None:
    assert fits(5, "email")
    assert fits("x", "int32")
    assert fits(True, "int32")
