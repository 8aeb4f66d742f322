"""The pages of `starclip observe`: one for each star or spectrum, and one for all; they work without a network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from astropy.table import Table
from astropy.time import Time

from starclip_lib import __version__
from starclip_lib.lab.figures.observed import abundances, kiel, observed_spectrum, ratios_against_iron
from starclip_lib.lab.report import write_page
from starclip_lib.observed.measured import (
    VERDICTS,
    Catalogue,
    Measured,
    model_atlas,
    nearest_neighbours,
    pair,
    upper_limits,
)
from starclip_lib.observed.spectrum import ObservedSpectrum
from starclip_lib.physics.emulator import default_emulator
from starclip_lib.physics.giants import FROM_PRIOR
from starclip_lib.physics.labels import FE, LABELS, LOGG, PLAIN, TEFF, UNITS
from starclip_lib.support.errors import one_line
from starclip_lib.support.files import atomic_path

FOLDER = "stars"  # of the stars' pages, beside index.html
_PLOTLY = "plotly.min.js"
_TWOMASS = re.compile(r"2M(\d{8}[+-]\d{7})")
_CITATION = (
    "Please cite StarCLIP with this version (CITATION.cff), and the programs and pipelines that the spectra come from."
)
_MG = LABELS.index("Mg")


def write_pages(
    found: Sequence[Measured],
    folder: Path,
    catalogue: Catalogue,
    tables: Sequence[str],
    options: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    """Write index.html, stars/NAME.html for each measurement, and plotly beside them.

    `tables` are the names of the tables in the folder, `options` and `notes` what the index shows about the whole.
    """
    from plotly.offline import get_plotlyjs

    (folder / FOLDER).mkdir()
    with atomic_path(folder / _PLOTLY) as part:
        part.write_text(get_plotlyjs(), encoding="utf-8")
    made = {
        "made": f"Made on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by StarCLIP {__version__}, "
        f"emulator {default_emulator().version}",
        "citation": _CITATION,
    }
    for one in found:
        _write_star(one, folder / FOLDER / f"{one.name}.html", catalogue, options, made)
    links = [f"{FOLDER}/{quote(one.name)}.html" for one in found]
    rows = [_row(one, link) for one, link in zip(found, links, strict=True)]
    count = Counter(one.verdict for one in found)
    any_labels = any(not one.set_aside for one in found)
    write_page(
        folder / "index.html",
        "observed",
        title=_title(found),
        counts=[(verdict, count[verdict], meaning) for verdict, meaning in VERDICTS.items() if count[verdict]],
        figures={"kiel": kiel(found, links), "ratios": ratios_against_iron(found, links)} if any_labels else {},
        tables=tables,
        stars=rows,
        several=any(row["spectra"] > 1 for row in rows),
        aside=[row for row in rows if not row["measured"]],
        facts=list(options.items()),
        notes=[one_line(note) for note in notes],
        **made,
    )


def _title(found: Sequence[Measured]) -> str:
    spectra = sum(max(len(one.spectra), 1) for one in found)
    some = "1 spectrum" if spectra == 1 else f"{spectra:,} spectra"
    return some if spectra == len(found) else f"{len(found):,} stars, {some}"


def _row(one: Measured, link: str) -> dict[str, Any]:
    """A star as the table of the index shows it."""
    cells = []
    if not one.set_aside:
        mg = one.abundance("Mg", "Fe")
        cells = [{"text": pair(one, i), "grey": _share(one, i) > FROM_PRIOR} for i in (TEFF, LOGG, FE)]
        cells.append({"text": f"{mg.value:.2f} ± {mg.sigma:.2f}", "grey": mg.from_prior})
        cells.append({"text": f"{one.velocity:.1f} ± {one.velocity_error:.1f}", "grey": False})
    return {
        "name": one.name,
        "link": link,
        "measured": not one.set_aside,
        "verdict": one.verdict,
        "reason": one_line(one.reason),
        "snr": f"{one.snr:.0f}" if np.isfinite(one.snr) else "",
        "cells": cells,
        "spectra": len(one.spectra),
        "file": one_line(", ".join(Path(spectrum.file).name for spectrum in one.spectra)),
    }


def _write_star(
    one: Measured, path: Path, catalogue: Catalogue, options: Mapping[str, str], made: Mapping[str, str]
) -> None:
    figures, rows, near = {}, [], []
    if one.spectra and len(one.spectra[0].wavelength):
        figures["spectrum"] = observed_spectrum(one)
    if not one.set_aside:
        figures |= {"abundances": abundances(one), "kiel": kiel([one])}
        rows = _label_rows(one)
        near = Table(nearest_neighbours(one, catalogue=catalogue)).to_pandas().to_dict("records")
        for other in near:
            other["link"] = star_link(str(other["star_id"]))
    write_page(
        path,
        "measured",
        star=one,
        fit=one.fits[0] if one.fits else None,
        fe=FE,
        figures=figures,
        rows=rows,
        half=round(100 * FROM_PRIOR**2),
        neighbours=near,
        catalogue=catalogue.title,
        is_model=catalogue.title == model_atlas().title,
        facts=_facts(one, options),
        **made,
    )


def _share(one: Measured, i: int) -> float:
    """Posterior over prior standard deviation of a label."""
    return float("nan") if one.prior_fraction is None else float(one.prior_fraction[i])


def _label_rows(one: Measured) -> list[dict[str, Any]]:
    """The twenty labels as the page's table has them."""
    limits, rows = upper_limits(one), []
    for i, (key, name, unit) in enumerate(zip(LABELS, PLAIN, UNITS, strict=True)):
        ratio = one.abundance(key, "Fe") if i not in (TEFF, LOGG, FE) else None
        from_prior = _share(one, i) > FROM_PRIOR
        remark = "from the prior" if from_prior else ""
        if np.isfinite(limits[i]):
            remark = f"{name} < {limits[i]:+.2f} (95 %)"
        elif one.fits and one.fits[0].held[i]:
            remark = "held at the emulator's edge"
        rows.append(
            {
                "key": key,
                "name": f"{name} [{unit}]" if unit == "K" else name,
                "value": pair(one, i),
                "ratio": f"{ratio.value:+.2f} ± {ratio.sigma:.2f}" if ratio else "",
                "share": round(100 * _share(one, i) ** 2),
                "from_prior": from_prior,
                "remark": remark,
            }
        )
    return rows


