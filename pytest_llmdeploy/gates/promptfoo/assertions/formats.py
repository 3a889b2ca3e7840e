"""Formats of texts and numbers in JSON Schema, each read from its standard.

A reader raises ValueError for what has not the format, as the standard library's readers do.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
import string
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from pytest_llmdeploy.gates.promptfoo.assertions.patterns import translated

Reader = Callable[[Any], object]

_LETTERS: Final = frozenset(string.ascii_letters)
_DIGITS: Final = frozenset(string.digits)
_IN_LABEL: Final = _LETTERS | _DIGITS | {"-"}
_IN_ATOM: Final = _LETTERS | _DIGITS | frozenset("!#$%&'*+-/=?^_`{|}~")
_IN_URI: Final = _LETTERS | _DIGITS | frozenset("-._~:/?#[]@!$&'()*+,;=%")
_ESCAPE: Final = re.compile("%[0-9A-Fa-f]{2}")
_CLOCK: Final = re.compile(
    r"(?P<clock>[0-9]{2}:[0-9]{2}:)(?P<second>[0-9]{2})(?:\.[0-9]+)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_VARIABLE: Final = (
    r"(?:[0-9A-Za-z_]|%[0-9A-Fa-f]{2})(?:\.?(?:[0-9A-Za-z_]|%[0-9A-Fa-f]{2}))*"
    r"(?::[1-9][0-9]{0,3}|\*)?"
)
_EXPRESSION: Final = re.compile(rf"\{{[+#./;?&=,!@|]?{_VARIABLE}(?:,{_VARIABLE})*\}}")
_NO_LITERAL: Final = re.compile(r"[\x00-\x20\x7f\"'%<>\\^`{|}]")


def fits(value: object, wanted: str) -> bool:
    """Say whether a value has a format; a value of another kind always does."""
    if wanted in OF_NUMBERS:
        applies = isinstance(value, int | float) and not isinstance(value, bool)
        reader = OF_NUMBERS[wanted]
    else:
        applies = isinstance(value, str)
        reader = OF_TEXTS[wanted]
    if applies:
        try:
            reader(value)
        except ValueError:
            return False
    return True


def _require(holds: object) -> None:
    if not holds:
        raise ValueError


def _date(text: str) -> None:
    _require(len(text) == 10 and text[4] == text[7] == "-")
    datetime.date.fromisoformat(text)


def _time(text: str, *, zoned: bool = True) -> None:
    """RFC 3339, 5.6 and 5.7: a second 60 is the last one of a day in UTC."""
    found = _CLOCK.fullmatch(text)
    if found is None or (zoned and not found["zone"]):
        raise ValueError
    leap = found["second"] == "60"
    second = "59" if leap else found["second"]
    zone = (found["zone"] or "Z").upper()
    # In the middle of the calendar, so that no zone leads out of it.
    moment = datetime.datetime.fromisoformat(f"2000-01-02T{found['clock']}{second}{zone}")
    if leap:
        last = moment.astimezone(datetime.UTC)
        _require((last.hour, last.minute) == (23, 59))


def _date_time(text: str, *, zoned: bool = True) -> None:
    _require(text[10:11] in ("T", "t", " "))
    _date(text[:10])
    _time(text[11:], zoned=zoned)


def _duration(text: str) -> None:
    """ISO 8601: weeks alone, or units from the largest to the smallest."""
    date, sign, clock = text.removeprefix("P").partition("T")
    _require(text.startswith("P") and (clock if sign else date))
    if date.endswith("W"):
        _require(not sign)
        _units(date, "W")
    else:
        _units(date, "YMD")
        _units(clock, "HMS")


def _units(text: str, order: str) -> None:
    parts = re.findall("([0-9]+)([A-Z])", text)
    units = [unit for _, unit in parts]
    _require("".join(map("".join, parts)) == text)
    _require(units == [unit for unit in order if unit in units])


def _host(text: str) -> list[str]:
    """Return the labels of a name of a host, by RFC 1123."""
    labels = text.removesuffix(".").split(".")
    _require(len(text.removesuffix(".")) <= 253)
    for label in labels:
        _require(0 < len(label) < 64 and _IN_LABEL.issuperset(label))
        _require(label[0] != "-" and label[-1] != "-")
    return labels


def _email(text: str) -> None:
    """A dot-atom of RFC 5322 at a host that has a domain."""
    person, _, host = text.rpartition("@")
    _require(all(atom and _IN_ATOM.issuperset(atom) for atom in person.split(".")))
    _require(len(_host(host)) > 1 and not host.endswith("."))


def _ipv6(text: str) -> None:
    _require("%" not in text)
    ipaddress.IPv6Address(text)


def _uuid(text: str) -> None:
    plain = text.lower().removeprefix("urn:uuid:")
    _require(str(uuid.UUID(plain)) == plain)


def _uri_reference(text: str) -> SplitResult:
    """RFC 3986: its characters, and brackets only around an address."""
    _require(_IN_URI.issuperset(text) and "%" not in _ESCAPE.sub("", text))
    parts = urlsplit(text)
    _require(not set("[]") & set(parts.path + parts.query + parts.fragment))
    _require("#" not in parts.fragment)
    return parts


def _uri(text: str) -> None:
    _require(_uri_reference(text).scheme)


def _url(text: str) -> None:
    """An address on the web: of a host with a domain, or of a number."""
    _require(not re.search(r"\s", text))
    parts = urlsplit(text)
    _require(parts.scheme in ("http", "https", "ftp") and (parts.port is None or parts.port))
    host = (parts.hostname or "").encode("idna").decode()
    if _DIGITS.issuperset(host.replace(".", "")):
        ipaddress.IPv4Address(host)
    else:
        *names, top = _host(host)
        _require(names and len(top) > 1 and not _DIGITS.issuperset(top))


def _uri_template(text: str) -> None:
    """RFC 6570: expressions in braces, between them literals."""
    _require(not _NO_LITERAL.search(_ESCAPE.sub("", _EXPRESSION.sub("", text))))


def _pointer(text: str) -> None:
    """RFC 6901: each part behind a slash, ``~`` only as ``~0`` and ``~1``."""
    _require(text[:1] in ("", "/") and not re.search("~(?![01])", text))


def _pointer_in_uri(text: str) -> None:
    _require(text.startswith("#") and _uri_reference(text))
    _pointer(unquote(text[1:]))


def _relative_pointer(text: str) -> None:
    found = re.match("(?:0|[1-9][0-9]*)", text)
    _require(found)
    rest = text[found.end() :] if found else ""
    if rest != "#":
        _pointer(rest)


def _whole(number: float) -> None:
    _require(isinstance(number, int) or number.is_integer())


def _int32(number: float) -> None:
    _whole(number)
    _require(-(2**31) <= number < 2**31)


def _anything(_: Any) -> None:
    """Leave the value as it is: the format only tells what it is for."""


OF_TEXTS: Final[Mapping[str, Reader]] = {
    "date": _date,
    "time": _time,
    "date-time": _date_time,
    "iso-time": lambda text: _time(text, zoned=False),
    "iso-date-time": lambda text: _date_time(text, zoned=False),
    "duration": _duration,
    "hostname": _host,
    "email": _email,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": _ipv6,
    "uuid": _uuid,
    "uri": _uri,
    "uri-reference": _uri_reference,
    "uri-template": _uri_template,
    "url": _url,
    "json-pointer": _pointer,
    "json-pointer-uri-fragment": _pointer_in_uri,
    "relative-json-pointer": _relative_pointer,
    "regex": lambda text: translated(text, unicode=True),
    "byte": lambda text: base64.b64decode(text, validate=True),
    "password": _anything,
    "binary": _anything,
}
OF_NUMBERS: Final[Mapping[str, Reader]] = {
    "int32": _int32,
    "int64": _whole,
    "float": _anything,
    "double": _anything,
}
