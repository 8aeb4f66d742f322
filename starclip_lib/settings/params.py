"""Every setting of a run: frozen groups of values with their defaults, bounds and meaning.

The text below a field is its documentation.  `load_params` reads them from YAML.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent

from starclip_lib.settings.base import Section
from starclip_lib.settings.data import DataParams
from starclip_lib.settings.evaluation import AtlasParams, EvaluationParams, LimitParams, ObservedParams, RetrievalParams
from starclip_lib.settings.training import (
    CALIBRATION_STARS,
    CorruptionParams,
    FitParams,
    MockParams,
    PretrainParams,
    StarclipParams,
    SupervisedParams,
)
from starclip_lib.support.errors import ConfigError, DataError, one_line
from starclip_lib.support.files import read_bytes, safe_name

YAML_BYTES = 2**20
_DEEPEST, _MOST_ALIASES, _MOST_VALUES, _MOST_SHOWN = 32, 20, 10_000, 5


class Params(Section):
    """Every setting of a run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "quick"
    """Names the folders runs/NAME and reports/NAME; the parameter file's own name if it is not given."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    """Everything random is a function of it."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """'auto' takes a CUDA GPU if there is one, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """'auto' computes encoders in bfloat16 on a CUDA GPU and in float32 elsewhere."""
    memory: Annotated[float, Field(ge=0, le=1e6)] = 4.0
    """GB that the spectra of a data set may take in memory (19,001 stars take 1.6). More stay on disk and are read when
    they are asked for, with the same results."""
    data: DataParams = DataParams()
    corruption: CorruptionParams = CorruptionParams()
    pretrain: PretrainParams = PretrainParams()
    supervised: SupervisedParams = SupervisedParams()
    starclip: StarclipParams = StarclipParams()
    mockstarclip: MockParams = MockParams()
    fit: FitParams = FitParams()
    retrieval: RetrievalParams = RetrievalParams()
    atlas: AtlasParams = AtlasParams()
    limits: LimitParams = LimitParams()
    observed: ObservedParams = ObservedParams()
    evaluation: EvaluationParams = EvaluationParams()

    @field_validator("name")
    @classmethod
    def _harmless(cls, name: str) -> str:
        if safe_name(name) != name:
            raise ValueError(f"'{name}' cannot name a folder everywhere; '{safe_name(name)}' can")
        return name

    @model_validator(mode="after")
    def _enough_stars(self) -> Params:
        for name, settings in (("starclip", self.starclip), ("mockstarclip.align", self.mockstarclip.align)):
            if settings.logit_scale > settings.max_scale:
                raise ValueError(f"{name}.logit_scale ({settings.logit_scale:g}) must not exceed {name}.max_scale")
        if self.starclip.calibrate and not self.pretrain.encoder.lift:
            raise ValueError("starclip.calibrate needs a lift: set pretrain.encoder.lift to 30, say")
        n_val = self.data.n_stars * self.data.split[1] // sum(self.data.split)
        if self.starclip.calibrate and self.data.n_stars and n_val < CALIBRATION_STARS:
            raise ValueError(
                f"starclip.calibrate needs {CALIBRATION_STARS} validation stars, of {self.data.n_stars} stars there "
                f"are {n_val}; raise data.n_stars or set starclip.calibrate to false"
            )
        if self.data.n_stars and self.mockstarclip.n_stars > self.data.n_stars:
            raise ValueError(
                f"mockstarclip.n_stars ({self.mockstarclip.n_stars}) must not exceed data.n_stars ({self.data.n_stars})"
            )
        return self


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> Params:
    """Read a parameter file and apply overrides.

    Parameters
    ----------
    overrides : dict, optional
        (Nested) dict of the same shape.

    Raises
    ------
    ConfigError
        That names the file, the key and, for an unknown key, the nearest known one.
    """
    path = Path(path)
    try:
        text = read_bytes(path, YAML_BYTES).decode("utf-8")
    except DataError as error:
        message = f"{path}: no such parameter file" if str(error) == f"{path} is missing" else str(error)
        raise ConfigError(message) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a YAML file: {error}") from None
    raw = parse_yaml(text, f"{path}: not a YAML file")
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(raw).__name__}")
    changes = {} if overrides is None else overrides
    return params_from_mapping(merged({"name": path.stem, **raw}, changes), str(path))


def parse_yaml(text: str, complaint: str) -> Any:
    """The value of YAML text, unless it is deeper, more repetitive or larger than settings can be."""
    depth = deepest = aliases = 0
    try:
        for event in YAML(typ="safe", pure=True).parse(text):  # one by one, so that nothing is built yet
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
            deepest, aliases = max(deepest, depth), aliases + isinstance(event, AliasEvent)
            if deepest > _DEEPEST or aliases > _MOST_ALIASES:
                raise ConfigError(f"{complaint}: more than {_DEEPEST} levels, or {_MOST_ALIASES} aliases (*name)")
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # a number of thousands of digits is a ValueError
        raise ConfigError(f"{complaint}: {one_line(str(error))}") from None
    waiting, count = [content], 0
    while waiting:  # aliases repeat what they stand for, which may repeat others
        item = waiting.pop()
        count += 1
        if count > _MOST_VALUES:
            raise ConfigError(f"{complaint}: more than {_MOST_VALUES:,} values")
        waiting += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return content


def params_from_mapping(raw: dict[str, Any], where: str) -> Params:
    """Check a nested mapping and make it `Params`."""
    try:
        return Params.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        found = [_explain(problem, where) for problem in error.errors()]
        more = f"; and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise ConfigError(one_line("; ".join(found[:_MOST_SHOWN])) + more) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: a value is not a number, text, list or mapping ({error})") from error


def changed_params(params: Params, changes: dict[str, Any]) -> Params:
    """The same settings with changes put in and checked."""
    return params_from_mapping(merged(params.model_dump(mode="json"), changes), params.name)


def parse_assignment(text: str) -> dict[str, Any]:
    """'starclip.train.epochs=2' as a nested dict; the value is read as YAML. ConfigError if it has no '='."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: expected key=value, for example starclip.train.epochs=2")
    if len(text) > YAML_BYTES or key.count(".") > _DEEPEST:
        raise ConfigError(f"--set {text[:80]} ...: longer or deeper than settings can be")
    nested = parse_yaml(value, f"--set {text[:200]}: the value is not YAML")
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return nested


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` put in, mapping by mapping; neither is changed."""
    if not isinstance(changes, dict):
        raise ConfigError(f"changes of settings are a mapping of the shape of a parameter file, not {_shown(changes)}")
    out = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def merge_assignments(assignments: list[str]) -> dict[str, Any]:
    """Several `--set` texts as one nested dict; later ones win."""
    out: dict[str, Any] = {}
    for text in assignments:
        out = merged(out, parse_assignment(text))
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
    return f"{where}: {key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {_shown(problem['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]} ..."


def _section(loc: tuple[Any, ...]) -> type[Section]:
    section: type[Section] = Params
    for part in loc:
        section = section.model_fields[part].annotation  # type: ignore[assignment]
    return section
