# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 · Observed NIRSpec: real stars through the models
#
# **Purpose.** Take spectra that JWST has really observed, prepare them, and read them with models that never saw one. What people
# should remember is the **gallery of failures**: six spectra whose truth is known, and what is found of it.
#
# **After this notebook you can** judge whether a spectrum is usable, bring it to rest and to the training grid, read its
# labels with uncertainties, and say whether the models may be believed there.
#
# **Before this:** notebooks 06 and 08.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `starclip.ckpt`, `embeddings.h5`; a folder of spectra, or none | `observed.csv`, `observed.ecsv`, a page for each star | 32 seconds (the study: 6 minutes more) | 2026-12-01 |
#
# Use `params/m71.yaml` for real stars: its models are trained on a wider domain, and on spectra whose continuum was
# treated as an observer has to. `starclip observe FOLDER --params params/m71.yaml` does all of it.

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from astropy import units as u
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import NIRSPEC, figures
from starclip_lib.metrics.atlas import principal_components
from starclip_lib.observed import analysis, synthetic
from starclip_lib.suite import study
from starclip_lib.lab.report import write_star_page

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"observed": {"folder": "my_spectra"}}

# %%
run = starclip.open_run(params_file, overrides)
data, params, settings = run.data, run.params, run.params.observed

# %% [markdown]
# ## Where to get spectra
#
# Give a folder with PypeIt's `spec1d_*.fits` or STScI's `*_x1d.fits`: the command above, or
# `overrides = {"observed": {"folder": "FOLDER"}}` above (a relative folder counts from the top of the project).
#
# NIRSpec data are public after at most a year. Programme 2609 observed giants of the globular cluster M71 with
# G140H/F100LP; find it in the MAST archive at <https://mast.stsci.edu>. The `x1d` files there can be used as they are;
# [PypeIt](https://pypeit.readthedocs.io) extracts its own from the `rate` files.
#
# **Without a folder** the notebook goes on with a *synthetic* spectrum, so that every step can be seen: a test star of the data
# set, shifted by 62 km/s, sampled as NIRSpec would, with a wiggling response and noise, in a file like PypeIt's. It is not
# an observation and is called SYNTHETIC wherever it is shown. It comes from the very emulator that the models were trained
# on and that is fitted below. Real stars are harder; [docs/real-data.md](../docs/real-data.md) shows how hard.

# %% tags=["nbval-check-output"]
real = bool(settings.folder)
folder = run.root / settings.folder if real else run.folder / "synthetic"
if not real:
    synthetic.write_synthetic(folder / "spec1d_synthetic.fits", data, run.params.seed)
    params = run.params.changed(observed=settings.changed(fwhm=7.0))  # it is as blurred as the templates already
spectra = starclip.read_spectra(folder, settings)
print(f"{len(spectra)} spectra,", "observed" if real else "synthetic: no observation")

# %% [markdown]
# ## Can it be used?
#
# A verdict comes before anything else. Bright stars saturate the cores of their traces, and the extraction then saws up
# and down from pixel to pixel, although the file calls the pixels good and claims a high signal-to-noise ratio. We measure
# how much neighbouring pixels differ: a clean giant stays near 1.5 per cent, lines included. A second object in the slit,
# too few good pixels or too much noise are reasons, too. Ruined spectra are set aside and never embedded.

# %%
analysis.describe(spectra, settings).style.hide(axis="index").format(precision=1, escape="html")

# %% [markdown]
# ## Velocity, resolution, continuum
#
# Each good spectrum is cross-correlated with ab initio templates (training stars) over its whole range; the peak gives the
# radial velocity, and its sharpness the uncertainty. Pixels that fit the best template worst are left out and the peak is
# sought again: they are defects of the extraction, or lines that the template lacks. Each detector by itself is a check of
# the wavelength scale. What correlates with no template is not a star, and is set aside as well.
#
# Two things must be treated as the training spectra were. **Resolution:** G140H's line-spread function has a fixed width in
# Ångström, the templates a fixed R of 2,700, so the observed spectrum is broadened where it is the sharper one.
# **Continuum:** the response of the instrument wiggles by two per cent over a few hundred Ångström, as much as the lines
# are deep. The same spline through line-free pixels is divided out of observed and ab initio spectra.

