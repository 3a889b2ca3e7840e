from typing import Any


def text(context: dict[str, Any]) -> str:
    names = sorted(name for name in context["vars"] if not name.startswith("__"))
    return f"made for {context['provider']['id']}: {{{{x}}}} {names}"


def chat(context: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": "made {{x}}"},
        {"role": "user", "content": context["vars"]["x"]},
    ]
