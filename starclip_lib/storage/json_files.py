"""JSON files of declared content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from starclip_lib.support.errors import DataError, one_line
from starclip_lib.support.files import atomic_path, read_bytes

JSON_BYTES = 64 * 2**20


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON atomically, indented, and refuse NaN and infinity (no JSON reader has to accept them)."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def parse_json(text: str | bytes, where: str, kind: Any = Any) -> Any:
    """JSON as Python values of a declared kind: anything that pydantic can check, such as `dict[str, Record]`.

    Raises DataError that begins with `where` if it is not JSON (NaN is not), too deep, or not of that kind.
    """

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not a number of JSON")

    try:
        content = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({one_line(str(error))})") from error
    return parse_value(content, where, kind)


def parse_value(content: Any, where: str, kind: Any, cure: str = "") -> Any:
    """Values that came from JSON, as a declared kind; DataError that begins with `where` and ends with `cure`."""
    end = f"; {cure}" if cure else ""
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        raise DataError(f"{where} does not hold what it should: {problem_of(error)}{end}") from None
    except RecursionError:
        raise DataError(f"{where} is not JSON (too deep){end}") from None


def problem_of(error: ValidationError) -> str:
    """The first thing that pydantic found, in a few words."""
    problem = error.errors(include_input=False)[0]
    message = problem["msg"][0].lower() + problem["msg"][1:]
    key = ".".join(str(part) for part in problem["loc"])
    return one_line(f"{key}: {message}" if key else message)


def read_json(path: str | Path, kind: Any = Any, missing: str = "", damaged: str = "") -> Any:
    """Read a JSON file of a declared kind; `missing` and `damaged` tell what to do then.

    Raises DataError that names the file and what is wrong with it, SystemFault if it cannot be read.
    """
    content = read_bytes(path, JSON_BYTES, missing)
    try:
        return parse_json(content, str(path), kind)
    except DataError as error:
        raise DataError(f"{error}; {damaged}" if damaged else str(error)) from None
