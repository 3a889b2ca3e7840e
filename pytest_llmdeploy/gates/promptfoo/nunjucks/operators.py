"""How operators bind.

The original translates an expression to JavaScript without parentheses, so that JavaScript's
precedence decides in the end: ``not a == b`` asks whether ``!a`` equals b, and ``1 ~ 2 + 3`` is
"123". A chain keeps operands and operators as written; here they are bound.
"""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmdeploy.gates.promptfoo.nunjucks.nodes import Binary, Chain, Constant, Node, Prefix

_STRENGTH = {
    "or": 1, "and": 2,
    "==": 3, "!=": 3, "===": 3, "!==": 3,
    "<": 4, ">": 4, "<=": 4, ">=": 4,
    "+": 5, "-": 5,
    "*": 6, "/": 6, "%": 6,
}  # fmt: skip


def chained(left: Node, operator: str, right: Node) -> Chain:
    """Return both sides and the operator as one chain; ``~`` is two additions of a text."""
    lefts, left_operators = _parts(left)
    rights, right_operators = _parts(right)
    if operator == "~":
        between: Sequence[Node] = (Constant(""),)
        operators: Sequence[str] = ("+", "+")
    else:
        between, operators = (), (operator,)
    return Chain((*lefts, *between, *rights), (*left_operators, *operators, *right_operators))


def prefixed(operator: str, target: Node) -> Node:
    """Return the target with the operator before its first operand, which is all that it binds."""
    operands, operators = _parts(target)
    first = Prefix(operator, operands[0])
    return Chain((first, *operands[1:]), operators) if operators else first


def bound(node: Node) -> Node:
    """Return a chain as a tree, by JavaScript's precedence; anything else as it is."""
    if not isinstance(node, Chain):
        return node
    operands = [node.operands[0]]
    waiting: list[str] = []
    for operator, operand in zip(node.operators, node.operands[1:], strict=True):
        while waiting and _STRENGTH[waiting[-1]] >= _STRENGTH[operator]:
            _join(operands, waiting)
        waiting.append(operator)
        operands.append(operand)
    while waiting:
        _join(operands, waiting)
    return operands[0]


def _join(operands: list[Node], waiting: list[str]) -> None:
    right, left = operands.pop(), operands.pop()
    operands.append(Binary(left, waiting.pop(), right))


def _parts(node: Node) -> tuple[Sequence[Node], Sequence[str]]:
    return (node.operands, node.operators) if isinstance(node, Chain) else ((node,), ())
