"""What a parsed template consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class Node:
    """A part of a template."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Constant(Node):
    value: Any


@dataclass(frozen=True, slots=True)
class Name(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Group(Node):
    items: Sequence[Node]


@dataclass(frozen=True, slots=True)
class ListOf(Node):
    items: Sequence[Node]


@dataclass(frozen=True, slots=True)
class DictOf(Node):
    pairs: Sequence[tuple[str, Node]]


@dataclass(frozen=True, slots=True)
class Lookup(Node):
    target: Node
    key: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    target: Node
    arguments: Sequence[Node]
    keywords: Sequence[tuple[str, Node]]


@dataclass(frozen=True, slots=True)
class Filter(Node):
    name: str
    arguments: Sequence[Node]
    keywords: Sequence[tuple[str, Node]]


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Operands and the operators between them, in the order written; see operators.py."""

    operands: Sequence[Node]
    operators: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prefix(Node):
    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    left: Node
    operator: str
    right: Node


@dataclass(frozen=True, slots=True)
class Inside(Node):
    """``left in right``."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Test(Node):
    """``value is name(arguments)``."""

    value: Node
    name: str
    arguments: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """``then if condition else otherwise``."""

    condition: Node
    then: Node
    otherwise: Node | None


@dataclass(frozen=True, slots=True)
class Caller(Node):
    """The body of a call block, as a function."""

    parameters: Sequence[str]
    defaults: Sequence[tuple[str, Node]]
    body: Block


@dataclass(frozen=True, slots=True)
class Data(Node):
    text: str


@dataclass(frozen=True, slots=True)
class Output(Node):
    value: Node


@dataclass(frozen=True, slots=True)
class Capture(Node):
    """A block whose text is a value."""

    body: Block


@dataclass(frozen=True, slots=True)
class Condition(Node):
    condition: Node
    then: Block
    otherwise: Block | None


@dataclass(frozen=True, slots=True)
class Loop(Node):
    names: Sequence[str]
    items: Node
    body: Block
    otherwise: Block | None


@dataclass(frozen=True, slots=True)
class Assignment(Node):
    names: Sequence[str]
    value: Node


@dataclass(frozen=True, slots=True)
class Macro(Node):
    name: str
    parameters: Sequence[str]
    defaults: Sequence[tuple[str, Node]]
    body: Block


@dataclass(frozen=True, slots=True)
class Switch(Node):
    value: Node
    cases: Sequence[tuple[Node, Block]]
    otherwise: Block | None


@dataclass(frozen=True, slots=True)
class Block(Node):
    """Nodes one after another."""

    nodes: Sequence[Node]
    names: frozenset[str] = field(default=frozenset(), compare=False)
    """At a template's root: every name that it looks up."""
