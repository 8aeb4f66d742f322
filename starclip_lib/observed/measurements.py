"""Several measured stars: a list that prints as a table, and its table with units."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from astropy import units
from astropy.table import QTable

from starclip_lib.data.tables import label_table
from starclip_lib.observed.measured import Measured, limits_text, pair
from starclip_lib.physics.giants import FROM_PRIOR
from starclip_lib.physics.labels import FE, LABELS, LOGG, N_LABELS, TEFF
from starclip_lib.support.errors import DataError

NOT_STATED = "not stated"
_TRIANGLE = np.tril_indices(N_LABELS)
_OVER_FE = [i for i in range(2, N_LABELS) if i != FE]
_SHORT = ("Teff", "sigma_Teff", "logg", "sigma_logg", "Fe", "sigma_Fe", "velocity", "velocity_error", "verdict")


class Measurements(list[Measured]):
    """Measured stars: a list that prints as a table and also takes names, `found["star"]`; `table` has all columns."""

    def __getitem__(self, key: SupportsIndex | slice | str) -> Any:
        if isinstance(key, slice):
            return Measurements(super().__getitem__(key))
        if not isinstance(key, str):
            return super().__getitem__(key)
        for one in self:
            if one.name == key:
                return one
        names = [one.name for one in self]
        close = difflib.get_close_matches(key, names, 3, 0.4) or names[:3]
        raise DataError(f"no star {key!r:.60} among {len(self)} measurements; there is {', '.join(close) or 'none'}")

    def __getattr__(self, name: str) -> Any:
        if name in {"plot", *Measured.__dataclass_fields__, *dir(Measured)}:
            example = f"found[0].{name}" + (f" or found[{self[0].name!r}].{name}" if self else "")
            raise AttributeError(f"{len(self)} measurements have no {name!r}; take one star: {example}")
        raise AttributeError(f"'Measurements' object has no attribute {name!r}")

    @property
    def table(self) -> QTable:
        """`measured_table` of these stars."""
        return measured_table(self)

    def __repr__(self) -> str:
        return "\n".join(summary(self)) if self else "no measurements: no spectrum was given"

    def _repr_html_(self) -> str:
        return str(self.table["name", *_SHORT]._repr_html_()) if self else repr(self)


def summary(found: Sequence[Measured]) -> list[str]:
    """The first numbers to look at, a line for each star, and which labels are the prior's."""
    width = max([len(one.name) for one in found] + [4])
    lines = [
        f"{'star':<{width}}  {'Teff [K]':>12}  {'log g':>11}  {'[Fe/H]':>12}  {'prior':^14}  {'velocity':>17}  verdict"
    ]
    for one in found:
        verdict = f"{one.verdict}{f': {one.reason}' if one.reason else ''}"
        if one.set_aside or one.prior_fraction is None:
            lines.append(f"{one.name:<{width}}  {'':>12}  {'':>11}  {'':>12}  {'':>14}  {'':>17}  {verdict}")
            continue
        teff, logg, feh = (pair(one, i) for i in (TEFF, LOGG, FE))
        share = " ".join(f"{one.prior_fraction[i]:.2f}" for i in (TEFF, LOGG, FE))
        several = f"; {len(one.fits)} spectra, scatter {one.scatter:.1f} sigma" if len(one.fits) > 1 else ""
        lines.append(
            f"{one.name:<{width}}  {teff:>12}  {logg:>11}  {feh:>12}  {share:>14}"
            f"  {one.velocity:>6.1f} ± {one.velocity_error:.1f} km/s  {verdict}{several}"
        )
        if one.from_prior:
            lines.append(f"{'':<{width}}  from the prior: {one.from_prior}")
    return [
        *lines,
        "prior: standard deviation after over before the spectrum, of Teff, log g and [Fe/H]; "
        f"labels above {FROM_PRIOR:g} are listed as from the prior",
    ]


def measured_table(found: Sequence[Measured], covariance: bool = False) -> QTable:
    """A row for each measurement, with units; NaN where there is none.

    Parameters
    ----------
    found : sequence of Measured
    covariance : bool
        Whether to add a column `covariance`: the 210 numbers at `numpy.tril_indices(20)`, K and dex.

    Returns
    -------
    QTable
        Name, `verdict` and `reason`, what the fit found, labels with `sigma_`, [X/Fe] (`Mg_Fe`, `sigma_Mg_Fe`) with
        the errors that follow from the covariance, and `prior_fraction_`.
    """
    nothing = np.full(N_LABELS, np.nan)
    labels = np.array([one.labels for one in found]).reshape(-1, N_LABELS)
    covariances = np.array([one.covariance for one in found]).reshape(-1, N_LABELS, N_LABELS)

    def of_fits(name: str) -> list[float]:
        return [float(np.mean([getattr(fit, name) for fit in one.fits])) if one.fits else np.nan for one in found]

    table = label_table(
        labels,
        np.array([one.sigma for one in found]).reshape(-1, N_LABELS),
        name=np.array([one.name for one in found], str),
        verdict=np.array([one.verdict for one in found], str),
        reason=np.array([one.reason for one in found], str),
        spectra=[max(len(one.fits), 1) for one in found],
        scatter=[one.scatter for one in found],
        snr=[round(one.snr, 1) for one in found],
        velocity=[one.velocity for one in found],
        sigma_velocity=[one.sigma_velocity for one in found],
        velocity_error=[one.velocity_error for one in found] * units.Unit("km / s"),
        velocity_frame=np.array([one.frame or NOT_STATED for one in found], str),
        fwhm=np.array(of_fits("fwhm")) * units.Angstrom,
        noise=of_fits("noise"),
        misfit=of_fits("misfit"),
        from_prior=np.array([one.from_prior for one in found], str),
        upper_limits=np.array([limits_text(one) for one in found], str),
        notes=np.array(["; ".join(one.notes) for one in found], str),
        file=np.array(["; ".join(spectrum.file for spectrum in one.spectra) for one in found], str),
    )
    rows = np.eye(N_LABELS)[_OVER_FE] - np.eye(N_LABELS)[FE]
    ratios, errors = labels @ rows.T, np.sqrt(np.einsum("ki,nij,kj->nk", rows, covariances, rows))
    for start, values in (("", ratios), ("sigma_", errors)):
        for k, i in enumerate(_OVER_FE):
            table[f"{start}{LABELS[i]}_Fe"] = values[:, k] * units.dex
            table[f"{start}{LABELS[i]}_Fe"].info.format = ".2f"
    fractions = np.array([nothing if one.prior_fraction is None else one.prior_fraction for one in found])
    for i, name in enumerate(LABELS):
        table[f"prior_fraction_{name}"] = fractions.reshape(-1, N_LABELS)[:, i].round(3)
    if covariance:
        table["covariance"] = covariances[:, *_TRIANGLE]
        table["covariance"].info.description = "of the labels: rows and columns of numpy.tril_indices(20), K and dex"
    return table