# %%
prepared = analysis.prepare_all(spectra, data, params)
pd.DataFrame(
    {
        "name": star.name,
        "velocity [km/s]": f"{star.velocity:.1f} ± {star.velocity_error:.1f}",
        "detectors [km/s]": ", ".join(f"{v:.1f} ± {e:.1f}" for v, e in star.detector_velocities),
        "correlation": round(star.correlation, 2),
    }
    for star in prepared.stars
)

# %%
for star in prepared.stars:
    drawn = (NIRSPEC.wavelength, star.flux, star.mask, star.seen_template)
    figure = figures.observed_spectrum(*drawn, star.name, "observed" if real else "synthetic, not observed")
    run.save_figure(f"observed_{star.name}", figure)
    display(figure)

# %% [markdown]
# ## Labels
#
# The linear probe of notebook 08 reads labels from StarCLIP's embedding. How sure is it? New noise is drawn, which
# gives one part of the uncertainty. The other is the larger of two: the probe's error on the views of test stars, and a
# **jackknife**, in which eight stretches of the spectrum are left out in turn. A model that describes the star perfectly
# gives nearly the same labels without any of them. If it does not, the wavelengths disagree about the star, and the model is
# wrong somewhere. An error that is the same everywhere stays hidden.
#
# `verdict` tells whether the fitted labels and the embedding lie where the models have learned: good, at the edge or outside,
# with the reason beside it. Outside, a network extrapolates without warning. A star from inside can be called outside, because
# its fitted labels scatter by their errors.

# %%
found = analysis.analyse(prepared.stars, run.space, params)
stars = found.labels.to_dict("records")
found.labels.round(2).T

# %% [markdown]
# Only what was observed goes into the report of the run: `observed.csv`, `observed.ecsv` with units, and its numbers.

# %%
if real:
    analysis.write_tables(found, prepared.set_aside, run.report)
run.save_metrics(
    "observed", {"stars": stars, "set_aside": prepared.set_aside} if real else {"stars": [], "set_aside": {}}
)

# %% [markdown]
# The APOGEE stars nearest to each of them, in the space of the embedding, with their catalogue labels:

# %%
found.neighbours.round(2).T

# %% [markdown]
# ## On the map
#
# Do the neighbours lie around the star, or all to one side of it? A star at the rim of the cloud has no twin in the
# survey, and its neighbours' labels are biased inwards.

# %%
apogee = run.space.apogee
for star, z in zip(stars, found.z):
    near = found.neighbours[found.neighbours["observed"] == star["name"]]
    xy, _ = principal_components(np.vstack([apogee.z, z]))
    places = xy[:-1][pd.Index(apogee.star_id).get_indexer(near["APOGEE star"])]
    figure = figures.place_on_map(xy[:-1], data.labels_of(apogee.star_id), xy[-1], places, star["name"])
    run.save_figure(f"observed_{star['name']}_map", figure)
    if real:
        write_star_page(run.report, star, near.to_dict("records"))
    display(figure)

# %% [markdown]
# ## And without any network?
#
# The emulator knows the spectra by itself: bring its sharpest ones to the line-spread function of the instrument, and fit
# twenty labels, velocity, line width and continuum at once, with a population of giants as prior. That is what
# `starclip observe FILES` does, in seconds and without a run. Compare it with the labels above. Its errors also hold what the
# synthesis gets wrong and by how much catalogues differ, so they are larger; how right they are on real stars is in
# [docs/real-data.md](../docs/real-data.md#how-right-it-is).

# %%
measured = starclip.measure(spectra, "" if real else "R=2700")  # the synthetic star is as blurred as the templates
for one in measured:
    print(one)
    if not one.set_aside:
        print(one.abundance("Mg", over="Fe"))

# %%
for one in measured:
    if not one.set_aside:
        figure = one.plot()
        run.save_figure(f"measured_{one.name}", figure)
        display(figure)

