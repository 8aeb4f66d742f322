"""Settings of `starclip emulator build`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from starclip_lib.settings.base import Count, Positive, Section, Width
from starclip_lib.settings.params import YAML_BYTES, parse_yaml
from starclip_lib.support.errors import ConfigError, DataError
from starclip_lib.support.files import read_bytes

FEWEST = 60  # syntheses for training


class NetworkParams(Section):
    """The network from labels and physics to coefficients, and its training."""

    hidden: tuple[Width, Width] = (384, 384)
    """Units of the two hidden layers."""
    components_apogee: Width = 150
    """Principal components of the spectra on APOGEE's grid."""
    components_fine: Width = 150
    """Principal components of the spectra on the fine grid."""
    distilled: Count = 20_000
    """Spectra of the Gaussian process that the network learns from, besides the syntheses."""
    epochs: Count = 70
    batch: Width = 256
    learning_rate: Positive = 1.5e-3
    """Highest of a cycle that rises for a tenth of the epochs and falls to nearly 0."""


class EmulatorParams(Section):
    """Every setting of a build."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "emulator"
    """Version that the file carries; the parameter file's own name if it is not given."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 7
    """Everything random is a function of it."""
    syntheses: Count = 8000
    """How many, with those that are held out."""
    held_out: Count = 400
    """They are never used for the fit, only for its errors."""
    lines: str = "arcturus"
    """List of lines, as `starclip.synthesise` takes it: 'arcturus', 'apogee' or 'listed'."""
    structure: str = "marcs"
    """Temperatures, 'marcs' or 'seven'."""
    network: NetworkParams = NetworkParams()

    @model_validator(mode="after")
    def _enough(self) -> EmulatorParams:
        if self.syntheses - self.held_out < FEWEST:
            raise ValueError(
                f"of {self.syntheses} syntheses {self.held_out} are held out; at least {FEWEST} must be left to fit"
            )
        return self


def load_emulator_params(path: str | Path) -> EmulatorParams:
    """Read the parameter file of a build; ConfigError names the file, the key and what is wrong."""
    path = Path(path)
    try:
        text = read_bytes(path, YAML_BYTES).decode("utf-8")
    except (DataError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a parameter file ({error})") from None
    raw = parse_yaml(text, f"{path}: not a YAML file")
    if not isinstance(raw, dict | None):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(raw).__name__}")
    try:
        return EmulatorParams.model_validate_json(json.dumps({"name": path.stem, **(raw or {})}))
    except ValidationError as error:
        problem = error.errors()[0]
        key, message = ".".join(str(part) for part in problem["loc"]), problem["msg"]
        if problem["type"] == "extra_forbidden":
            section = NetworkParams if len(problem["loc"]) > 1 else EmulatorParams
            raise ConfigError(f"{path}: unknown key '{key}'; known: {', '.join(section.model_fields)}") from None
        raise ConfigError(f"{path}: {f'{key}: ' if key else ''}{message[0].lower()}{message[1:]}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: a value is not a number, text, list or mapping ({error})") from None
