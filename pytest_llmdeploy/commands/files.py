"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pytest_llmdeploy.errors import LLMDeployError


def write_whole(path: Path, text: str, *, replace: bool = True) -> None:
    """Write the file so that no reader ever sees half of it; raise LLMDeployError otherwise.

    Without `replace` a file that exists stays as it is, also one that appeared just now.
    """
    name: str | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        if replace:
            Path(name).replace(path)
        else:
            os.link(name, path)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        raise LLMDeployError(f"{path} exists already: --force replaces it") from None
    except OSError as exc:
        raise LLMDeployError(f"cannot write {path}: {exc.strerror or exc}") from exc
    finally:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
