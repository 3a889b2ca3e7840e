"""The smoke checks: does the service speak the OpenAI-compatible API at all?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from pytest_llmdeploy.addresses import certificate_refused
from pytest_llmdeploy.checks.exchange import (
    CheckFailedError,
    Deadline,
    Reply,
    Target,
    exchange,
    opened,
)
from pytest_llmdeploy.checks.http import check_http
from pytest_llmdeploy.checks.stream import check_stream
from pytest_llmdeploy.config.models import ServiceConfig, SmokeCheck, SmokeConfig
from pytest_llmdeploy.errors import NotMeasuredError

Detail = dict[str, Any]
BAD_REQUEST = {"model": "", "messages": "this should be a list"}
UNREAD_STATUS = frozenset({401, 403, 407, 408, 429})
"""Refusals that a server gives before it looks at what was asked."""


def smoke_checks(config: SmokeConfig, service: ServiceConfig, url: str | None) -> list[SmokeCheck]:
    """Return the checks to make; without a list of the user's, all that apply."""
    if config.checks is not None:
        return list(config.checks)
    kinds = ["models", "completion", "stream", "bad-request"]
    if service.version_header is not None:
        kinds.append("version-header")
    if url is not None and url.startswith("https:"):
        kinds.append("tls")
    return [SmokeCheck.model_validate(kind) for kind in kinds]


async def check_smoke(target: Target, check: SmokeCheck) -> Detail:
    """Make one check and return numbers about it; raise CheckFailedError where it fails."""
    return await _CHECKS[check.kind](target, check)


async def list_models(target: Target, deadline: Deadline) -> tuple[Reply, list[str]]:
    """Return the names of the models that the service lists, one at least."""
    url = f"{target.service.api_url}/models"
    reply = await exchange(target, "GET", url, deadline=deadline)
    if reply.status != 200:
        raise reply.fail("HTTP 200")
    shape = 'a list of models: {"data": [{"id": …}, …]}'
    listed = reply.json(shape)
    try:
        names = [model["id"] for model in listed["data"]]
    except (KeyError, TypeError) as error:
        raise reply.fail(shape) from error
    if not names or not all(isinstance(name, str) and name for name in names):
        raise reply.fail("at least one model with an id")
    return reply, names


async def _check_models(target: Target, check: SmokeCheck) -> Detail:
    reply, names = await list_models(target, Deadline(check.timeout))
    wanted = target.config.model
    if wanted is not None and wanted not in names:
        raise reply.fail(f"the model {wanted!r} (service.model) among the listed ones")
    return {"models": names, "seconds": reply.seconds}


async def _request(target: Target, check: SmokeCheck, deadline: Deadline, **more: Any) -> Detail:
    """Return the body of a chat request in the words of `check`."""
    model = target.config.model or (await list_models(target, deadline))[1][0]
    messages = [{"role": "user", "content": check.prompt}]
    return {"model": model, "messages": messages, "max_tokens": check.max_tokens, **more}


async def _check_completion(target: Target, check: SmokeCheck) -> Detail:
    url = f"{target.service.api_url}/chat/completions"
    deadline = Deadline(check.timeout)
    body = await _request(target, check, deadline)
    reply = await exchange(target, "POST", url, deadline=deadline, body=body)
    if reply.status != 200:
        raise reply.fail("HTTP 200")
    shape = "a chat completion with choices[0].message.content"
    completion = reply.json(shape)
    try:
        choice = completion["choices"][0]
        content, finish_reason = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise reply.fail(shape) from error
    if not isinstance(content, str) or not content.strip():
        raise reply.fail("a text that is not empty")
    if not finish_reason:
        raise reply.fail("a finish_reason")
    usage = check_usage(reply.fail, completion.get("usage"), check.max_tokens)
    return {"finish_reason": finish_reason, "usage": usage, "seconds": reply.seconds}


def check_usage(
    fail: Callable[[str], CheckFailedError], usage: Any, max_tokens: int
) -> Mapping[str, int]:
    """Return the token counts of an answer; they must be there and add up."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    if not isinstance(usage, dict) or not all(isinstance(usage.get(name), int) for name in names):
        raise fail(f"usage with {', '.join(names)}")
    prompt, completion, total = (usage[name] for name in names)
    if prompt < 1 or completion < 1 or prompt + completion != total:
        raise fail(f"token counts that add up, not {prompt} + {completion} = {total}")
    if completion > max_tokens:
        raise fail(f"at most {max_tokens} completion tokens (max_tokens), not {completion}")
    return {name: usage[name] for name in names}


async def _check_stream(target: Target, check: SmokeCheck) -> Detail:
    more = {"stream": True, "stream_options": {"include_usage": True}}
    deadline = Deadline(check.timeout)
    body = await _request(target, check, deadline, **more)
    return await check_stream(target, check, body, deadline, check_usage)


async def _check_bad_request(target: Target, check: SmokeCheck) -> Detail:
    url = f"{target.service.api_url}/chat/completions"
    reply = await exchange(target, "POST", url, deadline=Deadline(check.timeout), body=BAD_REQUEST)
    if not 400 <= reply.status < 500 or reply.status in UNREAD_STATUS:
        raise reply.fail("HTTP 4xx for a request whose messages are not a list")
    shape = 'an error of the form {"error": {"message": …}}'
    value = reply.json(shape)
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        raise reply.fail(shape)
    return {"status": reply.status, "message": error["message"]}


async def _check_version_header(target: Target, check: SmokeCheck) -> Detail:
    name = target.config.version_header
    if name is None:
        raise NotMeasuredError("service.version_header is not set: there is no header to look for")
    found = []
    deadline = Deadline(check.timeout)
    good = await exchange(target, "GET", f"{target.service.api_url}/models", deadline=deadline)
    url = f"{target.service.api_url}/chat/completions"
    bad = await exchange(target, "POST", url, deadline=deadline, body=BAD_REQUEST)
    for reply in (good, bad):
        if not reply.headers.get(name):
            raise reply.fail(f"a header {name} (service.version_header), on errors too")
        found.append(reply.headers[name])
    if found[0] != found[1]:
        raise bad.fail(f"the same {name} as on GET /models, {found[0]!r}, not {found[1]!r}")
    return {"version": found[0]}


async def _check_tls(target: Target, check: SmokeCheck) -> Detail:
    url = target.service.url + "/"
    if urlsplit(url).scheme != "https":
        raise CheckFailedError(f"{url}: expected an https:// address; got plain http://")
    verified = Target(
        target.service, target.config.model_copy(update={"verify_tls": True}), target.root
    )
    try:
        async with opened(verified, "GET", url, deadline=Deadline(check.timeout)) as response:
            return {"status": response.status_code}
    except NotMeasuredError as error:
        if certificate_refused(error):
            raise CheckFailedError(
                f"{error} (a private authority's certificate goes into service.ca_file)"
            ) from error
        raise


async def _check_own(target: Target, check: SmokeCheck) -> Detail:
    assert check.request is not None  # the model of the file sees to it
    reply = await check_http(target, check.request)
    return {"status": reply.status, "seconds": reply.seconds}


_CHECKS: Mapping[str, Callable[[Target, SmokeCheck], Awaitable[Detail]]] = {
    "models": _check_models,
    "completion": _check_completion,
    "stream": _check_stream,
    "bad-request": _check_bad_request,
    "version-header": _check_version_header,
    "tls": _check_tls,
    "http": _check_own,
}
