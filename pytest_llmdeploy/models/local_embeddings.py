"""Vectors made on this machine by a static model: no service, no GPU, no network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import MissingExtraError, NotMeasuredError
from pytest_llmdeploy.ports import Embedded
from pytest_llmdeploy.untrusted import one_line

FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a folder of model2vec holds."""


class LocalEmbedder:
    """A model2vec model: a folder, or a name that is in the cache of Hugging Face already.

    Nothing is downloaded: a gate whose model changes under its feet is none.
    """

    def __init__(self, model: str, root: Path, environment: Mapping[str, str] = os.environ) -> None:
        """`root` is where a relative folder lies."""
        self._name = model
        self._folder = _folder(model, root, environment)
        self._model = _load(str(self._folder))

    async def embed(self, texts: Sequence[str], timeout: float) -> Embedded:
        """Return a vector for each text; raise NotMeasuredError."""
        if not texts:
            raise NotMeasuredError("there is no text to make a vector of")
        try:
            async with asyncio.timeout(timeout):
                rows = await asyncio.to_thread(self._model.encode, list(texts))
        except TimeoutError as error:
            raise NotMeasuredError(f"{self._name}: no vectors within {timeout:g} s") from error
        return Embedded([[float(part) for part in row] for row in rows], self._name)

    async def aclose(self) -> None:
        """Do nothing: the model stays for the next gate."""


def _folder(model: str, root: Path, environment: Mapping[str, str]) -> Path:
    folder = (root / Path(model).expanduser()).absolute()
    if folder.is_dir():
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise NotMeasuredError(
                f"embeddings.local: {model} is no folder of a model2vec model: "
                f"{', '.join(missing)} missing"
            )
        return folder
    home = Path(environment.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(environment.get("HF_HUB_CACHE") or home / "hub")
    repository = hub / f"models--{model.strip('/').replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        snapshot = repository / "snapshots" / revision
        if all((snapshot / name).is_file() for name in FILES):
            return snapshot
    except (OSError, ValueError):
        pass
    raise NotMeasuredError(
        f"embeddings.local: there is no folder {model}, and no such model in {hub}: nothing is "
        "downloaded during a run; save the model into a folder, and name that"
    )


@lru_cache(maxsize=4)
def _load(folder: str) -> Any:
    """Return the model; loaded once a process, as its table can be some hundred megabytes."""
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise MissingExtraError(
            "embeddings.local", "embeddings", error.name or "model2vec"
        ) from error
    try:
        return StaticModel.from_pretrained(folder, force_download=False)
    except Exception as error:  # whatever a broken file makes its loaders raise
        raise NotMeasuredError(
            f"embeddings.local: {folder} cannot be loaded: {one_line(str(error))}"
        ) from error
