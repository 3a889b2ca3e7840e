"""An OpenAI-compatible service whose answers follow from what it is asked; it keeps every request.

A model called `judge` grades: marks in what it judges (GOOD, BAD, SCORE=0.4, CATEGORY=D, HOLDS=2/4,
GARBAGE, BREAK) say how, and it replies in the form that the asker wants.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JUDGE = "judge"
CONTEXT = ("One is red.", "Two is blue.", "Three is green.", "Four is grey.")
"""The sentences of every context that is judged for its relevance."""


class BreakError(Exception):
    """What is asked wants an answer with status 500."""


class Served:
    """The service while it runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[dict[str, Any]] = []
        """Bodies of chat requests that no judge got, in the order of their coming."""

    def take(self) -> list[dict[str, Any]]:
        """Return the requests since the last call."""
        taken, self.requests = self.requests, []
        return taken


@contextmanager
def serving() -> Iterator[Served]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status = 200
            try:
                if self.path.endswith("/embeddings"):
                    said = embeddings(body)
                else:
                    if body["model"] != JUDGE:
                        served.requests.append(body)
                    said = completion(body)
            except BreakError:
                status, said = 500, {"error": {"message": "broken", "type": "server_error"}}
            sent = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Served(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to a chat request; raise BreakError."""
    text = "\n".join(_text(message.get("content")) for message in body["messages"])
    if "BREAK" in text:
        raise BreakError
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    finish = "stop"
    if body["model"] == JUDGE:
        message["content"] = graded(text)
    else:
        message["content"], finish = _said(body, text)
        calls = _calls(text)
        if calls and (body.get("tools") or body.get("functions")):
            kind = "tool_calls" if body.get("tools") else "function_call"
            message[kind] = calls if body.get("tools") else calls[0]["function"]
            message["content"], finish = ("Well, " if "TALK" in text else None), kind
    words = (message["content"] or "").split()
    asked = len(text.split())
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if body.get("logprobs"):
        told = [{"token": word, "logprob": -len(word) / 10} for word in words]
        choice["logprobs"] = {"content": told}
    usage = {
        "prompt_tokens": asked,
        "completion_tokens": len(words),
        "total_tokens": asked + len(words),
    }
    return {
        "id": "one",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
        "usage": usage,
    }


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content)
    return content or ""


def _said(body: Mapping[str, Any], text: str) -> tuple[str, str]:
    """Return what the last message asks to say, cut as the parameters want it, and why it ended."""
    last = _text(body["messages"][-1].get("content"))
    systems = sum(message["role"] == "system" for message in body["messages"])
    said = last.partition("SAY ")[2] or f"{len(body['messages'])} messages, {systems} of them rules"
    wanted = (body.get("response_format") or {}).get("type", "text")
    if wanted != "text":
        said = json.dumps({"said": said})
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        said = said.partition(stop)[0]
    words, most = said.split(" "), body.get("max_tokens") or len(text)
    if len(words) > most:
        return " ".join(words[:most]), "length"
    return said, "stop"


def _calls(text: str) -> list[dict[str, Any]]:
    """Return the calls that lines such as `CALL weather {"city": "Oslo"}` ask for."""
    found = re.findall(r"^CALL (\w+) (.*)$", text, re.MULTILINE)
    return [
        {
            "id": f"call-{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        for number, (name, arguments) in enumerate(found)
    ]


def embeddings(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return vectors of four letters' counts; raise BreakError."""
    texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
    if any("BREAK" in text for text in texts):
        raise BreakError
    rows = [
        {"object": "embedding", "index": place, "embedding": [text.count(x) / 8 for x in "aoxz"]}
        for place, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return {"object": "list", "model": body["model"], "data": rows, "usage": usage}


def graded(text: str) -> str:
    """Return a judge's reply to a question of either side."""
    if "GARBAGE" in text:
        return "I would rather not say."
    passed = "BAD" not in text
    written = re.search(r"SCORE=([\d.]+)", text)
    score = float(written[1]) if written else float(passed)
    category = re.search(r"CATEGORY=([A-E])", text)
    share = re.search(r"HOLDS=(\d)/(\d)", text)
    holds, claims = (int(share[1]), int(share[2])) if share else (0, 0)
    question = "Which oak has an acorn?" if passed else "zzz xx"
    letter = category[1] if category else "A"
    key = re.search(r"The key is (\w+)\.$", text)
    if key is None:
        return _to_promptfoo(text, passed, score, letter, (holds, claims), question)
    items = [{"text": f"{one}", "holds": one < holds} for one in range(claims)]
    members = {
        "id": key[1],
        "reason": "so it is marked",
        "pass": passed,
        "score": score,
        "category": letter,
        "questions": [question] * 3,
        "items": items,
    }
    return json.dumps(members)


def _to_promptfoo(
    text: str,
    passed: bool,
    score: float,
    letter: str,
    share: tuple[int, int],
    question: str,
) -> str:
    holds, claims = share
    if "Generate question" in text:
        return question
    if "attributed to the given context" in text:
        marks = ["[Attributed]" if one < holds else "[Not Attributed]" for one in range(claims)]
        return "\n".join(f"{one + 1}. A fact. {mark}" for one, mark in enumerate(marks))
    if "extract relevant sentences" in text:
        return "\n".join(CONTEXT[:holds]) or "Insufficient Information"
    if "Natural language inference" in text:
        verdicts = ["Yes." if one < holds else "No." for one in range(claims)]
        return "Final verdict for each statement in order: " + " ".join(verdicts)
    if "create one or more statements" in text:
        return "\n".join(f"Claim {one}, HOLDS={holds}/{claims}" for one in range(claims))
    if '"steps"' in text:
        return json.dumps({"steps": ["Read it."]})
    if "Evaluation Steps" in text:
        return json.dumps({"score": score * 10, "reason": "so it is marked"})
    if "factual content" in text:
        return json.dumps({"category": letter, "reason": "so it is marked"})
    if "meet the criterion" in text:
        return "So it is marked.\n" + ("Y" if passed else "N")
    return json.dumps({"reason": "so it is marked", "pass": passed, "score": score})