# %% [markdown]
# ## And the truth?
#
# For the synthetic star it is known. Here are the true labels, what the run's models read and what the fit finds, with the
# errors that each of them claims. (For a real star there are only a catalogue's labels, with errors of their own.)

# %%
if not real and not measured[0].set_aside:
    truth = pd.DataFrame({"truth": data.labels[data.rows("test")[0]]}, index=starclip.LABELS)
    row = found.labels.iloc[0]
    answers = {"models": [row[["", "sigma_"][k] + name] for k in (0, 1) for name in starclip.LABELS]}
    answers["fit"] = [*measured[0].labels, *measured[0].sigma]
    for name, values in answers.items():
        truth[name], truth[f"± {name}"] = np.reshape(np.array(values, float), (2, 20))
    display(truth.round(2))

# %%
if not real and not measured[0].set_aside:
    for name in answers:
        off = np.abs(truth[name] - truth["truth"]) / truth[f"± {name}"]
        print(
            f"{name}: {(off < 1).sum()} of 20 labels within the claimed error; {off.idxmax()} is the farthest, {off.max():.1f} errors off"
        )

# %% [markdown]
# One star is an example, not a calibration: docs/results.md counts over many.
#
# ## A gallery of failures
#
# Six spectra, none of them observed: each is made here by the emulator, so the truth is known and printed. Before you look at the
# answers, decide for each of them what a careful astronomer would do with it.
#
# - **clean**: a giant with a signal-to-noise ratio of 100, for comparison.
# - **saturated**: the same giant, too bright. The extraction saws up and down from pixel to pixel.
# - **two stars**: a quarter of the light comes from a second giant, at a velocity that differs by 150 km/s.
# - **too hot**: hotter than any star that the emulator knows, by continuing its trend.
# - **poor and faint**: [Fe/H] = −1.5 with three times as much vanadium as iron would suggest, and half the signal-to-noise ratio.
# - **veiled**: the clean giant, but 40 % of the light is smooth, from a hot companion or from dust.


# %%
def observed(labels, velocity=62.0):
    """The emulated star as two detectors of NIRSpec sample it."""
    wavelength = np.concatenate([np.arange(9700, 14100, 2.35), np.arange(14480, 17900, 2.35)])
    flux = starclip.default_emulator()(labels[None], NIRSPEC)[0]
    return wavelength, np.interp(wavelength / (1 + velocity / 299792.458), NIRSPEC.wavelength, flux)


# %%
giant = np.array([4500.0, 2.0, *[-0.2] * 18])
poor, hot = np.array([4600.0, 1.7, *[-1.5] * 18]), np.array([5400.0, 3.4, *[-0.5] * 18])
poor[starclip.label_index("V")] += 0.5
second, cooler = np.array([4800.0, 2.5, *[-0.3] * 18]), np.array([5050.0, 3.4, *[-0.5] * 18])
wavelength, clean = observed(giant)
fluxes = {
    "clean": (clean, giant),
    "saturated": (clean * (1 + 0.03 * (-1) ** np.arange(len(clean))), giant),
    "two stars": (0.75 * clean + 0.25 * observed(second, 62 + 150)[1], giant),
    "too hot": (2 * observed(hot)[1] - observed(cooler)[1], 2 * hot - cooler),
    "poor and faint": (observed(poor)[1], poor),
    "veiled": (0.6 * clean + 0.4, giant),
}

# %%
rng, gallery, relative = np.random.default_rng(10), [], u.dimensionless_unscaled
for name, (flux, _) in fluxes.items():
    noise = np.full(len(flux), 1 / (50 if name == "poor and faint" else 100))
    noisy = flux + noise * rng.standard_normal(len(flux))
    (spectrum,) = starclip.read_spectra((wavelength * u.AA, noisy * relative, noise * relative))
    spectrum.name = name
    gallery.append(spectrum)
answers = starclip.measure(gallery, "R=2700")
run.save_figure("failed_measurements", figures.failed_measurements(gallery, answers, (15300, 16000)))

