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
# # 08b · Physics instead of a network: fitting the labels
#
# **Purpose.** Measure labels without any learned encoder: take a model that computes spectra from labels, and find the labels
# whose spectrum fits best.
#
# **The figure to remember.** Gauss-Newton steps that walk down chi-squared, and the ellipse of the posterior where they end.
#
# **After this notebook you can** write one Gauss-Newton step, turn its matrix into error bars, add a prior, fit twenty labels,
# check that the error bars are right, and name the assumption on which all of this rests.
#
# **Before this:** notebook 08; derivatives, least squares, covariance matrices.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5`, `fit.h5` (notebook 06) | tables and figures | 17 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import FE, LOGG, NIRSPEC, TEFF, figures
from starclip_lib.metrics import probing, retrieval

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_stars": 20}}

# %%
run = starclip.open_run(params_file, overrides)
data, emulator = run.data, starclip.default_emulator()

# %% [markdown]
# ## The forward model
#
# A network goes from a spectrum to labels. Physics goes the other way: given twenty labels, a synthesis computes the spectrum.
# The *emulator* does this in a millisecond. It also gives the **Jacobian**: by how much each pixel changes when a label
# changes by one unit. Two of its twenty rows, for one test star:

# %%
test = data.rows("test")
labels = data.labels[test].astype(float)
giants = emulator.inside_domain(labels + np.eye(20)[TEFF] * 200) & emulator.inside_domain(
    labels + np.eye(20)[LOGG] * 0.5
)
truth = labels[giants][0]
jacobian = emulator.gradient(truth, NIRSPEC)
run.save_figure(
    "responses",
    figures.responses(
        NIRSPEC.wavelength,
        {"100 K in Teff": 100 * jacobian[TEFF], "0.3 dex in log g": 0.3 * jacobian[LOGG]},
        (11700, 12100),
    ),
)

# %% [markdown]
# The two rows differ from pixel to pixel, so both labels can be found at once. Where two rows have the same shape, only a
# combination of the two labels can be measured.
#
# ## One step by hand
#
# Suppose that only Teff and log g are unknown. The observation is the star's spectrum with noise, at a signal-to-noise ratio of
# 50. We start far from the truth and linearise: flux(labels + change) ≈ flux(labels) + change · J. The change δ that minimises
# chi-squared solves the *normal equations*,
#
# $$ (J\, W J^T + P)\, \delta = J\, W\, (\text{observed} - \text{model}) + P\, (\text{centre} - \text{labels}), $$
#
# where W holds the inverse variance of each pixel. P is for later: it will hold what is known about the labels beforehand, and is
# zero for now. The emulator is valid for giants only, so a step that leaves its range is halved. This is the whole method:


# %%
def one_step(now, observed, weight, free, precision, centre):
    j = emulator.gradient(now, NIRSPEC)[free].astype(float)
    matrix = (j * weight) @ j.T + precision
    missed = observed - emulator(now[None], NIRSPEC)[0]
    new = now.copy()
    new[free] += np.linalg.solve(matrix, (j * weight) @ missed + precision @ (centre - now)[free])
    while not emulator.inside_domain(new[None])[0]:
        new = (new + now) / 2
    return new, np.linalg.inv(matrix)


# %%
snr, two, nothing = 50.0, [TEFF, LOGG], np.zeros((2, 2))
seen_range = NIRSPEC.wavelength > run.params.corruption.gaps.blue_edge
weight = np.where(seen_range, snr**2, 0.0)
observed = emulator(truth[None], NIRSPEC)[0] + np.random.default_rng(run.params.seed).normal(0, 1 / snr, NIRSPEC.n_pix)

# %%
start = truth.copy()
start[two] += [200, 0.5]
path = [start]
for _ in range(4):
    step, covariance = one_step(path[-1], observed, weight, two, nothing, truth)
    path.append(step)
path = np.array(path)

# %% [markdown]
# Here is chi-squared around the solution, and where each step ended. The ellipse is the covariance of the errors, the inverse
# of the matrix J W Jᵀ: it holds 95 % of the probability.

