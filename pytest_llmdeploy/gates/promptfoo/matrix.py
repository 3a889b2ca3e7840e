"""Tests x variables x prompts x providers x repeats: the rows of a config."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_llmdeploy.config.text import display_path
from pytest_llmdeploy.errors import ConfigError, NotMeasuredError, Problem
from pytest_llmdeploy.gates.case import RESERVED_ID, safe_id
from pytest_llmdeploy.gates.promptfoo import prompts as prompts_module
from pytest_llmdeploy.gates.promptfoo import providers as providers_module
from pytest_llmdeploy.gates.promptfoo.config_file import Config
from pytest_llmdeploy.gates.promptfoo.js_values import stringify
from pytest_llmdeploy.gates.promptfoo.messages import messages_of
from pytest_llmdeploy.gates.promptfoo.needs import Needs, stored_names
from pytest_llmdeploy.gates.promptfoo.nunjucks import TemplateError, render
from pytest_llmdeploy.gates.promptfoo.paths import BadPathError
from pytest_llmdeploy.gates.promptfoo.prompt_functions import made
from pytest_llmdeploy.gates.promptfoo.prompts import Prompt, read_prompts
from pytest_llmdeploy.gates.promptfoo.providers import (
    ECHO,
    PARAMETERS,
    Provider,
    read_provider,
    read_providers,
)
from pytest_llmdeploy.gates.promptfoo.references import expand
from pytest_llmdeploy.gates.promptfoo.row import Row, RowPrompt, RowProvider
from pytest_llmdeploy.gates.promptfoo.tests import RawTest, read_tests
from pytest_llmdeploy.gates.promptfoo.transforms import made_variables
from pytest_llmdeploy.gates.promptfoo.variables import (
    NotSupportedError,
    combinations,
    fill,
    final,
)
from pytest_llmdeploy.ports import Message

MOST_ROWS = 100_000
"""Rows of one config."""
_PROBLEM = "\0problem"
"""Key of a test under which it is said why its variables cannot be made; no config has it."""
_TEMPLATES = frozenset({"tools", "functions", "response_format", "reasoning_effort"})
"""Parameters whose templates are filled in with a row's variables."""
_CREDENTIALS = ("apiKey", "apiKeyEnvar", "headers")
"""What of a provider no row needs, and no report may have."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A row, and how its answer is to be had."""

    row: Row
    problem: str | None = None
    """Why it cannot be judged here."""
    canned: str | None = None
    """Its answer, where no model is asked."""
    messages: Sequence[Message] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a config comes down to."""

    rows: Sequence[Planned]
    providers: Sequence[Provider]


def read_matrix(config: Config, *, allow_code: bool, parameters: Mapping[str, Any]) -> Matrix:
    """Return the rows of a config in the order in which promptfoo makes them.

    `parameters` are those of the gate, which win over what requests have by default. Raises
    ConfigError for what no run could begin with.
    """
    builder = _Builder(config, allow_code, parameters)
    rows = [planned for test in read_tests(config) for planned in builder.rows(test)]
    if not rows:
        message = (
            "the config makes no row: its tests, and the prompts and providers that they name, "
            "leave nothing to ask"
        )
        raise ConfigError([Problem(display_path(config.path), 0, "", message)])
    return Matrix(_unique(rows), builder.providers)


class _Builder:
    def __init__(self, config: Config, allow_code: bool, parameters: Mapping[str, Any]) -> None:
        self.config = config
        self._allow_code = allow_code
        self._parameters = parameters
        self._count = 0
        self._looked_at = 0  # also what no prompt is for
        self._number = 0
        data = config.data
        if data.get("redteam") or data.get("plugins") or data.get("strategies"):
            raise config.problem(("redteam",), "red-team configs are not run: give tests")
        self.prompts = self._read(("prompts",), lambda: read_prompts(
            data.get("prompts") or ["{{prompt}}"], config.files))  # fmt: skip
        self.providers = self._read(("providers",), lambda: read_providers(
            data.get("providers") or [], config.files))  # fmt: skip
        self._taken = providers_module.prompts_by_name(self.providers)
        self._repeat = self._repeats(data)
        self._needs = Needs(frozenset(stored_names(data)), self.config.environment)
        self._whole = self._problem_of_all(data)

    def _read(self, place: tuple[str, ...], read: Any) -> Any:
        try:
            return read()
        except BadPathError as error:
            raise self.config.problem(place, str(error)) from error

    @staticmethod
    def _repeats(data: Mapping[str, Any]) -> int:
        for section in ("commandLineOptions", "evaluateOptions"):
            options = data.get(section)
            if isinstance(options, Mapping) and options.get("repeat") is not None:
                return _times(options["repeat"], 1)
        return 1

    @staticmethod
    def _problem_of_all(data: Mapping[str, Any]) -> str | None:
        if data.get("extensions"):
            return "extensions of the config are code that changes its tests, which is not run"
        return None

    def rows(self, test: RawTest) -> Iterator[Planned]:
        """Yield the rows of one test; raise ConfigError."""
        self._number += 1
        test = replace(test, data=self._with_variables(test))
        data, options = test.data, test.data["options"]
        self._check_names(test)
        own = self._own_provider(test)
        expanded = options.get("disableVarExpansion") is not True
        try:
            sets = list(combinations(data["vars"], self.config.files)) if expanded else [
                dict(data["vars"])
            ]  # fmt: skip
        except BadPathError as error:
            raise _at(test, f"vars: {error}") from error
        repeat = _times(options.get("repeat"), self._repeat)
        for time in range(repeat):
            for place, variables in enumerate(sets):
                for provider in self.providers:
                    self._looked_at += 1
                    if self._looked_at > 10 * MOST_ROWS:
                        raise _at(test, f"the config combines more than {10 * MOST_ROWS} things")
                    if not _allowed(data.get("providers"), provider, providers_module.matches):
                        continue
                    for number, prompt in enumerate(self.prompts):
                        taken = self._taken.get(provider.name)
                        if not _allowed(taken, prompt, prompts_module.matches):
                            continue
                        if not _allowed(data.get("prompts"), prompt, prompts_module.matches):
                            continue
                        self._count += 1
                        if self._count > MOST_ROWS:
                            raise _at(test, f"the config makes more than {MOST_ROWS} rows")
                        name = self._name(
                            test,
                            f"v{place + 1}" if len(sets) > 1 else "",
                            f"p{number + 1}" if len(self.prompts) > 1 else "",
                            provider.name if len(self.providers) > 1 else "",
                            f"r{time + 1}" if repeat > 1 else "",
                        )
                        yield self._planned(
                            name,
                            test,
                            variables=variables,
                            prompt=prompt,
                            providers=(provider, own),
                            time=time,
                        )

    def _name(self, test: RawTest, *parts: str) -> str:
        described = test.data.get("description")
        first = str(described) if described else f"test-{self._number}"
        name = safe_id("-".join([first, *filter(None, parts)])) or f"test-{self._number}"
        return f"test-{name}" if name == RESERVED_ID else name

    def _check_names(self, test: RawTest) -> None:
        """Raise ConfigError for prompts and providers that a test names and nobody has."""
        for key, known, matches in (
            ("providers", self.providers, providers_module.matches),
            ("prompts", self.prompts, prompts_module.matches),
        ):
            references = test.data.get(key)
            if references is None:
                continue
            if not isinstance(references, list):
                raise _at(test, f"{key} is a list of labels")
            for reference in references:
                if not any(matches(str(reference), one) for one in known):
                    raise _at(test, f"{key}: there is none called '{reference}'")

    def _own_provider(self, test: RawTest) -> Provider | None:
        written = test.data.get("provider")
        if not written:
            return None
        try:
            return read_provider(written, self.config.files)
        except BadPathError as error:
            raise _at(test, f"provider: {error}") from error

    def _planned(
        self,
        name: str,
        test: RawTest,
        *,
        variables: Mapping[str, Any],
        prompt: Prompt,
        providers: tuple[Provider, Provider | None],
        time: int,
    ) -> Planned:
        provider, own = providers
        asked = own or provider
        data, options = test.data, test.data["options"]
        raw = f"{options.get('prefix') or ''}{prompt.raw}{options.get('suffix') or ''}"
        problem = self._whole or asked.problem or prompt.problem or data.get(_PROBLEM)
        seen: Mapping[str, Any] = dict(variables)
        text = raw
        try:
            seen = final(variables, self.config.files)
            if prompt.code and not self._allow_code:
                file = Path(prompt.code).name.removesuffix(":")
                named = f"{file} is code: set allow_code: true to run it"
                raise NotSupportedError(f"the prompt function {named}")
            if prompt.code and not problem:
                raw = made(prompt.code, prompt, seen, provider)
            if problem is None:
                problem = self._needs.lacking(raw, seen, data)
            step = f"test-{self._number - 1}-repeat-{time}"
            extra = {"__evalStepId": step, "__repeatIndex": time}
            text = fill(raw, {**seen, **extra}, self.config.environment.values)
        except (BadPathError, ConfigError) as error:
            raise (
                error if isinstance(error, ConfigError) else _at(test, f"vars: {error}")
            ) from error
        except (NotSupportedError, TemplateError) as error:
            problem = problem or f"the prompt cannot be filled in: {error}"
        parameters = self._parameters_of(asked, prompt, options, seen)
        row = Row(
            id=name,
            description=str(data.get("description") or ""),
            vars=seen,
            asserts=tuple(one for one in data["assert"] if isinstance(one, Mapping)),
            threshold=data.get("threshold"),
            options=options,
            provider=RowProvider(
                provider.id, provider.name, self._config_of(provider), provider.transform
            ),
            prompt=RowPrompt(raw, prompt.label, text, prompt.config),
            test={
                **{key: one for key, one in data.items() if key != _PROBLEM},
                "vars": dict(variables),
            },
            base=self.config.files.base,
            root=self.config.files.root,
            allow_code=self._allow_code,
            repeat=time,
            source=test.source,
        )
        planned = Planned(row, problem, parameters=parameters)
        if output := data.get("providerOutput"):
            return replace(planned, canned=output if isinstance(output, str) else stringify(output))
        if asked.id == ECHO:
            return replace(planned, canned=text)
        if problem:
            return planned
        try:
            return replace(planned, messages=messages_of(text))
        except NotSupportedError as error:
            return replace(planned, problem=str(error))

    def _with_variables(self, test: RawTest) -> Mapping[str, Any]:
        """Return the test with the variables that its transformVars makes, or with the problem."""
        written = test.data["options"].get("transformVars")
        if not written:
            return test.data
        try:
            own = made_variables(written, test.data["vars"], self.config, self._allow_code)
        except NotMeasuredError as error:
            return {**test.data, _PROBLEM: f"transformVars: {error}"}
        return {**test.data, "vars": {**test.data["vars"], **own}}

    def _config_of(self, provider: Provider) -> Mapping[str, Any]:
        """Return the provider's config with files read, and without its credentials."""
        own = {key: one for key, one in provider.config.items() if key not in _CREDENTIALS}
        try:
            config = expand(own, self.config.files)
        except (BadPathError, ConfigError):
            return own
        return config if isinstance(config, Mapping) else own

    def _parameters_of(
        self,
        provider: Provider,
        prompt: Prompt,
        options: Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        own = {**prompt.config, **options}
        config = {
            **self._config_of(provider),
            **{key: own[key] for key in PARAMETERS if key in own},
        }
        kept = replace(provider, config=config).parameters(self._parameters)
        written = {**provider.config, **own}
        for key in _TEMPLATES & kept.keys():
            if isinstance(written.get(key), str) and not isinstance(kept[key], str):
                continue  # a file's own templates stay as they are
            with suppress(TemplateError):
                kept[key] = _rendered(kept[key], variables)
        return kept


def _rendered(value: Any, variables: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return render(value, variables)
    if isinstance(value, list):
        return [_rendered(one, variables) for one in value]
    if isinstance(value, Mapping):
        return {key: _rendered(one, variables) for key, one in value.items()}
    return value


def _allowed(references: Any, one: Any, matches: Any) -> bool:
    if not isinstance(references, list | tuple):
        return True
    return any(matches(str(reference), one) for reference in references)


def _times(value: Any, otherwise: int) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_ROWS
    return value if whole else otherwise


def _at(test: RawTest, message: str) -> ConfigError:
    file, _, line = test.source.rpartition(":")
    return ConfigError([Problem(file, int(line), "", message)])


def _unique(rows: Sequence[Planned]) -> list[Planned]:
    """Return the rows with names of their own: a name that comes again gets its number."""
    taken = Counter(planned.row.id for planned in rows)
    used: set[str] = set()
    again: Counter[str] = Counter()
    result: list[Planned] = []
    for planned in rows:
        name = planned.row.id
        if taken[name] > 1:
            again[name] += 1
            if again[name] > 1:
                name = f"{name}-{again[name]}"
        while name in used or (name != planned.row.id and name in taken):
            name = f"{name}+"
        used.add(name)
        result.append(replace(planned, row=replace(planned.row, id=name)))
    return result
