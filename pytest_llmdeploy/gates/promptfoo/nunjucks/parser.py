"""Tokens to nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pytest_llmdeploy.gates.promptfoo.js_values import plain
from pytest_llmdeploy.gates.promptfoo.nunjucks.cursor import Cursor
from pytest_llmdeploy.gates.promptfoo.nunjucks.lexer import CONSTANTS, TemplateError, Token, tokens
from pytest_llmdeploy.gates.promptfoo.nunjucks.nodes import (
    Assignment,
    Block,
    Call,
    Caller,
    Capture,
    Choice,
    Condition,
    Constant,
    Data,
    DictOf,
    Filter,
    Group,
    Inside,
    ListOf,
    Lookup,
    Loop,
    Macro,
    Name,
    Node,
    Output,
    Switch,
    Test,
)
from pytest_llmdeploy.gates.promptfoo.nunjucks.operators import bound, chained, prefixed

_COMPARISONS = ("==", "===", "!=", "!==", "<", ">", "<=", ">=")
_FILES = ("include", "import", "from", "extends")


def parse(text: str) -> Block:
    """Return the template's nodes; raise TemplateError."""
    parser = _Parser(list(tokens(text)))
    nodes = parser.nodes(())
    return Block(nodes, frozenset(parser.names))


class _Parser(Cursor):
    def __init__(self, found: Sequence[Token]) -> None:
        super().__init__(found)
        self.names: set[str] = set()

    # Statements

    def nodes(self, until: Sequence[str]) -> tuple[Node, ...]:
        """Return nodes up to a block tag of `until`, whose name is then the next token."""
        found: list[Node] = []
        while (token := self.next()).kind != "end":
            if token.kind == "data":
                if token.value:
                    found.append(Data(token.value))
            elif token.kind == "variable":
                found.append(Output(self._expression()))
                self.expect("endvariable")
            else:
                name = self.peek()
                if name.kind != "symbol":
                    self.fail("expected the name of a tag")
                if name.value in until:
                    return tuple(found)
                found.append(self._statement(self.next().value))
        if until:
            self.fail(f"expected {' or '.join(until)}")
        return tuple(found)

    def _statement(self, name: str) -> Node:
        statements: dict[str, Callable[[], Node]] = {
            "if": self._if,
            "ifAsync": self._if,
            "for": lambda: self._for("endfor"),
            "asyncEach": lambda: self._for("endeach"),
            "asyncAll": lambda: self._for("endall"),
            "set": self._set,
            "macro": self._macro,
            "call": self._call,
            "filter": self._filter_block,
            "switch": self._switch,
            "block": self._block,
        }
        if name in _FILES:
            self.fail(f"the tag '{name}' reads other templates, which is not supported")
        if name not in statements:
            self.fail(f"unknown tag '{name}'")
        return statements[name]()

    def _body(self, *until: str) -> Block:
        self.expect("endblock")
        return Block(self.nodes(until))

    def _ended(self) -> None:
        """Step over the closing tag, whose name comes next."""
        self.next()
        self.expect("endblock")

    def _if(self) -> Condition:
        condition = self._expression()
        then = self._body("elif", "elseif", "else", "endif")
        ending = self.peek().value
        otherwise: Block | None = None
        if ending in {"elif", "elseif"}:
            self.next()
            return Condition(condition, then, Block((self._if(),)))
        if ending == "else":
            self.next()
            otherwise = self._body("endif")
        self._ended()
        return Condition(condition, then, otherwise)

    def _for(self, end: str) -> Loop:
        names = [self.symbol()]
        while self.skip(","):
            names.append(self.symbol())
        if not self.skip_word("in"):
            self.fail("expected 'in'")
        items = self._expression()
        body = self._body(end, "else")
        otherwise: Block | None = None
        if self.peek().value == "else":
            self.next()
            otherwise = self._body(end)
        self._ended()
        return Loop(names, items, body, otherwise)

    def _set(self) -> Assignment:
        names = [self.symbol()]
        while self.skip(","):
            names.append(self.symbol())
        if self.skip("="):
            value = self._expression()
            self.expect("endblock")
            return Assignment(names, value)
        body = self._body("endset")
        self._ended()
        return Assignment(names, Capture(body))

    def _macro(self) -> Macro:
        name = self.symbol()
        if not self.skip("("):
            self.fail("expected the arguments of the macro")
        parameters, defaults = self._parameters()
        body = self._body("endmacro")
        self._ended()
        return Macro(name, parameters, defaults, body)

    def _call(self) -> Output:
        parameters, defaults = self._parameters() if self.skip("(") else ((), ())
        called = self._primary()
        if not isinstance(called, Call):
            self.fail("a call tag needs a call")
        body = self._body("endcall")
        self._ended()
        caller = Caller(parameters, defaults, body)
        return Output(Call(called.target, called.arguments, (*called.keywords, ("caller", caller))))

    def _filter_block(self) -> Output:
        name = self._filter_name()
        arguments, keywords = self._arguments() if self.skip("(") else ((), ())
        body = self._body("endfilter")
        self._ended()
        return Output(Filter(name, (Capture(body), *arguments), keywords))

    def _switch(self) -> Switch:
        value = self._expression()
        self._body("case", "default", "endswitch")
        cases = []
        otherwise: Block | None = None
        while self.peek().value == "case":
            self.next()
            wanted = self._expression()
            cases.append((wanted, self._body("case", "default", "endswitch")))
        if self.peek().value == "default":
            self.next()
            otherwise = self._body("endswitch")
        self._ended()
        return Switch(value, cases, otherwise)

    def _block(self) -> Block:
        self.symbol()
        body = self._body("endblock")
        self.next()
        self.skip_word(self.peek().value) if self.peek().kind == "symbol" else None
        self.expect("endblock")
        return body

    def _parameters(self) -> tuple[Sequence[str], Sequence[tuple[str, Node]]]:
        arguments, keywords = self._arguments()
        if not all(isinstance(argument, Name) for argument in arguments):
            self.fail("a macro's arguments are names")
        return [argument.name for argument in arguments if isinstance(argument, Name)], keywords

    # Expressions

    def _expression(self) -> Node:
        node = bound(self._or())
        if self.skip_word("if"):
            condition = bound(self._or())
            otherwise = bound(self._or()) if self.skip_word("else") else None
            return Choice(condition, node, otherwise)
        return node

    def _or(self) -> Node:
        return self._words("or", lambda: self._words("and", self._not))

    def _words(self, word: str, operand: Callable[[], Node]) -> Node:
        node = operand()
        while self.skip_word(word):
            node = chained(node, word, operand())
        return node

    def _not(self) -> Node:
        if self.skip_word("not"):
            return prefixed("not", self._not())
        return self._in()

    def _in(self) -> Node:
        node = self._is()
        while True:
            inverted = self.peek().value == "not" and self.peek(1).value == "in"
            if inverted:
                self.next()
            if not self.skip_word("in"):
                return node
            node = Inside(bound(node), bound(self._is()))
            node = prefixed("not", node) if inverted else node

    def _is(self) -> Node:
        node = self._comparison()
        if not self.skip_word("is"):
            return node
        inverted = self.skip_word("not")
        wanted = self._comparison()
        arguments: Sequence[Node] = ()
        if isinstance(wanted, Call):
            arguments, wanted = wanted.arguments, wanted.target
        if isinstance(wanted, Constant) and wanted.value is None:
            wanted = Name("null")
        if not isinstance(wanted, Name):
            self.fail("expected the name of a test after 'is'")
        node = Test(bound(node), wanted.name, arguments)
        return prefixed("not", node) if inverted else node

    def _comparison(self) -> Node:
        return self._level(0)

    def _level(self, level: int) -> Node:
        """Parse one level of binary operators; those of lower levels bind looser."""
        levels: Sequence[Sequence[str]] = (
            _COMPARISONS, ("~",), ("+",), ("-",), ("*",), ("/",), ("//",), ("%",), ("**",),
        )  # fmt: skip
        if level == len(levels):
            return self._unary()
        node = self._level(level + 1)
        while self.peek().kind == "operator" and self.peek().value in levels[level]:
            operator = self.next().value
            right = self._level(level + 1)
            if operator == "//":
                node = Filter("floor of", (bound(chained(node, "/", right)),), ())
            elif operator == "**":
                node = Filter("power of", (bound(node), bound(right)), ())
            else:
                node = chained(node, operator, right)
        return node

    def _unary(self, *, filters: bool = True) -> Node:
        for sign in ("-", "+"):
            if self.skip(sign):
                if self.peek().value == sign and self.peek().kind == "operator":
                    self.fail(f"'{sign}{sign}' means nothing here")
                node = prefixed(sign, self._unary(filters=False))
                break
        else:
            node = self._primary()
        while filters and self.skip("|"):
            name = self._filter_name()
            arguments, keywords = self._arguments() if self.skip("(") else ((), ())
            node = Filter(name, (bound(node), *arguments), keywords)
        return node

    def _primary(self) -> Node:
        token = self.next()
        node: Node
        if token.kind == "text":
            node = Constant(token.value)
        elif token.kind == "number":
            node = Constant(plain(float(token.value)))
        elif token.kind == "constant":
            node = Constant(CONSTANTS[token.value])
        elif token.kind == "symbol":
            self.names.add(token.value)
            node = Name(token.value)
        else:
            node = self._aggregate(token)
        while True:
            if self.skip("("):
                arguments, keywords = self._arguments()
                node = Call(node, arguments, keywords)
            elif self.skip("["):
                keys = self._items("]")
                if len(keys) != 1:
                    self.fail("an index is one value")
                node = Lookup(node, keys[0])
            elif self.skip("."):
                key = self.next()
                if key.kind not in {"symbol", "constant"}:
                    self.fail(f"expected a name after '.', got {key.value!r}")
                node = Lookup(node, Constant(key.value))
            else:
                return node

    def _aggregate(self, token: Token) -> Node:
        if token.value == "(" and token.kind == "operator":
            return Group(self._items(")"))
        if token.value == "[" and token.kind == "operator":
            return ListOf(self._items("]"))
        if token.value == "{" and token.kind == "operator":
            return self._dictionary()
        what = "the end" if token.kind == "end" else repr(token.value)
        raise TemplateError(f"line {token.line}: unexpected {what}")

    def _items(self, close: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.skip(close):
            if items and not self.skip(","):
                self.fail("expected ','")
            items.append(self._expression())
        return tuple(items)

    def _dictionary(self) -> DictOf:
        pairs: list[tuple[str, Node]] = []
        while not self.skip("}"):
            if pairs and not self.skip(","):
                self.fail("expected ','")
            key = self.next()
            if key.kind not in {"symbol", "text"} or not self.skip(":"):
                self.fail("expected a key and ':'")
            pairs.append((key.value, self._expression()))
        return DictOf(pairs)

    def _arguments(self) -> tuple[Sequence[Node], Sequence[tuple[str, Node]]]:
        arguments: list[Node] = []
        keywords: list[tuple[str, Node]] = []
        first = True
        while not self.skip(")"):
            if not first and not self.skip(","):
                self.fail("expected ','")
            first = False
            value = self._expression()
            if isinstance(value, Name) and self.skip("="):
                self.names.discard(value.name)
                keywords.append((value.name, self._expression()))
            else:
                arguments.append(value)
        return arguments, keywords

    def _filter_name(self) -> str:
        name = self.symbol()
        while self.skip("."):
            name = f"{name}.{self.symbol()}"
        return name