# %%
grid = [np.linspace(truth[i] - width, truth[i] + width, 25) for i, width in zip(two, (250, 0.6))]
trials = np.repeat(truth[None], 625, axis=0)
trials[:, two] = np.stack(np.meshgrid(*grid, indexing="ij"), -1).reshape(-1, 2)
allowed = emulator.inside_domain(trials)
chi2 = np.full(len(trials), np.nan)
chi2[allowed] = ((emulator(trials[allowed], NIRSPEC) - observed) ** 2 * weight).sum(1)
run.save_figure(
    "descent",
    figures.descent(
        grid[0], grid[1], chi2.reshape(25, 25), path[:, two], covariance, truth[two], ("Teff [K]", "log g")
    ),
)

# %%
left = [abs(p - path[-1])[two] / np.sqrt(np.diag(covariance)) for p in path[:-1]]
Markdown(
    "Distance to the last point in its standard deviations, in Teff and in log g: "
    + "; ".join(
        f"start {a:.0f} and {b:.0f}" if n == 0 else f"after step {n}: {a:.2g} and {b:.2g}"
        for n, (a, b) in enumerate(left)
    )
    + f". The fitted star lies {abs(path[-1] - truth)[TEFF]:.1f} K and {abs(path[-1] - truth)[LOGG]:.3f} dex from the truth; "
    f"the error bars are {np.sqrt(covariance[0, 0]):.1f} K and {np.sqrt(covariance[1, 1]):.3f} dex."
)

# %% [markdown]
# ## A prior, and twenty labels
#
# A spectrum tells little about some labels. What is known about giants in general then helps: a Gaussian **prior**, here the mean
# and the covariance of the training stars. Its precision (the inverse of the covariance) is the P above: it is added to the matrix,
# and pulls the labels towards the mean. The result is a **posterior**, a mean and a covariance of the labels of one spectrum.
# For two labels:

# %%
population = data.labels[data.rows("train")].astype(float)
mean, precision = population.mean(axis=0), np.linalg.inv(np.cov(population.T))
own = np.linalg.inv(np.cov(population[:, two].T))
for title, weights in {"signal-to-noise 50": weight, "signal-to-noise 5": weight / 100}.items():
    j = emulator.gradient(truth, NIRSPEC)[two].astype(float)
    widths = [np.sqrt(np.diag(np.linalg.inv(m))) for m in ((j * weights) @ j.T, (j * weights) @ j.T + own, own)]
    print(title, "- without, with, and only the prior:", "; ".join(f"{a:.1f} K, {b:.3f} dex" for a, b in widths))

# %% [markdown]
# Now all twenty labels at once, for some test stars, with the same function. The spectra are the mock observations that the
# networks see, with their own noise and gaps, once of theory and once as observed in the world of the run; the latter are for the end of
# this notebook. The start is the mean of the population: no network is needed.

# %%
telescope, every = starclip.mock_telescope(run.params, 1), slice(None)
chosen = test[emulator.inside_domain(labels)][:40]
kinds = {"theory": data} | ({"observed": data.with_observed()} if data.observed is not None else {})
fits = {}
for kind, spectra in kinds.items():
    flux, noise = telescope.views_and_snr(spectra.nirspec, chosen)
    fitted, sigma = fits[kind] = np.empty((2, len(chosen), 20))
    for row in range(len(chosen)):
        good = np.where((flux[row, 0] != 1) & seen_range, noise[row, 0] ** 2, 0.0)  # a pixel without data reads 1
        now = mean
        for _ in range(6):
            now, spread = one_step(now, flux[row, 0], good, every, precision, mean)
        fitted[row], sigma[row] = now, np.sqrt(np.diag(spread))

# %%
fitted, sigma = fits["theory"]
error = fitted - data.labels[chosen]
rmse, expected = np.sqrt((error**2).mean(axis=0)), np.sqrt((sigma**2).mean(axis=0))
run.save_figure("fit_over_bound", figures.errors_over_limit({f"fit by hand, {len(chosen)} views": rmse / expected}))

