"""Words and signs apart, by the conventions of the Penn Treebank."""

from __future__ import annotations

import pytest

from pytest_llmdeploy.gates.measures.treebank import tokens


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ('He said, "go."', "He said , `` go . ''"),
        ("They'll can't it's dogs' I'd", "They 'll ca n't it 's dogs ' I 'd"),
        ("Cannot, gonna 'tis more'n", "Can not , gon na 't is more 'n"),
        ("1,000 at 12:30, $5 50%", "1,000 at 12:30 , $ 5 50 %"),
        ("Mr. Smith left the U.S.", "Mr. Smith left the U.S."),
        ("It ends (here.)", "It ends ( here . )"),
        ("wait... no--yes?!", "wait ... no -- yes ? !"),
        ("(a) [b]; <c>", "( a ) [ b ] ; < c >"),
    ],
)
def test_tokens(text: str, wanted: str) -> None:
    assert tokens(text) == wanted.split()


@pytest.mark.parametrize("sign", ["'", "'s", ".", '"', "-", "a.", "cannot ", " "])
def test_long_texts_take_no_long_time(sign: str) -> None:
    assert len(tokens(sign * 20_000)) <= 40_000
