"""Conditions on a store's columns, such as "Fe < -1 and Mg - Fe > 0.2": read as text, never evaluated as code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from starclip_lib.support.errors import DataError

_LONGEST = 1000  # characters
_COMPARED: dict[type, Callable] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_COMPUTED: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: pc.divide,  # by zero: infinite, as floating point has it
}
_JOINED: dict[type, Callable] = {ast.And: operator.and_, ast.Or: operator.or_}


def condition(text: str, columns: Mapping[str, pa.DataType]) -> pc.Expression:
    """A condition as pyarrow evaluates it."""
    if len(text) > _LONGEST:
        raise DataError(f"the condition has {len(text):,} characters, at most {_LONGEST:,} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found = _logical(tree, columns, text)
        pa.table({name: pa.array([], kind) for name, kind in columns.items()}).filter(found)  # text is not a number
        return found
    except pa.ArrowException:
        raise DataError(f"the condition {text[:80]!r} compares text with numbers") from None
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise DataError(f"the condition {text[:80]!r} cannot be read; such as: Fe < -1 and Mg - Fe > 0.2") from None


def columns_of(text: str, columns: Collection[str]) -> list[str]:
    """The columns that stand in a condition that has been read."""
    named = {node.id for node in ast.walk(ast.parse(text.strip(), mode="eval")) if isinstance(node, ast.Name)}
    return [name for name in columns if name in named]


def _logical(node: ast.AST, columns: Collection[str], text: str) -> Any:
    if isinstance(node, ast.BoolOp):
        return reduce(_JOINED[type(node.op)], [_logical(part, columns, text) for part in node.values])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return ~_logical(node.operand, columns, text)
    if isinstance(node, ast.Compare) and all(type(op) in _COMPARED for op in node.ops):
        sides = [_value(part, columns, text) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, sides, sides[1:], strict=False)
        return reduce(operator.and_, [_COMPARED[type(op)](left, right) for op, left, right in pairs])
    raise DataError(f"in the condition, {_shown(node, text)} is not a comparison; such as: Fe < -1 and Mg - Fe > 0.2")


def _value(node: ast.AST, columns: Collection[str], text: str) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in columns:
            near = get_close_matches(node.id, columns, 1, 0) or sorted(columns)
            raise DataError(f"the condition names {node.id!r}, which is not a column; did you mean {near[0]!r}?")
        return pc.field(node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return pc.scalar(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return pc.scalar(float(node.value))  # 1 / 2 is not 0
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _value(node.operand, columns, text)
        return pc.negate(inner) if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        return _COMPUTED[type(node.op)](_value(node.left, columns, text), _value(node.right, columns, text))
    raise DataError(f"in the condition, {_shown(node, text)} is neither column nor number")


def _shown(node: ast.AST, text: str) -> str:
    return repr((ast.get_source_segment(text.strip(), node) or text)[:60])
