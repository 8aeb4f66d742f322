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
# # 01 · The data: four thousand red giants, seen twice
#
# **Purpose.** Make the data set that every other notebook uses, look at it, and know what in it is real.
#
# **The figure to remember.** The Kiel diagram: where red giants live.
#
# **After this notebook you can** say how the stars were drawn, why the two spectra of a star disagree a little, and
# how stars are divided so that nothing leaks from the test into the training.
#
# **Before this:** notebook 00; what a spectrum is.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | nothing | `runs/NAME/data.h5` | 17 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import APOGEE, FE, NIRSPEC, PLAIN, figures
from starclip_lib.inference.spectrum import fit_spectrum
from starclip_lib.survey.apogee import real_examples

# %% [markdown]
# Every notebook opens with the same two variables. `params_file` names the file with all settings of the run, and
# `overrides` changes a few of them without editing the file. A misspelt setting is refused, with the nearest valid name.

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"data": {"n_stars": 1000}}

# %%
run = starclip.open_run(params_file, overrides)
params = run.params

# %% [markdown]
# ## Drawing the stars
#
# The paper's 19,001 stars can be downloaded from its repository ([real data](../docs/real-data.md)), but this project does not
# depend on a download. With `data.population: apogee`, as here, temperature, gravity, metallicity and [alpha/M] of each star are those of a real
# giant, drawn from 189,182 stars of APOGEE DR17 (rounded, 0.5 MB); the single abundances follow trends with these four, with scatter
# from star to star. So a disc poor in alpha elements, a disc rich in them, and a halo are there as the survey found them. (`relations` draws
# all labels from formulas, for stars that are not in that list.)
#
# Three steps then make the data. **True labels** are drawn from the population. **Catalogue labels** are the truth plus
# the errors that the APOGEE pipeline (ASPCAP) reports; they are all a user of the survey ever sees. The **APOGEE
# spectrum** is computed at the true labels and then observed, with noise and other blemishes. The **NIRSpec spectrum**
# is computed at the catalogue labels and is perfect. That is how the paper did it. It has a consequence worth
# keeping in mind: the two spectra of a star belong to slightly different labels, and no method can undo that.
#
# **Which physics?** If all spectra came from one emulator, a method that fits that emulator would be right by construction, as it
# cannot be for real stars. So in this run `data.world` is `realistic`: what is *observed* is made with a physics that differs from
# *theory* as that of real giants does (line strengths, damping, temperature gradient, microturbulence of each star, errors of
# single lines, widths of lines; [worlds](../docs/worlds.md) has the sizes and what they were measured on). APOGEE spectra are
# observed, NIRSpec spectra are theory. For the test stars there are **observed NIRSpec spectra** besides, which no method learns
# from with labels: they stand for the spectra that you will have. `--set data.world=theory` takes the difference away.
#
# Real stars instead? If `data.file` names a data set made by `starclip fetch apogee` (the paper's stars, rebuilt from the
# public archive) or by `starclip import-original`, the stars come from there and nothing below changes.
#
# `run.build` makes the file only if it is not there yet, or if settings or code that it depends on have changed.

# %%
run.build("data.h5")
data = run.data

# %% [markdown]
# The stars are divided once, by star, in the proportions 5 : 1 : 2, and every stage uses this one division. The paper
# drew a new division for its second stage, so most of its test stars had been seen in training, with their labels.

# %% tags=["nbval-check-output"]
print(f"{data.n_stars} stars, {data.split_counts()}")
print(f"APOGEE {data.apogee.flux.shape}, NIRSpec {data.nirspec.flux.shape}")

# %% [markdown]
# ## Why by star, and not by spectrum
#
# Suppose that every star has two noisy spectra, and that a careless colleague divides the *spectra* at random. Many a test
# spectrum then has a sister in the training part, which carries the answer. The simplest method there is, "take [Fe/H] from the
# most similar training spectrum", shows what that does. Here it is, with both divisions:

