"""Which rules are split, what becomes of them and of all others, and how they are put back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from pytest_llmdeploy.platforms.kubernetes.routing import rules
from pytest_llmdeploy.platforms.kubernetes.routing.http_rules import HttpDialect
from pytest_llmdeploy.platforms.kubernetes.routing.istio_rules import (
    IstioDialect,
    own_subset,
    roles,
    service_of,
    subset_colors,
    with_subsets,
)
from pytest_llmdeploy.platforms.kubernetes.routing.rules import Dialect, RulesError

COLORS = {"blue": "blue", "green": "green"}


def istio(**changes: Any) -> IstioDialect:
    values: dict[str, Any] = {
        "namespace": "shop",
        "service": "llm",
        "service_color": "blue",
        "host": "llm-versions",
        "subsets": COLORS,
        "rests_at_service": True,
        "header": "Canary",
        "header_value": "true",
    }
    return IstioDialect(**values | changes)


def gateway(**changes: Any) -> HttpDialect:
    values: dict[str, Any] = {
        "namespace": "shop",
        "service": "llm",
        "service_color": "blue",
        "services": {"blue": "llm-blue", "green": "llm-green"},
        "rests_at_service": True,
        "header": "canary",
        "header_value": "true",
    }
    return HttpDialect(**values | changes)


def to(host: str, subset: str | None = None, weight: int | None = None) -> dict[str, Any]:
    destination = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({} if weight is None else {"weight": weight})


PLAIN = {
    "name": "chat",
    "match": [{"uri": {"prefix": "/v1"}}, {"headers": {"x": {"exact": "y"}}, "port": 80}],
    "timeout": "9s",
    "retries": {"attempts": 0},
    "route": [{"destination": {"host": "llm", "port": {"number": 80}}}],
}
OTHER = {"name": "other", "route": [to("elsewhere")]}


def headed(rule: dict[str, Any], dialect: Dialect, weight: int) -> list[rules.Rule]:
    split = rules.split(rule, dialect, {"blue": 100 - weight, "green": weight})
    return [dialect.header_rule(split, "green"), split]


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("llm", "llm"),
        ("llm.shop", "llm"),
        ("llm.shop.svc", "llm"),
        ("llm.shop.svc.cluster.local", "llm"),
        ("llm.shop.svc.other.domain", "llm"),
        ("llm.elsewhere", None),
        ("llm.example.com", None),
        ("llm.shop.example.com", None),
    ],
)
def test_hosts(host: str, service: str | None) -> None:
    assert service_of(host, "shop") == service


def test_the_service_itself_counts_for_the_colour_that_it_selects() -> None:
    assert rules.weights(PLAIN, istio()) == {"blue": 100}
    assert rules.weights(PLAIN, istio(service_color="green")) == {"green": 100}
    with pytest.raises(RulesError, match=r"its rule chat leads to llm as well"):
        rules.weights(PLAIN, istio(service_color=None))


def test_a_split_keeps_all_else_and_the_header_comes_first() -> None:
    before = deepcopy(PLAIN)
    header, split = headed(PLAIN, istio(), 5)
    assert before == PLAIN
    assert {**split, "route": PLAIN["route"]} == PLAIN
    port = {"number": 80}
    assert split["route"] == [
        {"destination": {"host": "llm-versions", "subset": "blue", "port": port}, "weight": 95},
        {"destination": {"host": "llm-versions", "subset": "green", "port": port}, "weight": 5},
    ]
    exact = {"canary": {"exact": "true"}}  # Istio takes names in small letters only
    assert header["match"] == [
        {"uri": {"prefix": "/v1"}, "headers": exact},
        {"headers": {"x": {"exact": "y"}, **exact}, "port": 80},
    ]
    assert (header["name"], header["timeout"]) == ("llmdeploy-header-chat", "9s")
    assert [one["destination"]["subset"] for one in header["route"]] == ["green"]
    assert rules.weights(split, istio()) == {"blue": 95, "green": 5}


def test_a_rule_without_conditions_gets_the_header_as_its_only_one() -> None:
    rule = {"route": [to("llm")]}
    assert istio().header_rule(rule, "green")["match"] == [
        {"headers": {"canary": {"exact": "true"}}}
    ]


def test_what_belongs_to_a_destination_stays_with_its_colour() -> None:
    rule = {
        "route": [
            to("llm-versions", "green", 0) | {"headers": {"response": {"set": {"a": "b"}}}},
            to("llm-versions", "blue", 100),
        ]
    }
    split = rules.split(rule, istio(), {"blue": 70, "green": 30})
    assert [(one["weight"], "headers" in one) for one in split["route"]] == [
        (30, True),
        (70, False),
    ]


def test_between_releases_requests_go_to_the_service_again() -> None:
    _, split = headed(PLAIN, istio(), 100)
    assert rules.rest(split, istio(), "green") == PLAIN
    own = istio(rests_at_service=False, host="both")
    (target,) = rules.rest(PLAIN, own, "green")["route"]
    assert (target["destination"]["host"], target["destination"]["subset"]) == ("both", "green")


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([], "its rule chat leads to no service: it cannot be split"),
        (
            [to("llm"), to("else", "v1", 1)],
            r"leads to else \(subset v1 of another host than .*\) as",
        ),
        ([to("llm-versions")], "leads to llm-versions as well"),
        ([to("llm-versions", "v7")], "leads to llm-versions .subset v7. as well"),
        ([to("llm.other")], "leads to llm.other as well"),
        ([to("llm", None, 0), to("llm-versions", "green", 0)], "all its weights are 0"),
    ],
)
def test_rules_that_are_not_split(targets: list[Any], said: str) -> None:
    with pytest.raises(RulesError, match=said):
        rules.weights({"name": "chat", "route": targets}, istio())


def test_which_rules() -> None:
    dialect = istio()
    header, split = headed(PLAIN, dialect, 5)
    found: list[rules.Rule] = [OTHER, header, split]
    assert rules.chosen(found, dialect, ["chat"]) == [2]
    assert rules.headers_of(found, dialect) == [1]
    assert rules.header_color(found, dialect, [2]) == "green"
    assert rules.chosen([header, split], dialect, []) == [1]
    with pytest.raises(RulesError, match=r"has 2 rules \(other, chat\): name those to split"):
        rules.chosen(found, dialect, [])
    with pytest.raises(RulesError, match="it has no rule nope; its rules are other, chat"):
        rules.chosen(found, dialect, ["chat", "nope"])
    with pytest.raises(RulesError, match="several of its rules have one name: chat, chat"):
        rules.chosen([split, split], dialect, ["chat"])
    with pytest.raises(RulesError, match=r"it has 0 rules \(none\)"):
        rules.chosen([], dialect, [])


def test_putting_back_leaves_what_others_changed_meanwhile() -> None:
    dialect = istio()
    former = {"hosts": ["a"], "http": [OTHER, PLAIN]}
    changed = {"name": "other", "timeout": "1s"}
    present = {"hosts": ["b"], "http": [{"name": "new"}, *headed(PLAIN, dialect, 5), changed]}
    back = rules.put_back(former, present, dialect, ["chat"])
    assert back == {"hosts": ["b"], "http": [{"name": "new"}, PLAIN, changed]}
    gone = {"hosts": ["b"], "http": [changed]}
    assert rules.put_back(former, gone, dialect, ["chat"]) == {
        "hosts": ["b"],
        "http": [OTHER, PLAIN],
    }
    interrupted = {"http": headed(PLAIN, dialect, 5)}
    assert (
        rules.put_back(interrupted, former, dialect, ["chat"])["http"][1:] == (interrupted["http"])
    )


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"blue": 1, "green": 2}, {"blue": 33, "green": 67}),
        ({"blue": 1, "green": 1}, {"blue": 50, "green": 50}),
        ({"blue": 95, "green": 5}, {"blue": 95, "green": 5}),
        ({"blue": 199, "green": 1}, {"blue": 100, "green": 0}),
        ({"blue": 3}, {"blue": 100}),
        ({"blue": 7, "green": 0}, {"blue": 100, "green": 0}),
    ],
)
def test_percentages(parts: dict[str, int], expected: dict[str, int]) -> None:
    assert rules.percentages(parts) == expected


def test_defaults_may_be_added_and_nothing_dropped() -> None:
    wanted = {"http": [{"name": "a", "route": [{"weight": 5}]}]}
    assert rules.missing_part(wanted, deepcopy(wanted)) is None
    more = {"http": [{"name": "a", "route": [{"weight": 5, "kind": "Service"}]}], "hosts": []}
    assert rules.missing_part(wanted, more) is None
    for present, where in (
        ({"http": [{"name": "a", "route": [{"weight": 6}]}]}, "http[0].route[0].weight"),
        ({"http": [{"name": "a", "route": [{}]}]}, "http[0].route[0].weight"),
        ({"http": [{"name": "a"}]}, "http[0].route"),
        ({"http": []}, "http"),
        ({}, "http"),
    ):
        assert rules.missing_part(wanted, present) == where


def test_subsets_are_added_and_roles_follow() -> None:
    made = with_subsets([], roles("blue"), add_roles=True)
    assert subset_colors(made) == {
        "blue": "blue",
        "green": "green",
        "stable": "blue",
        "canary": "green",
    }
    assert with_subsets(made, roles("blue"), add_roles=True) == made
    promoted = with_subsets(made, roles("green"), add_roles=True)
    assert subset_colors(promoted) | COLORS == subset_colors(promoted)
    assert subset_colors(promoted)["stable"] == "green"

    policy = {"name": "v1", "labels": {"color": "blue", "tier": "a"}, "trafficPolicy": {"a": 1}}
    own = [policy, {"name": "stable", "labels": {"color": "blue"}}]
    found = with_subsets(own, roles("green"), add_roles=False)
    assert found == [
        policy,
        {"name": "stable", "labels": {"color": "green"}},
        {"name": "green", "labels": {"color": "green"}},
    ]
    assert own_subset(subset_colors(found), "blue") == "v1"
    with pytest.raises(RulesError, match=r"its subset blue selects .*, not color: blue"):
        with_subsets([{"name": "blue", "labels": {"color": "green"}}], {}, add_roles=False)


def test_an_http_route() -> None:
    dialect = gateway()
    rule = {
        "name": "chat",
        "matches": [{"path": {"type": "Exact", "value": "/a"}}, {"method": "POST"}],
        "timeouts": {"request": "9s"},
        "backendRefs": [{"name": "llm", "port": 80, "kind": "Service", "weight": 1}],
    }
    assert rules.weights(rule, dialect) == {"blue": 100}
    header, split = headed(rule, dialect, 25)
    assert [(one["name"], one["weight"], one["port"]) for one in split["backendRefs"]] == [
        ("llm-blue", 75, 80),
        ("llm-green", 25, 80),
    ]
    condition = {"type": "Exact", "name": "canary", "value": "true"}
    assert header["matches"] == [
        {"path": {"type": "Exact", "value": "/a"}, "headers": [condition]},
        {"method": "POST", "path": {"type": "PathPrefix", "value": "/"}, "headers": [condition]},
    ]
    assert "name" not in header
    assert header["timeouts"] == {"request": "9s"}
    found: list[rules.Rule] = [header, split]
    assert rules.chosen(found, dialect, []) == [1]
    assert rules.header_color(found, dialect, [1]) == "green"
    (rest,) = rules.rest(split, dialect, "green")["backendRefs"]
    assert (rest["name"], "weight" in rest) == ("llm", False)


def test_a_rule_of_the_users_own_with_the_header_is_no_header_route_of_ours() -> None:
    dialect = gateway()
    condition = {"type": "Exact", "name": "canary", "value": "true"}
    own = {"matches": [{"headers": [condition]}], "backendRefs": [{"name": "beta"}]}
    rule = {"backendRefs": [{"name": "llm", "port": 80}]}
    assert rules.headers_of([own, rule], dialect) == []
    aimed = {**own, "backendRefs": [{"name": "llm-green"}]}
    assert rules.headers_of([aimed, rule], dialect) == [0]
    other = {"matches": [{"path": {"type": "Exact", "value": "/x"}}]}
    assert rules.headers_of([aimed, other, rule], dialect) == []
    assert rules.headers_of([aimed, rule], gateway(header=None)) == []


@pytest.mark.parametrize(
    "target",
    [
        {"name": "llm", "kind": "InferencePool", "group": "inference.networking.k8s.io"},
        {"name": "llm-green", "namespace": "other"},
        {"name": "third"},
    ],
)
def test_backends_that_are_not_ours(target: dict[str, str]) -> None:
    with pytest.raises(RulesError, match="as well, which is neither version"):
        rules.weights({"backendRefs": [target]}, gateway())
