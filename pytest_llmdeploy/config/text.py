"""Reading a text file that a user wrote: every way in which it can be unreadable is a Problem."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from pytest_llmdeploy.errors import ConfigError, Problem

# The C1 range matters too: U+0085 is a line break to YAML and none to an editor, so that every
# later line number would be off.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def display_path(path: Path) -> str:
    """Return the path as its user would write it: relative when below the current directory."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def shortened(text: str) -> str:
    """Return a text as one line of at most 40 characters, for messages."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def size_text(size: int) -> str:
    """Return a number of bytes for people: ``1 MiB`` where it is even, else ``1500 bytes``."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} bytes"


def read_text(path: Path, max_bytes: int) -> str:
    """Return the file's text without a byte order mark; raise ConfigError with file and line.

    At most `max_bytes` + 1 bytes are read, so a huge file fails as fast as a small one.
    """
    file = display_path(path)

    def broken(message: str, line: int = 0) -> ConfigError:
        return ConfigError([Problem(file, line, "", message)])

    try:
        if path.is_dir():
            raise broken("this is a directory, not a file")
        if path.exists() and not path.is_file():
            # Opening a pipe could wait for ever.
            raise broken("this is not a regular file")
        with path.open("rb") as stream:
            raw = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise broken("the file does not exist") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise broken(f"the file cannot be read ({reason})") from exc
    if len(raw) > max_bytes:
        raise broken(f"the file is larger than {size_text(max_bytes)}")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as exc:
        before = raw[: exc.start]
        column = exc.start - (before.rfind(b"\n") + 1) + 1
        raise broken(
            f"not UTF-8: byte 0x{raw[exc.start]:02x} at position {column} of the line",
            before.count(b"\n") + 1,
        ) from None
    if found := _CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise broken(f"the control character U+{ord(found.group()):04X} cannot stand here", line)
    return text