# %%
rng = np.random.default_rng(params.seed)
few = np.repeat(data.rows("train")[:400], 2)  # two spectra of each star, at a signal-to-noise ratio of 300
flux = data.nirspec.flux[few] + rng.normal(0, 1 / 300, (len(few), NIRSPEC.n_pix)).astype(np.float32)
drawn = rng.choice(np.unique(few), len(few) // 10, replace=False)
divisions = {"by spectrum": rng.random(len(few)) < 0.2, "by star": np.isin(few, drawn)}

# %%
errors = {}
for name, tested in divisions.items():
    train, judged = flux[~tested], flux[tested]
    distance = (train**2).sum(1) - 2 * judged @ train.T  # squared, but for a term that is the same for all of a row
    nearest = few[~tested][distance.argmin(1)]
    errors[name] = np.sqrt(np.mean((data.labels[nearest, FE] - data.labels[few[tested], FE]) ** 2))
assert errors["by spectrum"] < errors["by star"]
Markdown(
    "The typical error of [Fe/H] is "
    + " and ".join(f"{error:.3f} dex if one divides {name}" for name, error in errors.items())
    + f". The first number is wrong by a factor of {errors['by star'] / errors['by spectrum']:.1f}, because the answers **leaked** "
    "from the test into the training; for a new star, only the second is true."
)

# %% [markdown]
# ## Where the stars are
#
# The Kiel diagram shows gravity against temperature, with both axes reversed so that a star climbs upwards and to the
# right as it swells into a giant. Metal-poor stars (dark) are hotter than metal-rich ones at the same gravity. The sharp
# edges are the paper's cuts: 4000 < Teff < 5000 K and 0.5 < log g < 2.

# %%
run.save_figure("kiel", figures.kiel_diagram(data.labels))

# %% [markdown]
# Does the population resemble the paper's sample? The paper never prints the spread of its labels, but it can be worked out
# from its tables, since an r² and an RMSE together give a standard deviation. Each point below is our spread divided by
# the published one; the band is 15 per cent either way. Real giants inside the paper's cuts need not have the spreads of the paper's
# own stars, which were chosen otherwise.

# %%
run.save_figure("spread", figures.spread_check(data.labels))

# %% [markdown]
# Spreads alone would be easy to fake. The patterns below are the astrophysics that a model can use: two sequences in
# magnesium, the products of different ages of the Galaxy; carbon falling and nitrogen rising as a star climbs the giant
# branch (colour) and mixes its burnt interior outwards; manganese following iron too eagerly.

# %%
run.save_figure("abundances", figures.abundance_patterns(data.labels))

# %% [markdown]
# The consequence for statistics: all abundances rise and fall together with metallicity.

# %%
run.save_figure("correlations", figures.label_correlations(data.labels))

# %%
share = np.delete(np.corrcoef(data.labels.T)[FE] ** 2, FE)
Markdown(
    f"A straight line in [Fe/H] alone explains more than half of the variance of {(share > 0.5).sum()} of the other "
    f"{len(share)} labels, and {share[PLAIN.index('[V/H]')]:.0%} of that of vanadium. A high r² for vanadium therefore "
    "does not show that a vanadium line was measured. Remember this when you read the tables of notebook 08."
)

# %% [markdown]
# ## The two spectra of a star
#
# Three stars, from metal-poor to metal-rich. On the left the whole near infrared at NIRSpec's resolution; on the right
# the narrow H band through APOGEE's eyes, eight times sharper, with the two spaces between its three detectors.

# %%
order = np.argsort(data.labels[:, FE])
stars = order[[len(order) // 50, len(order) // 2, -len(order) // 50]]
run.save_figure("pairs", figures.example_pairs(data.apogee.flux[stars], data.nirspec.flux[stars], data.labels[stars]))

# %% [markdown]
# ## What "observed" means here
#
# Subtract from each APOGEE spectrum the perfect one for the star's catalogue labels. For one star (above) what is left
# looks like noise, with wiggles at its lines: the physics is another one, the velocity was corrected imperfectly, the line-spread
# function was a few per cent off, and the catalogue labels are not the truth. The scatter over five hundred stars (below) shows what is the
# same for all: spikes where the night sky's OH lines were subtracted, a comb where carbon dioxide and methane absorb.
# Every one of these blemishes is a setting under `data.apogee`, and the physics one under `data.world`.

# %%
inside = starclip.default_emulator().inside_domain(data.labels)
some = order[inside[order]][:: max(1, inside.sum() // 500)]
difference = data.apogee.flux[some] - starclip.default_emulator()(data.labels[some], APOGEE)
difference[data.apogee.mask[some] & APOGEE.on_detector] = np.nan
scatter = np.nanpercentile(difference, 84, axis=0) - np.nanpercentile(difference, 16, axis=0)

# %%
run.save_figure("observed_apogee", figures.residuals(difference[len(some) // 2], scatter / 2, (15900, 16400)))

# %% [markdown]
# ## Real spectra over emulated ones
#
# The whole project stands on the emulator, so how well does it know real stars? Here the twenty labels and a polynomial
# continuum are fitted to observed APOGEE spectra by least squares, with the exact gradients of the emulator. Look for lines
# that only one of the two curves has: a line list is never complete, and a network trained on emulated spectra knows
# nothing of the lines that are missing.
#
# Real spectra are not part of the project. `starclip fetch apogee` brings them from the public archive, and
# `data.real_spectra` may name a folder of aspcapStar or apStar files that you have.

# %%
examples = real_examples(params.data, run.root, data)
fits = [fit_spectrum(star.flux, star.ivar, APOGEE) for star in examples]
best = sorted(zip(examples, fits), key=lambda pair: (len(pair[1].at_edge), pair[1].rms))[:3]

# %%
if best:
    figure = figures.real_over_emulated(*zip(*best))
    run.save_figure("real_over_emulated", figure)
    display(figure)
else:
    print("No real spectra here: give their folder as data.real_spectra, or run on params/apogee.yaml")

# %% [markdown]
# If the data set was built from the public catalogue, these are the cuts that made it, one after the other.

# %%
pd.DataFrame(data.provenance.get("cuts", []), columns=["cut", "removed", "left"])

# %% [markdown]
# ## Pixels without data
#
# Pixels without data hold 0 in APOGEE and 1 in NIRSpec, as in the surveys. Since 0 and 1 can also be data, a mask says
# which pixels are meant. How much of each spectrum is missing?

# %% tags=["nbval-check-output"]
print(f"APOGEE: {data.apogee.mask.mean():.1%} of the pixels hold no data")
print(f"NIRSpec: {data.nirspec.mask.mean():.1%}, ab initio spectra have no gaps yet")
print(f"NIRSpec pixels are {np.diff(NIRSPEC.wavelength)[0]:.2f} Angstrom wide")

# %%
counts = {f"n_{name}": count for name, count in data.split_counts().items()}
run.save_metrics("data", {"source": data.source, "n_stars": data.n_stars, **counts})

# %% [markdown]
# ## What is real, what is simulated
#
# | real | simulated |
# |---|---|
# | wavelength grids, resolutions, chips, and the convention for missing pixels | every spectrum (LTE syntheses through an emulator, see `docs/emulator.md`) |
# | temperature, gravity, metallicity and [alpha/M] of the stars (APOGEE DR17); the published uncertainties of the labels | the single abundances, by relations with the four labels of a real giant; the physics of the world |
# | where NIRSpec's detectors leave gaps (notebook 02) | residuals of sky, tellurics, velocity and line-spread function |
#
# ## Exercises
#
# **1.** How many times narrower is an APOGEE resolution element (R = 22,500) than one of NIRSpec (R = 2,700) at the same
# wavelength?

# %%
answer = None
starclip.check("01.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 22,500 / 2,700 = 8.3. That is why a line that stands alone in APOGEE is part of a blend in NIRSpec.
#
# </details>
#
# **2.** Our NIRSpec grid has 8,192 pixels from 9,000 to 18,000 Å. What velocity, in km/s, shifts a line at 13,500 Å by one
# pixel?

# %%
answer = None
starclip.check("01.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 9,000 / 8,191 = 1.099 Å a pixel, and v = c × 1.099 / 13,500 = 24.4 km/s. Velocities of a few km/s are a fraction of a
# pixel.
#
# </details>
#
# **3. (To code.)** Find a planted leak. `spectra` is the table of a survey with one row for each spectrum, and somebody has moved a
# few rows. Which stars are in the training *and* in the test part? Put their identifiers, in any order, into `yours`.

# %%
parts = np.repeat(np.array(["train", "val", "test"])[data.split], 2)
parts[rng.choice(np.flatnonzero(parts == "test"), 5, replace=False)] = "train"
spectra = pd.DataFrame({"star": np.repeat(data.star_id, 2), "part": parts}).sample(frac=1, random_state=params.seed)
yours = None  # e.g. ["SIM000012", "SIM000345"]
if yours is not None:
    in_parts = spectra.groupby("star")["part"].nunique()
    print(
        f"{len(set(yours) & set(in_parts.index[in_parts > 1]))} of {(in_parts > 1).sum()} found, {len(set(yours))} named"
    )

# %% [markdown]
# <details><summary>Solution</summary>
#
# `yours = set(spectra.star[spectra.part == "train"]) & set(spectra.star[spectra.part == "test"])`. One line, and worth running on
# every data set that you are given. (It finds identical names only. The same star under two names, a duplicate in the sky, needs
# a search by coordinates.)
#
# </details>
#
# ## Questions
#
# 1. Set `overrides = {"data": {"apogee": {"snr_min": 20.0, "snr_max": 60.0}}}` and run again. Which blemish now
#    dominates the difference plot?
# 2. A network is trained on labels of all stars, but on spectra of training stars only. Is that a leak?
# 3. The catalogue error of [Fe/H] is 0.009 dex, its spread 0.32 dex. What r² would a perfect spectroscopist reach
#    against the catalogue?
#
# **Next:** [02 · Corruptions](02_corruptions.ipynb), which turns perfect spectra into believable ones.