def _facts(one: Measured, options: Mapping[str, str]) -> list[tuple[str, str]]:
    """Where a measurement comes from, and what the fit found besides the labels."""
    facts: list[tuple[str, str]] = [("target", one.target)]
    for number, spectrum in enumerate(one.spectra, start=1):
        facts.append((f"spectrum {number}" if len(one.spectra) > 1 else "spectrum", _described(spectrum)))
    if one.fits:
        fit = one.fits[0]
        facts += [
            ("signal-to-noise", f"{one.snr:.0f} per pixel as the reduction claims it; the residuals show noise of "
             f"{100 * fit.noise:.2f} % of the continuum"),
            ("line width", f"{fit.fwhm:.2f} ± {fit.fwhm_error:.2f} Å (FWHM in the middle of the spectrum)"),
            ("misfit", f"{100 * fit.misfit:.0f} % of the depth of the lines, beyond what noise explains"),
            ("velocity", f"{one.velocity:.1f} km/s, {one.frame or 'frame not stated in the file'}; error "
             f"{one.sigma_velocity:.1f} km/s of noise, {one.velocity_error:.1f} km/s with the zero point of the "
             "wavelengths"),
        ]  # fmt: skip
    elif np.isfinite(one.snr):
        facts.append(("signal-to-noise", f"{one.snr:.0f} per pixel as the reduction claims it"))
    if len(one.fits) > 1:
        facts.append(("scatter", f"the labels of the spectra scatter by {one.scatter:.1f} times what noise claims"))
    return [(name, one_line(text)) for name, text in (*facts, *options.items())]


def _described(spectrum: ObservedSpectrum) -> str:
    """File, exposure, setting and date of a spectrum."""
    parts = [spectrum.file or "in memory"]
    if (made := spectrum.exposures) is not None:
        parts.append(
            f"program {made.program}, observation {made.observation}" + f", {made.exposure}" * bool(made.exposure)
        )
        parts.append(f"{made.grating}/{made.filter}, reduced with {made.pipeline}")
        if made.start > 0:
            parts.append(f"{Time(made.start, format='mjd').strftime('%Y-%m-%d %H:%M')} UTC")
        if made.seconds > 0:
            parts.append(f"{made.seconds:.0f} s")
    if spectrum.lsf:
        parts.append(f"line-spread function of {spectrum.lsf}")
    if len(spectrum.wavelength):
        parts.append(f"{spectrum.n_good:,} good of {len(spectrum.wavelength):,} pixels")
    parts.append(f"wavelengths in {spectrum.medium}" if spectrum.medium else "air or vacuum not stated")
    return "; ".join(parts)


def star_link(star_id: str) -> str:
    """The address of a star with a 2MASS identifier in SIMBAD; empty for other names."""
    found = _TWOMASS.fullmatch(star_id)
    return f"https://simbad.cds.unistra.fr/simbad/sim-id?Ident=2MASS+J{quote(found[1])}" if found else ""
