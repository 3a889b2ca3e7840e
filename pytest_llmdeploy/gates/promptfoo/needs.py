"""What a row needs that no row has by itself: answers of other rows, secrets of the process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pytest_llmdeploy.gates.promptfoo.config_file import Environment
from pytest_llmdeploy.gates.promptfoo.nunjucks import names
from pytest_llmdeploy.gates.promptfoo.variables import wrapped

_CONVERSATION = "_conversation"


@dataclass(frozen=True, slots=True)
class Needs:
    """What no row of a config can be given here."""

    stored: frozenset[str]
    """Names under which answers are kept for other rows."""
    environment: Environment

    def lacking(
        self, raw: str, variables: Mapping[str, Any], test: Mapping[str, Any]
    ) -> str | None:
        """Say what a row with this prompt lacks; None where it lacks nothing."""
        used = names(wrapped(raw))
        alone = test["options"].get("disableConversationVar") is True
        if (_CONVERSATION in used or _CONVERSATION in raw) and not alone:
            return "the prompt needs _conversation, the answers of earlier rows"
        if needed := self.stored & used:
            return f"the prompt needs '{min(needed)}', the stored answer of another row"
        checks = json.dumps([test["assert"], test["options"]], default=str, ensure_ascii=False)
        for name in self.stored:
            if re.search(rf"\{{[{{%][^}}]*\b{re.escape(name)}\b", checks):
                return f"an assertion needs '{name}', the stored answer of another row"
        texts = [raw, checks, *(value for value in variables.values() if isinstance(value, str))]
        for text in texts:
            if "env" in text and (withheld := self.environment.withheld(text)):
                return (
                    f"a template reads the variable {withheld} of this process: only those that "
                    "the config itself names are filled in, and none that look like secrets"
                )
        return None


def stored_names(value: Any) -> Iterator[str]:
    """Yield the names under which a config keeps answers for other rows."""
    if isinstance(value, Mapping):
        options = value.get("options")
        if isinstance(options, Mapping) and isinstance(options.get("storeOutputAs"), str):
            yield options["storeOutputAs"]
        for key in ("tests", "defaultTest", "scenarios", "config"):
            yield from stored_names(value.get(key))
    elif isinstance(value, list):
        for one in value:
            yield from stored_names(one)
