"""No secret survives, in none of the forms in which it travels."""

from __future__ import annotations

import base64
import json
import pickle
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pytest_llmdeploy.redaction import Redactor

# Without our own mark and what headers and addresses are recognised by, which are hidden anyway.
SECRET_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="*"), min_size=4, max_size=30
).filter(lambda text: len(text.strip()) >= 4)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="*"), max_size=20)


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(secret=SECRET_TEXT, before=TEXT, after=TEXT)
@example(secret="0000", before="", after="\x00")
def test_no_secret_survives_in_any_encoding(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    whole = before + secret + after
    assert secret not in redactor(whole)
    for encode in (quote, quote_plus, lambda text: quote(text, safe="")):
        assert encode(secret) not in redactor(before + "=" + encode(secret) + "&" + after)
    # The text around it decides which quotes repr escapes.
    assert repr(secret)[1:-1] not in redactor(repr({"key": [secret]}))
    assert secret not in redactor.deep({whole: [whole, {"x": whole}]})
    assert secret not in str(redactor.deep([{secret: secret}])).replace("***", "")
    for flag in (True, False):
        hidden = redactor(json.dumps(whole, ensure_ascii=flag))
        assert json.dumps(secret, ensure_ascii=flag)[1:-1] not in hidden
        # An escape of the text around the secret can hold it by chance, as \u0000 holds 0000; what
        # is left of the escape is no JSON.
        assume(_is_json(hidden))
        assert secret not in json.loads(hidden)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@settings(deadline=None, derandomize=True, database=None, max_examples=300)
@given(user=st.text("abcde", max_size=5), secret=SECRET_TEXT)
def test_no_secret_survives_in_basic_credentials(user: str, secret: str) -> None:
    credentials = base64.b64encode(f"{user}:{secret}".encode()).decode()
    hidden = Redactor([secret])(f"sent {credentials} to the proxy")
    assert credentials not in hidden
    rest = hidden.removeprefix("sent ").removesuffix(" to the proxy")
    start, end = rest.partition("***")[0], rest.rpartition("***")[2]
    # What is left beside the mark is what the secret shares with its neighbours: a byte at most.
    assert len(start) <= len(base64.b64encode(f"{user}:".encode())) + 1
    assert len(end.rstrip("=")) <= 3


def test_short_secrets_are_left_alone() -> None:
    assert Redactor(["abc", "0.9", ""])("abc 0.9") == "abc 0.9"


def test_longest_first_and_overlapping_ones_leave_no_rest() -> None:
    assert Redactor(["secret", "secret-long"])("a secret-long and a secret") == "a *** and a ***"
    assert Redactor(["abcdef", "efghij"])("<abcdefghij>") == "<***>"


def test_lines_of_a_secret_count_from_eight_characters() -> None:
    key = "-----BEGIN-----\nMIIBOgIBAAJB\nshort\n"
    assert Redactor([key])("x MIIBOgIBAAJB y short z") == "x *** y short z"
    assert Redactor([key])(f"<{key}>") == "<***>"
    assert Redactor(["token\n"])("a token here") == "a *** here"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("see https://user@host and http://a:b@c", "see https://***@host and http://***@c"),
        ("https://user:p@ss@host", "https://***@host"),
        ("https://host/a@b", "https://host/a@b"),
        ("mail a@b", "mail a@b"),
        ("Authorization: Bearer x.y.z", "Authorization: ***"),
        ("authorization: Basic dTpw\nhost: h", "authorization: ***\nhost: h"),
        ("curl -H 'Authorization: ApiKey a b' x", "curl -H 'Authorization: ***' x"),
        ('{"Authorization": "Bearer x", "a": 1}', '{"Authorization": "***", "a": 1}'),
        (r"{\"authorization\": \"Bearer x\"}", r"{\"authorization\": \"***\"}"),
        ("[('authorization', 'Bearer x')]", "[('authorization', '***')]"),
        ("api-key: abc def", "api-key: *** def"),
        ("X-API-Key=abc", "X-API-Key=***"),
        ("service.api_key: write ${VARIABLE}", "service.api_key: write ${VARIABLE}"),
        ("no authorization here", "no authorization here"),
    ],
)
def test_addresses_and_headers(text: str, hidden: str) -> None:
    assert Redactor()(text) == hidden


def test_deep_takes_nested_values_and_keys() -> None:
    value = {
        "k-secret": ["secret", ("x secret", 5), None, 1.5, True],
        "Authorization": "anything",
        "api-key": "",
    }
    assert Redactor(["secret"]).deep(value) == {
        "k-***": ["***", ("x ***", 5), None, 1.5, True],
        "Authorization": "***",
        "api-key": "",
    }


def test_the_state_is_a_list_of_texts() -> None:
    redactor = Redactor(["token-b", "token-a", "token-b"])
    assert redactor.secrets == ("token-a", "token-b")
    rebuilt = Redactor(json.loads(json.dumps(redactor.secrets)))
    assert rebuilt("token-a") == pickle.loads(pickle.dumps(redactor))("token-a") == "***"


def test_hiding_twice_changes_nothing() -> None:
    redactor = Redactor(["secret", "****"])
    once = redactor("a secret, https://u:p@h, Authorization: Bearer t ********")
    assert redactor(once) == once


def test_a_hostile_text_is_hidden_in_time() -> None:
    import time

    text = "a.b." * 50_000 + "://" * 50_000 + "authorization:" * 20_000 + "@"
    started = time.process_time()
    Redactor(["secret", "aaaa"])(text)
    assert time.process_time() - started < 5


@pytest.mark.parametrize("cut", ["…", "...", " … ", " ... "])
def test_what_shortening_leaves_of_a_secret_is_hidden(cut: str) -> None:
    redact = Redactor(["sk-4711-0815-geheim"])
    assert redact(f"key sk-4711{cut}") == f"key ***{cut}"
    assert redact(f"{cut}-geheim!") == f"{cut}***!"
    assert redact(f"sk-4711-0{cut}15-geheim") == f"***{cut}***"
    assert redact(f"sk-{cut}im") == f"sk-{cut}im"  # too little to give anything away
