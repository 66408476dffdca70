"""What no test may do, found in its source."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODULES = [path for path in sorted(TESTS.rglob("*.py")) if path.relative_to(TESTS).parts[0] != "support"]
CLOCKS = {
    f"{name}{unit}" for name in ("monotonic", "perf_counter", "process_time", "thread_time") for unit in ("", "_ns")
}

Rule = Callable[[ast.Module], Iterator[int]]
"""Yields the lines at which a module breaks it."""


def no_assertion_on_a_clock(tree: ast.Module) -> Iterator[int]:
    """A busy machine is slow: count work, compare orders of events, or wait for what must come (``wait_until``)."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    clocks = {*CLOCKS, *imported_clocks(tree)}
    # A function that returns what a clock says is a clock itself, for those that call it.
    while more := {each.name for each in functions if each.name not in clocks and Clocked(each, clocks).returns}:
        clocks |= more
    yield from sorted({line for function in functions for line in Clocked(function, clocks).asserted})


class Clocked:
    """What one function knows of the time, in names: clocks, what they said, and how long something took."""

    def __init__(self, function: ast.FunctionDef | ast.AsyncFunctionDef, clocks: set[str]):
        self.clocks, self.instants, self.durations = set(clocks), set[str](), set[str]()
        nodes = list(ast.walk(function))
        assigned = [found for node in nodes for found in assignments(node)]
        known = -1
        while known < (known := len(self.clocks) + len(self.instants) + len(self.durations)):
            for name, value in assigned:
                if self.is_clock(value):
                    self.clocks.add(name)
                elif self.measures(value):
                    self.durations.add(name)
                elif self.tells(value):
                    self.instants.add(name)
        returned = [node.value for node in nodes if isinstance(node, ast.Return) and node.value]
        self.returns = any(self.tells(value) or self.measures(value) for value in returned)
        self.asserted = [node.lineno for node in nodes if isinstance(node, ast.Assert) and self.is_timed(node.test)]

    def is_clock(self, node: ast.expr) -> bool:
        """Returns whether to call an expression is to ask for the time."""
        if isinstance(node, ast.Name):
            return node.id in self.clocks
        if not isinstance(node, ast.Attribute):
            return False
        of_time = node.attr in ("time", "time_ns") and re.search(r"\btime$|loop", ast.unparse(node.value))
        return node.attr in CLOCKS or bool(of_time)

    def tells(self, node: ast.AST) -> bool:
        return self.asks(node) or self.names(node, self.instants)

    def asks(self, node: ast.AST) -> bool:
        return any(isinstance(part, ast.Call) and self.is_clock(part.func) for part in ast.walk(node))

    def measures(self, node: ast.AST) -> bool:
        differences = (part for part in ast.walk(node) if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Sub))
        return self.names(node, self.durations) or any(map(self.tells, differences))

    def is_timed(self, node: ast.expr) -> bool:
        orders = ast.Lt | ast.LtE | ast.Gt | ast.GtE
        compared = (
            part for part in ast.walk(node) if isinstance(part, ast.Compare) and isinstance(part.ops[0], orders)
        )
        return self.asks(node) or self.measures(node) or any(map(self.tells, compared))

    @staticmethod
    def names(node: ast.AST, known: set[str]) -> bool:
        return any(isinstance(part, ast.Name) and part.id in known for part in ast.walk(node))


def assignments(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yields the names that a statement or an expression assigns to, each with the value that it gets or is part of."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
        targets = [node.target]
    for target in targets:
        pairs = [(target, node.value)]  # type: ignore[attr-defined]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):  # type: ignore[attr-defined]
            pairs = list(zip(target.elts, node.value.elts, strict=False))  # type: ignore[attr-defined]
        for name, value in pairs:
            if value is not None:
                yield from ((part.id, value) for part in ast.walk(name) if isinstance(part, ast.Name))


def imported_clocks(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (each.asname or each.name for each in node.names if each.name in {*CLOCKS, "time", "time_ns"})


RULES: tuple[Rule, ...] = (no_assertion_on_a_clock,)


def test_the_walk_sees_the_tests() -> None:
    found = {path.relative_to(TESTS).as_posix() for path in MODULES}
    assert {"test_house_rules.py", "conftest.py", "serving/http/test_limits.py", "end_to_end/test_serve.py"} <= found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    broken = [
        f"{path.relative_to(TESTS)}:{line}"
        for path in MODULES
        for line in rule(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (no_assertion_on_a_clock, "begun = time.monotonic()\nwork()\nassert time.monotonic() - begun < 2"),
        (no_assertion_on_a_clock, "begun = perf_counter()\nwork()\ntook = perf_counter() - begun\nassert took < 2"),
        (no_assertion_on_a_clock, "a = time.time()\nwork()\nb = time.time()\nassert b - a < 2"),
        (no_assertion_on_a_clock, "a = time.time_ns()\nwork()\nb = time.time_ns()\nassert b < a + 2"),
        (no_assertion_on_a_clock, "took = -process_time()\nwork()\ntook += process_time()\nassert 0 < took < 2"),
        (
            no_assertion_on_a_clock,
            "until, done = time.monotonic() + 5, 0\nwhile not done:\n  assert until > monotonic()",
        ),
        (
            no_assertion_on_a_clock,
            "clock = asyncio.get_running_loop().time\nbegun = clock()\nassert clock() - begun < 1",
        ),
        (no_assertion_on_a_clock, "begun = loop.time()\nwork()\nassert (took := loop.time() - begun) < 1, took"),
        (
            no_assertion_on_a_clock,
            "def took():\n  begun = process_time()\n  work()\n  return process_time() - begun\n"
            "assert min(took() for _ in range(5)) < 0.05",
        ),
        (no_assertion_on_a_clock, "from time import time as now\nbegun = now()\nassert now() - begun < 1"),
    ],
)
def test_a_planted_fault_is_found(rule: Rule, source: str) -> None:
    assert list(rule(ast.parse("def test():\n" + "".join(f"  {line}\n" for line in source.splitlines()))))


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (no_assertion_on_a_clock, "wait_until(lambda: done, 60)\nassert done"),
        (
            no_assertion_on_a_clock,
            "until = time.monotonic() + 5\nwhile time.monotonic() < until:\n  assert ask() == 200",
        ),
        (no_assertion_on_a_clock, "now = time.time()\nwrite(now)\nassert read() == now"),
        (no_assertion_on_a_clock, "assert lines_of(call) < 20_000"),
        (no_assertion_on_a_clock, "slept = []\npatch(time, 'sleep', slept.append)\nassert sum(slept) - 1 < 4"),
        (no_assertion_on_a_clock, "assert report.time() > 0\nassert node.seconds - 1 > 0"),
    ],
)
def test_what_is_allowed_is_not_reported(rule: Rule, source: str) -> None:
    assert list(rule(ast.parse("def test():\n" + "".join(f"  {line}\n" for line in source.splitlines())))) == []
