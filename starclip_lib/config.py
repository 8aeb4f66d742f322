"""Reading the settings of a run, strictly, and the errors that users meet."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from starclip_lib.settings import Params, Section


class StarclipError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class ConfigError(StarclipError):
    """A parameter that is unknown, of the wrong type or out of range."""


class DataError(StarclipError):
    """Input that is missing, damaged or does not fit."""


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> Params:
    """Read a parameter file and apply overrides, a (nested) dict of the same shape.

    Raises ConfigError that names the file, the key and, for an unknown key, the nearest known one.
    """
    path = Path(path)
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such parameter file") from None
    except (YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(raw).__name__}")
    return params_from_mapping(_merged({"name": path.stem, **raw}, overrides or {}), str(path))


def params_from_mapping(raw: dict[str, Any], where: str) -> Params:
    """Check a nested mapping and make it `Params`; `where` is named in errors."""
    try:
        return Params.model_validate_json(json.dumps(raw))
    except TypeError as error:
        raise ConfigError(f"{where}: a value is not a number, text, list or mapping ({error})") from error
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, where) for problem in error.errors())) from None


def changed_params(params: Params, changes: dict[str, Any]) -> Params:
    """The same settings with a (nested) dict of changes put in and checked; raises ConfigError as `load_params`."""
    return params_from_mapping(_merged(params.model_dump(mode="json"), changes), params.name)


def parse_assignment(text: str) -> dict[str, Any]:
    """'starclip.train.epochs=2' as a nested dict; the value is read as YAML.  Raises ConfigError if it has no '='."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected key=value, for example starclip.train.epochs=2")
    try:
        nested: Any = YAML(typ="safe", pure=True).load(value)
    except YAMLError as error:
        raise ConfigError(f"--set {text}: the value is not YAML: {' '.join(str(error).split())}") from error
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return nested


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` put in, mapping by mapping; neither is changed."""
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out


def merge_assignments(assignments: list[str]) -> dict[str, Any]:
    """Several `--set` texts as one nested dict; later ones win."""
    out: dict[str, Any] = {}
    for text in assignments:
        out = _merged(out, parse_assignment(text))
    return out


def _explain(problem: Any, where: str) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_section(problem["loc"][:-1]).model_fields)
        near = get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key '{key}'; {hint}"
    if problem["type"] == "value_error":  # one of our own checks, which says all there is to say
        return f"{where}: {key + ': ' if key else ''}{problem['ctx']['error']}"
    return f"{where}: {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {problem['input']!r}"


def _section(loc: tuple[Any, ...]) -> type[Section]:
    section: type[Section] = Params
    for part in loc:
        section = section.model_fields[part].annotation  # type: ignore[assignment]
    return section
