"""Marks for answers in returned notebooks.  Nothing that a student wrote is run: plain values and arithmetic are read.

A process with limits would be no sandbox for somebody else's code on a lecturer's machine, and no answer needs more.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from starclip_lib.teaching.exercises import EXERCISES, Answer, is_right

RIGHT, WRONG, BLANK, UNREADABLE = "right", "not yet", "blank", "by hand"
_LARGEST = 1e30
_MODULES = ("np", "numpy", "math")
_CONSTANTS = {"pi": math.pi, "e": math.e}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "log": math.log, "log10": math.log10, "log2": math.log2, "exp": math.exp, "sqrt": math.sqrt, "round": round,
    "abs": abs, "int": int, "float": float,
}  # fmt: skip
_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: math.pow,
}  # fmt: skip


def mark(source: str) -> dict[str, str]:
    """Marks for the exercises of a cell, by name."""
    named = {name: UNREADABLE for name in EXERCISES if f'"{name}"' in source or f"'{name}'" in source}
    try:
        return named | _marks(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return named


def _marks(lines: list[ast.stmt]) -> dict[str, str]:
    marks: dict[str, str] = {}
    answer: ast.expr | None = None
    readable = True
    for line in lines:
        if (name := _checked(line)) in EXERCISES:
            marks[name] = _mark(name, answer) if readable else UNREADABLE
        elif isinstance(line, ast.Assign | ast.AnnAssign) and _is_answer(_target(line)):
            answer, readable = line.value, True
        elif any(isinstance(node, ast.Name) and node.id == "answer" and _binds(node) for node in ast.walk(line)):
            readable = False  # bound in a loop, a condition, a tuple, ...: what it is then, only running it would tell
    return marks


def _target(line: ast.Assign | ast.AnnAssign) -> ast.AST:
    """What a line assigns to, if it is one thing."""
    targets = line.targets if isinstance(line, ast.Assign) else [line.target]
    return targets[0] if len(targets) == 1 else line


def _binds(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def _is_answer(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "answer"


def _checked(line: ast.stmt) -> str:
    """The exercise that a line checks by `starclip.check(NAME, answer)`; empty if the line is different."""
    call = line.value if isinstance(line, ast.Expr) else None
    if not isinstance(call, ast.Call) or len(call.args) != 2 or not _is_answer(call.args[1]):
        return ""
    function, name = call.func, call.args[0]
    ours = isinstance(function, ast.Name) and function.id == "check"
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        ours = (function.value.id, function.attr) == ("starclip", "check")
    return str(name.value) if ours and isinstance(name, ast.Constant) else ""


def _mark(name: str, answer: ast.expr | None) -> str:
    if answer is None or (isinstance(answer, ast.Constant) and answer.value is None):
        return BLANK
    try:
        return RIGHT if is_right(name, _value(answer)) else WRONG
    except (ValueError, ArithmeticError, TypeError, RecursionError):
        return UNREADABLE


def _value(node: ast.expr) -> Answer:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bool):
        return node.value
    return _number(node)


def _number(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) < _LARGEST:
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        return -_number(node.operand) if isinstance(node.op, ast.USub) else _number(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        found = _OPERATORS[type(node.op)](_number(node.left), _number(node.right))
        if abs(found) < _LARGEST:
            return found
    if isinstance(node, ast.Attribute) and _of_module(node) and node.attr in _CONSTANTS:
        return _CONSTANTS[node.attr]
    if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if isinstance(node.func, ast.Attribute) and _of_module(node.func):
            name = node.func.attr
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](_number(node.args[0]))
    raise ValueError("more than arithmetic")


def _of_module(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in _MODULES