# %%
inside = {level: (abs(error) < width * sigma).mean() for level, width in {"68 %": 1.0, "95 %": 1.96}.items()}
Markdown(
    f"From one view the fit has Teff to {rmse[TEFF]:.1f} K, log g to {rmse[LOGG]:.3f} and [Fe/H] to {rmse[FE]:.3f} dex (RMSE, "
    f"{len(chosen)} stars). For a linear model with a Gaussian prior the posterior's width is the smallest error that is possible (the "
    f"van Trees bound), and the errors are {np.min(rmse / expected):.2f} to {np.max(rmse / expected):.2f} times as large. Are the error "
    "bars honest? "
    + "; ".join(f"{share:.0%} of the labels lie in the {level} interval" for level, share in inside.items())
    + "."
)

# %% [markdown]
# **These spectra were generated by the same emulator that fits them**, so this is what the spectra contain if the physics is right,
# and not what real spectra would give (the end of this notebook has observed ones). A fit of real spectra has *nuisances* besides: the continuum, the velocity, the width of the
# lines. They are of no interest but unknown, enter as further rows of the Jacobian, and widen the error bars of the labels; one
# says that they are *marginalised*.
#
# The project's fit does this for all spectra (notebook 06 made `fit.h5`). From training stars it takes two things: how wrong the
# emulator is in each pixel, and by how much the catalogue's labels are off. Here it is beside the networks, both read by a linear
# probe, all views of a star together:

# %%
sides = {
    "fit": {name: run.embeddings(f"fit/{name}") for name in ("nirspec", "apogee")},
    "networks": {name: run.embeddings(f"starclip/{name}") for name in ("nirspec", "apogee")},
}
scores = {}
for name, side in sides.items():
    known, judged = side["nirspec"].take("train", "val"), side["nirspec"].take("test")
    probe = probing.linear_probe(known, data.labels_of(known.star_id), judged)
    scores[name] = probing.score_labels(data.labels_of(probe.star_id), probe.labels)
run.save_metrics("fit", {**scores["fit"], "coverage95": float(inside["95 %"])})
probing.score_table(scores)

# %% [markdown]
# ## Two spectra, one star?
#
# Two posteriors also answer the question of notebook 06. The *Bayes factor* compares "both spectra come from one star" with
# "they come from two stars of the population". It needs nothing but the two posteriors and the prior, and unlike a cosine it
# knows how noisy each spectrum is.

# %%
titles = {"fit": "fit, Bayes factor", "networks": "networks, cosine"}
found = {}
for name, side in sides.items():
    a, b = (side[kind].take("test") for kind in ("nirspec", "apogee"))
    found[titles[name]] = {
        "nirspec_to_apogee": retrieval.retrieval_scores(retrieval.ranks_between(a, b), len(b)),
        "apogee_to_nirspec": retrieval.retrieval_scores(retrieval.ranks_between(b, a), len(a)),
    }
retrieval.retrieval_table(found)

# %%
first = {name: rows["nirspec_to_apogee"]["success@1"] for name, rows in found.items()}
Markdown(
    "NIRSpec finds the right APOGEE star first in "
    + " and in ".join(f"{value:.1%} of the searches ({name})" for name, value in first.items())
    + ". The networks had to learn from pairs what the fit is told: how a spectrum changes with the labels. What the theory has wrong on "
    "the APOGEE side is taken up by the errors that the fit learned from training stars."
)

# %% [markdown]
# ## When it fails
#
# The fit believes its forward model. Let the true lines be deeper than the synthesis by some per cent, as happens when line strengths
# are wrong or the microturbulence is another one. Nothing else changes, and the signal-to-noise ratio is still 50.

# %%
wrong = {}
for depth in (1.0, 1.02, 1.05, 1.10):
    clean = 1 - depth * (1 - emulator(truth[None], NIRSPEC)[0])
    observed = clean + np.random.default_rng(run.params.seed).normal(0, 1 / snr, NIRSPEC.n_pix)
    now = truth
    for _ in range(4):
        now, covariance = one_step(now, observed, weight, two, nothing, truth)
    wrong[depth] = (now - truth)[two] / np.sqrt(np.diag(covariance))
