"""The providers of a config: the environment's endpoint answers for nearly all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_llmdeploy.gates.promptfoo.paths import BadPathError, Files, is_javascript
from pytest_llmdeploy.gates.promptfoo.references import expand
from pytest_llmdeploy.gates.promptfoo.yaml_dialect import read_yaml_file
from pytest_llmdeploy.gates.wording import quote

ECHO = "echo"
"""The provider that answers with its prompt."""
PARAMETERS = [
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "functions",
    "function_call",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "verbosity",
    "n",
]
"""What of a provider's config goes with a request."""
_OPTIONS = ("id", "label", "config", "prompts", "transform", "delay", "env", "inputs")
_DEFAULTS = {"temperature": 0, "max_tokens": 1024}
"""What requests to OpenAI's chat models have where nothing is said."""
_NOT_OF_OPENAI = frozenset(
    {"top_k", "n", "logit_bias", "logprobs", "top_logprobs", "parallel_tool_calls", "verbosity"}
)
"""What OpenAI's chat models get only as `passthrough` there; GPT-5 gets verbosity as well."""
_ONLY_WHERE_REASONING = frozenset({"max_completion_tokens", "reasoning_effort"})
_NOT_WHERE_REASONING = frozenset({"max_tokens", "temperature"})
_CODE = re.compile(r"(?:python|exec|golang|ruby|package):|file://.*\.(?:py|go|rb)(?::.*)?$")
_NO_CHAT = re.compile(
    r"[a-z0-9-]+:(?:embeddings?|moderation|image|video|transcription|tts|speech|realtime|assistant|"
    r"classification|text-classification|feature-extraction|sentence-similarity|rerank)(?::|$)"
    r"|promptfoo:|sequence$|browser$|websocket|wss?://|mcp$"
)
_REASONS = re.compile(r"(?:^|/)(?:o[134]|gpt-5|gpt-6)")


@dataclass(frozen=True, slots=True)
class Provider:
    """Who is to be asked, as the config says."""

    id: str
    label: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    prompts: tuple[str, ...] | None = None
    """Labels of the prompts that it takes; None: all."""
    transform: Any = None
    problem: str | None = None
    """Why nothing is asked of it here."""
    written: Literal["text", "options", "mapping"] = "text"
    """How it is written: its id alone, with an id among others, or as {id: options}."""

    @property
    def name(self) -> str:
        """What rows call it."""
        return self.label or self.id

    def parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return what goes with its requests; `given` is what the gate's own parameters are."""
        dropped = self.dropped()
        kept = {
            key: self.config[key]
            for key in PARAMETERS
            if self.config.get(key) is not None and key not in dropped
        }
        passed_on = self.config.get("passthrough")
        kept |= dict(passed_on) if isinstance(passed_on, Mapping) else {}
        kept.pop("model", None)
        plain = self._of_openai and not _REASONS.match(self._model)
        if plain and self.config.get("omitDefaults") is not True:
            kept = {**{key: one for key, one in _DEFAULTS.items() if key not in given}, **kept}
        return kept

    def dropped(self) -> frozenset[str]:
        """Return the parameters that promptfoo sends such a model only as passthrough."""
        if not self._of_openai:
            return frozenset()
        reasons = _REASONS.match(self._model) is not None
        dropped = _NOT_OF_OPENAI | (_NOT_WHERE_REASONING if reasons else _ONLY_WHERE_REASONING)
        if "gpt-oss" in self._model:
            dropped -= {"reasoning_effort"}
        if "gpt-5" in self._model:
            dropped -= {"verbosity"}
        return dropped

    @property
    def _model(self) -> str:
        return self.id.removeprefix("openai:").removeprefix("chat:")

    @property
    def _of_openai(self) -> bool:
        return self.id.startswith("openai:") and not self.id.startswith("openai:responses")


def read_providers(written: Any, files: Files) -> list[Provider]:
    """Return the providers in their order, each once; raise BadPathError or ConfigError."""
    found: list[Provider] = []
    seen: set[str] = set()
    for entry in written if isinstance(written, list) else [written]:
        key = json.dumps(entry, sort_keys=False, default=str)
        if key not in seen:
            seen.add(key)
            found += _of_entry(entry, files)
    if not found:
        raise BadPathError("the config has no provider")
    return found


def read_provider(entry: Any, files: Files) -> Provider:
    """Return the one provider of a test."""
    found = _of_entry(entry, files)
    if len(found) != 1:
        raise BadPathError("a test's provider is one, not a list")
    return found[0]


def matches(reference: str, provider: Provider) -> bool:
    """Say whether a test that names `reference` means the provider."""
    names = [name for name in (provider.label, provider.id) if name]
    if reference in names or any(name.startswith(f"{reference}:") for name in names):
        return True
    prefix = reference.removesuffix("*")
    return prefix != reference and any(name.startswith(prefix) for name in names)


def prompts_by_name(providers: Sequence[Provider]) -> dict[str, tuple[str, ...] | None]:
    """Return which prompts each provider takes, by what rows call it; None and absent: all.

    An id that several have stands for the last one that is written with options, and one that is
    written as {id: options} is known by its id even where it has a label.
    """
    known: dict[str, tuple[str, ...] | None] = {}
    for provider in providers:
        if provider.written == "text":
            continue
        known[provider.id] = provider.prompts
        if provider.label and provider.written == "options":
            known[provider.label] = provider.prompts
    return known


def warnings(provider: Provider) -> list[str]:
    """Say what of a provider has no effect here."""
    if provider.id == ECHO or provider.problem:
        return []
    told = [f"{provider.id}: the environment's model answers instead"]
    ignored = [
        key
        for key in provider.config
        if key not in {*PARAMETERS, "passthrough", "omitDefaults"} - provider.dropped()
        and provider.config[key] is not None
    ]
    if ignored:
        told.append(f"{provider.id}: no effect of {', '.join(sorted(ignored))} in its config")
    return told


def _of_entry(entry: Any, files: Files) -> list[Provider]:
    if isinstance(entry, str):
        if re.fullmatch(r"file://.*\.(?:ya?ml|json)", entry):
            content = expand(read_yaml_file(files.resolve(entry)).data, files)
            listed = content if isinstance(content, list) else [content]
            return [provider for one in listed for provider in _of_entry(one, files)]
        return [Provider(entry, problem=_problem(entry))] if entry else []
    if not isinstance(entry, Mapping) or not entry:
        raise BadPathError(
            f"a provider is a text or a mapping with an id, not {quote(str(entry), 60)}"
        )
    options = entry
    written: Literal["options", "mapping"] = "options"
    if not isinstance(entry.get("id"), str):
        name, inner = next(iter(entry.items()))
        if len(entry) != 1 or name in _OPTIONS or not isinstance(inner, Mapping):
            raise BadPathError(f"a provider without an id: {quote(str(dict(entry)), 60)}")
        options = {**inner, "id": inner.get("id") or name}
        written = "mapping"
    config, prompts = options.get("config"), options.get("prompts")
    identity = str(options["id"])
    return [
        Provider(
            identity,
            str(options.get("label") or ""),
            config if isinstance(config, Mapping) else {},
            tuple(map(str, prompts)) if isinstance(prompts, list) else None,
            options.get("transform"),
            _problem(identity),
            written,
        )
    ]


def _problem(identity: str) -> str | None:
    if _CODE.match(identity) or is_javascript(identity):
        return f"the provider '{identity}' is code: a gate asks the environment's endpoint"
    if _NO_CHAT.match(identity):
        return f"the provider '{identity}' is no chat model"
    return None
