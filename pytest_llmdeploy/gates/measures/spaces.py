"""What white space is to the measures, and to JavaScript."""

from __future__ import annotations

from typing import Final

SPACE: Final = "\t\n\v\f\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""As the inside of a character class."""
_EACH: Final = SPACE.replace("\u2000-\u200a", "".join(map(chr, range(0x2000, 0x200B))))


def trim(text: str) -> str:
    """Return the text without white space at its ends."""
    return text.strip(_EACH)