Markdown(
    "Error of the fit in its own standard deviations (Teff, log g): "
    + "; ".join(f"lines {100 * (depth - 1):.0f} % too deep: {a:+.1f}, {b:+.1f}" for depth, (a, b) in wrong.items())
    + f". The error bars are still {np.sqrt(covariance[0, 0]):.1f} K and {np.sqrt(covariance[1, 1]):.3f} dex: chi-squared knows noise, and "
    "not wrong physics. A network that was trained on *observed* spectra with labels does not have this problem: it never believed "
    "a synthesis. It has another one: it needs the labels."
)

# %% [markdown]
# A realistic world has all of this at once, and observed NIRSpec spectra of the test stars whose true labels are known (notebook 01). The
# same stars and the same fit by hand, on what is observed there:

# %%
if data.observed is not None:
    observed_fit, observed_sigma = fits["observed"]
    missed = observed_fit - data.labels_of_observed()[np.searchsorted(test, chosen)]
    rms, bias = np.sqrt((missed**2).mean(axis=0)), missed.mean(axis=0)
    covered = (abs(missed) < 1.96 * observed_sigma).mean()
    sentence = (
        f"Teff is off by {rms[TEFF]:.0f} K ({bias[TEFF]:+.0f} on average), log g by {rms[LOGG]:.2f} ({bias[LOGG]:+.2f}), [Fe/H] by "
        f"{rms[FE]:.3f} dex ({bias[FE]:+.3f}); theory above: {rmse[TEFF]:.0f} K, {rmse[LOGG]:.2f}, {rmse[FE]:.3f} dex. The 95 % intervals "
        f"hold {covered:.0%} of the labels. What is wrong is common to all stars, so it can be learned from them: notebook "
        "[13b](13b_contest.ipynb) compares methods that do, and `starclip observe` takes the doubts of the physics for nuisances."
    )
else:
    sentence = "This data set has no observed NIRSpec spectra: set `data.world` to `realistic`."
Markdown(sentence)

# %% tags=["nbval-check-output"]
print("fitted by hand:", len(chosen), "views, with", fitted.shape[1], "labels each")

# %% [markdown]
# ## Exercises
#
# **1.** The rows of the Jacobian of two labels have a (noise-weighted) correlation of 0.9. By which factor does the error of one
# label grow when the other one is unknown, too?

# %%
answer = None
starclip.check("08b.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1 / √(1 − 0.9²) = 2.29: the diagonal of the inverse of [[1, 0.9], [0.9, 1]].
#
# </details>
#
# **2.** A spectrum measures a label as well as the prior knows it. By which factor is the posterior narrower than the prior?

# %%
answer = None
starclip.check("08b.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# Precisions add: 1 + 1 = 2, so the error is 1/√2 = 0.71 of the prior's. A label with a ratio near 1 comes from the prior.
#
# </details>
#
# **3. (To code.)** One more unknown. Fit the star of the hand-written step for Teff, log g *and* [Fe/H], without a prior: start at
# `start`, 0.2 dex off in [Fe/H], and take four steps. Put the covariance of the last step, a 3 x 3 matrix, into `yours`. By how much do
# the error bars of Teff and log g grow?

# %%
yours = None  # a covariance, shape (3, 3)
if yours is not None:
    grown = np.sqrt(np.diag(yours))[:2] / np.sqrt(np.diag(covariance))
    print(f"the error bar of Teff is {grown[0]:.2f} times as large, that of log g {grown[1]:.2f} times")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `now = start.copy(); now[FE] += 0.2`, then four times
# `now, yours = one_step(now, observed, weight, [TEFF, LOGG, FE], np.zeros((3, 3)), truth)` (`observed` is the last spectrum of "When
# it fails"; make it again for the true line depths). What the third label can imitate, the first two can no longer claim.
#
# </details>
#
# ## Questions
#
# 1. Why does the first step go almost, but not exactly, to the minimum?
# 2. Which of the two, fit or network, would you trust for a carbon star?
# 3. What would you have to add to the fit so that its error bars include the uncertainty of line strengths?
#
# **Next:** [09 · Similarity browser](09_similarity_browser.ipynb) lets you look at stars one by one.
