"""Whether the instrument, mode and grating of a file are those that are read, and what a header states about air."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starclip_lib.observed.line_spread import DEFAULT, nirspec_settings
from starclip_lib.support.errors import DataError

_WHY_NOT = {
    "G235": "it begins at 16,600 Angstrom, and the emulator ends at 18,000: too few lines of a giant are left",
    "G395": "it begins at 28,700 Angstrom, and the emulator ends at 18,000",
    "PRISM": "at a resolution of 30 to 300 no line of a giant is resolved",
    "MIRROR": "it is an image",
}
_LAMPS = ("NRS_LAMP", "NRS_AUTOWAVE", "NRS_AUTOFLAT")
_READ = "what can be read is NIRSpec's G140H and G140M, 9,000 to 18,000 Angstrom"


def text(header: Mapping[str, Any], *keys: str) -> str:
    """The first of some cards that is not empty, as text without blanks around it."""
    for key in keys:
        value = header.get(key)
        if value is not None and (said := str(value).strip()) and said.upper() not in ("N/A", "NONE", "UNKNOWN"):
            return said
    return ""


def check_instrument(header: Mapping[str, Any], path: Path) -> None:
    """Raise DataError, naming what took it, unless a file is NIRSpec's or does not tell."""
    telescope, instrument = text(header, "TELESCOP").upper(), text(header, "INSTRUME").upper()
    if instrument in ("", "NIRSPEC") and telescope in ("", "JWST"):
        return
    mode = ", ".join(
        dict.fromkeys(filter(None, (text(header, "EXP_TYPE"), text(header, "GRATING", "DISPNAME", "PUPIL"))))
    )
    of = " ".join(filter(None, (telescope, instrument)))
    raise DataError(
        f"{path}: taken with {of:.60}{f' ({mode:.60})' if mode else ''}; {_READ}; other spectra of 9,700 to 18,000 "
        "Angstrom are read from a table (CSV, ECSV) with `--lsf`"
    )


def grating_spread(header: Mapping[str, Any], path: Path) -> str:
    """The line-spread function of a header's grating, filter and mode; DataError for what cannot be measured."""
    kind = text(header, "EXP_TYPE").upper()
    if kind in _LAMPS:
        raise DataError(f"{path}: EXP_TYPE {kind} is a lamp, not a star; give the exposures of the target")
    grating = text(header, "GRATING", "DISPNAME").upper()
    if not grating:
        return DEFAULT
    if not grating.startswith("G140"):
        why = next((why for name, why in _WHY_NOT.items() if grating.startswith(name)), "")
        raise DataError(f"{path}: taken with {grating:.20}{f': {why}' if why else ''}; {_READ}")
    place = " ".join((kind, text(header, "APERNAME"), text(header, "DECKER"))).upper()
    mode = "IFU" if "IFU" in place else "MSA" if "MSA" in place else "slit"
    setting = f"{grating}/{text(header, 'FILTER', 'FILTER1').upper() or 'F100LP'}/{mode}"
    if setting.upper() not in nirspec_settings():
        raise DataError(
            f"{path}: taken with {setting:.60}; G140H and G140M are read with the filters F070LP and F100LP"
        )
    return setting


def nirspec_spread(header: Mapping[str, Any], path: Path) -> str:
    """The line-spread function of a table whose header names a grating of NIRSpec; empty for other tables.

    Raises DataError for gratings that cannot be measured.
    """
    telescope, instrument = text(header, "TELESCOP").upper(), text(header, "INSTRUME").upper()
    grating = text(header, "GRATING", "DISPNAME").upper()
    is_nirspec = instrument == "NIRSPEC" or (not instrument and grating.startswith(("G140", "G235", "G395")))
    return grating_spread(header, path) if grating and is_nirspec and telescope in ("", "JWST") else ""


def stated_medium(header: Mapping[str, Any]) -> str:
    """'air' or 'vacuum' if a header states it (CTYPE, VACUUM, AIRORVAC, WAVETYPE, ...), else empty."""
    for key in ("AIRORVAC", "WAVETYPE", "WAVEMED", "MEDIUM", "WAVE_MEDIUM", "AIR_VAC", "AIRVAC"):
        said = text(header, key).lower()
        if said.startswith(("air", "vac")):
            return said[:3].replace("vac", "vacuum")
    for key, yes, no in (("VACUUM", "vacuum", "air"), ("VAC", "vacuum", "air"), ("AIR", "air", "vacuum")):
        said = str(header.get(key, "")).strip().lower()
        if said in ("t", "true", "1", "yes"):
            return yes
        if said in ("f", "false", "0", "no"):
            return no
    for key in header:
        if str(key).upper().startswith(("CTYPE", "TCTYP")):
            said = str(header[key]).strip().upper()
            if said.startswith("AWAV"):
                return "air"
            if said.startswith(("WAVE-", "VWAV")) or said == "WAVE":
                return "vacuum"
    return ""
