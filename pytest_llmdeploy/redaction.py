"""Keeping secrets out of everything that is printed or written."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

HIDDEN = "***"
KEY_HEADERS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key"})
"""Headers, in small letters, whose values are keys."""
_CUT = re.compile(r"…|\.\.\.")
"""How texts are shortened, by us and by pytest."""
_MIN_SECRET = 4
_MIN_LINE = 8
# Only a class without '/' may stand between '://' and '@': each address is scanned once, so that
# hostile text cannot make this slow.
_USERINFO = re.compile(r"""(?<=://)[^\s/?#"'<>]*@""")
# Between name and value stands ": ", or "', '" of a printed tuple, or '\": \"' of JSON in JSON.
_GAP = r"""(\\?["']?\s*[:=,]\s*\\?["']?)"""
_AUTHORIZATION = re.compile(rf"""(?i)\b((?:proxy-)?authorization){_GAP}[^\r\n"'\\]+""")
_KEY_HEADER = re.compile(rf"""(?i)\b((?:x-)?api-key){_GAP}[^\s"',;\\]+""")


class Redactor:
    """Replace secrets by ``***``, also in the forms in which they travel.

    Secrets shorter than 4 characters are not replaced: hiding them would blot out ordinary text
    and give away more than it hides. Of a secret with several lines each line of 8 characters or
    more counts as well. Passwords in addresses and the values of Authorization and api-key
    headers are hidden even when they are no known secret.

    `secrets` is all the state there is: ``Redactor(other.secrets)`` hides the same in another
    process.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(sorted(set(secrets)))
        forms: set[str] = set()
        for secret in self.secrets:
            forms.update(_forms(secret))
            forms.update(_forms(secret.strip()))
            for line in secret.splitlines():
                if len(line.strip()) >= _MIN_LINE:
                    forms.update(_forms(line.strip()))
        self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __call__(self, text: str) -> str:
        """Return the text with secrets hidden."""
        if self._forms:
            text = _hide(text, self._forms)
        if "://" in text:
            text = _USERINFO.sub(f"{HIDDEN}@", text)
        if not _may_name_header(text):
            return text
        text = _AUTHORIZATION.sub(rf"\1\2{HIDDEN}", text)
        return _KEY_HEADER.sub(rf"\1\2{HIDDEN}", text)

    def deep(self, value: Any) -> Any:
        """Return a copy of nested dicts, lists, tuples and strings with secrets hidden in each.

        Keys are redacted too; a value below a header's name that carries a key is hidden whole.
        """
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self.deep(key): self._entry(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.deep(item) for item in value)
        return value

    def _entry(self, key: Any, item: Any) -> Any:
        is_header = isinstance(key, str) and isinstance(item, str) and item
        if is_header and key.lower() in KEY_HEADERS:
            return HIDDEN
        return self.deep(item)


def _may_name_header(text: str) -> bool:
    """Return whether the patterns of headers can match; far faster than to let them try.

    Letters of other scripts that they take for i or k are left to them.
    """
    if not text.isascii():
        return True
    lower = text.lower()
    return "authorization" in lower or "api-key" in lower


def _hide(text: str, forms: tuple[str, ...]) -> str:
    # Every occurrence of every form, overlapping ones too: of two secrets that share characters
    # neither leaves a rest behind. str.find is far faster here than one large pattern.
    spans: list[tuple[int, int]] = []
    for form in forms:
        start = text.find(form)
        while start >= 0:
            spans.append((start, start + len(form)))
            start = text.find(form, start + 1)
    spans += _cut_spans(text, forms)
    if not spans:
        return text
    pieces: list[str] = []
    position = hidden_to = 0
    for start, end in sorted(spans):
        if start >= hidden_to or not pieces:
            pieces += (text[position:start], HIDDEN)
        hidden_to = position = max(hidden_to, end)
    return "".join((*pieces, text[position:]))


def _cut_spans(text: str, forms: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return where a secret was cut by shortening the text: its beginning or its end is left."""
    spans = []
    for cut in _CUT.finditer(text):
        before, after = text[: cut.start()].rstrip(), text[cut.end() :]
        skipped = len(after) - len(after.lstrip())
        after = after.lstrip()
        for form in forms:
            most = len(form) - 1
            for length in range(min(most, len(before)), _MIN_SECRET - 1, -1):
                if before.endswith(form[:length]):
                    spans.append((len(before) - length, len(before)))
                    break
            for length in range(min(most, len(after)), _MIN_SECRET - 1, -1):
                if after.startswith(form[-length:]):
                    start = cut.end() + skipped
                    spans.append((start, start + length))
                    break
    return spans


def _forms(secret: str) -> set[str]:
    if len(secret) < _MIN_SECRET:
        return set()
    # The repr of a text without single quotes escapes no quote; with both kinds in it, single ones.
    shown = "'".join(repr(part)[1:-1] for part in secret.split("'"))
    forms = {secret, shown, shown.replace("'", r"\'")}
    forms |= {json.dumps(secret, ensure_ascii=flag)[1:-1] for flag in (True, False)}
    raw = secret.encode("utf-8", "surrogatepass")
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        forms |= {quoted, re.sub("%..", lambda code: code.group().lower(), quoted)}
    for offset, lost in ((0, 0), (1, 2), (2, 3)):
        forms |= _base64_core(raw, offset, lost)
    # What consists of our own mark only would be found in every redacted text again.
    return {form for form in forms if len(form) >= _MIN_SECRET and form.strip("*")}


def _base64_core(raw: bytes, offset: int, lost: int) -> set[str]:
    """Return what is the same in the base64 form of ``<anything>`` + raw + ``<anything>``.

    HTTP Basic encodes "user:secret" in one go, so the secret can start at each of three offsets
    in a group of three bytes; the characters that it shares with its neighbours are left out.
    """
    encoded = base64.b64encode(b"\0" * offset + raw).decode("ascii")
    if rest := (offset + len(raw)) % 3:
        encoded = encoded[: rest - 4]
    core = encoded[lost:]
    return {core, core.replace("+", "-").replace("/", "_")}