# %%
lines = []
for one, (_, labels) in zip(answers, fluxes.values(), strict=True):
    lines.append(f"**{one.name}**: {one.verdict}" + (f" ({one.reason})" if one.reason else ""))
    for i in map(starclip.label_index, ("Teff", "logg", "Fe", "V") if not one.set_aside else ()):
        value, off = float(one.labels[i]), (float(one.labels[i]) - labels[i]) / one.sigma[i]
        lines[-1] += (
            f"; {starclip.PLAIN[i]} {value:.{2 * (i > 0)}f}, truth {labels[i]:.{2 * (i > 0)}f}, {off:+.1f} sigma"
        )
Markdown("- " + "\n- ".join(lines))

# %% [markdown]
# **How to read this.** The saturated spectrum is judged before any fit, by how much its neighbouring pixels differ. A second star
# widens the lines, and a star hotter than the emulator's limit is held there: both have labels, with a verdict against their use.
# Veiling leaves no such trace. Smooth light makes all lines shallower by the same share, and so does a lower metallicity.

# %%
by_name = {star.name: star for star in answers}
i, j = starclip.label_index("Fe"), starclip.label_index("V")
veiled, faint = by_name["veiled"], by_name["poor and faint"]
Markdown(
    f'*Veiled* gets the verdict "{veiled.verdict}" and [Fe/H] = {veiled.labels[i]:.2f} ± {veiled.sigma[i]:.2f}, where the truth is '
    f"{giant[i]:.2f}: {abs(veiled.labels[i] - giant[i]) / veiled.sigma[i]:.1f} sigma off. Another wavelength region or the star's "
    f"distance has to tell. *Poor and faint*: [V/H] = {faint.labels[j]:.2f} ± {faint.sigma[j]:.2f}, where the truth is {poor[j]:.2f}. Its "
    f"standard deviation is {faint.prior_fraction[j]:.2f} of that before the spectrum was seen"
    + (": the value comes **from the prior**" if faint.prior_fraction[j] > 0.7 else "")
    + ", which expects vanadium to follow iron. From the prior are here: "
    f"{faint.from_prior or 'none'}."
)

# %% [markdown]
# ## What makes a model survive real data?
#
# A study (set `observed.study` to true; it trains a label network for each row). The paper's mock spectra keep the true
# continuum, which no observer knows. Compare what networks say about the same stars when one thing at a time is done
# otherwise, and see which choice matters and which hardly does. What came out for M71 is in `docs/real-data.md`.

# %%
if real and settings.study:
    table = study.corruption_study(data, params, run.root)
    figure = figures.study(table)
    run.save_figure("observed_study", figure)
    display(figure, table.pivot(index="treatment", columns="star").reindex(list(study.STUDY)))

# %% [markdown]
# ## Exercises
#
# **1. Code the way back to rest.** Write a function `to_rest(wavelength, velocity)`: wavelengths in Ångström as observed, of a star that
# recedes with `velocity` km/s, become those at rest. Put it in place of None. Then apply it to `wavelength` and 62 km/s and plot the
# clean star beside the template, `NIRSPEC.wavelength` and `prepared.stars[0].seen_template`: do the lines fall on each other?

# %%
answer = None
starclip.check("10.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def to_rest(wavelength, velocity):
#     return wavelength / (1 + velocity / 299792.458)
# ```
#
# At 13,000 Å, 30 km/s are 1.30 Å, a little more than a pixel of our grid. Forget it, and every line is in the wrong place.
#
# </details>
#
# **2.** A star comes out with log g 3.90 ± 0.20, and the models were trained up to 3.7. By how many sigma is it beyond?

# %%
answer = None
starclip.check("10.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# (3.90 − 3.70) / 0.20 = 1. Such a star may well be inside; the table says so in words and gives the numbers.
#
# </details>
#
# ## Questions
#
# 1. Members of one cluster share velocity and composition. Do the labels agree among the stars? Where they do not, which
#    one do you distrust, and why?
# 2. What would happen to a spectrum that is shifted by 200 km/s too much before embedding? Try it.
# 3. The correlation with the best template is well below 1 even for good spectra. Name three causes.
# 4. How would you notice a veiled star in a survey? Name two measurements that the spectrum alone does not contain.
#
# **Next:** [11 · Limits](11_limits.ipynb) computes the smallest errors that are possible (`starclip evaluate`).
