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
# **After this notebook you can** write one Gauss-Newton step, turn its matrix into error bars, add a prior, compare two
# spectra by the Bayes factor of their posteriors, and name the assumption on which all of this rests.
#
# **Before this:** notebook 08; derivatives, least squares, covariance matrices.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `apogee.ckpt`, `nirspec.ckpt`, `embeddings.h5` | `fit.ckpt`, `fit.h5` | 60 seconds | 2026-11-30 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import FE, LABELS, LOGG, NIRSPEC, TEFF, figures
from starclip_lib.metrics import probing, retrieval, seen
from starclip_lib.inference.posterior import Posterior

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
# 50. We start far from the truth and linearise: flux(labels + change) ≈ flux(labels) + change · J. The change that minimises
# chi-squared solves the *normal equations*,
#
# $$ (J\, W J^T)\, \delta = J\, W\, (\text{observed} - \text{model}), $$
#
# where W holds the inverse variance of each pixel. This is the whole method, in four lines:

# %%
snr, two = 50.0, [TEFF, LOGG]
seen_range = NIRSPEC.wavelength > run.params.corruption.gaps.blue_edge
weight = np.where(seen_range, snr**2, 0.0)
observed = emulator(truth[None], NIRSPEC)[0] + np.random.default_rng(run.params.seed).normal(0, 1 / snr, NIRSPEC.n_pix)


def one_step(now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    j = emulator.gradient(now, NIRSPEC)[two].astype(float)
    matrix = (j * weight) @ j.T
    change = np.linalg.solve(matrix, (j * weight) @ (observed - emulator(now[None], NIRSPEC)[0]))
    return now + change @ np.eye(20)[two], np.linalg.inv(matrix)


# %%
start = truth.copy()
start[two] += [200, 0.5]
path = [start]
for _ in range(4):
    step, covariance = one_step(path[-1])
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
# ## Twenty labels, unknown continuum, a prior
#
# A real fit has twenty labels, and *nuisances*, which are of no interest but unknown: the continuum, the velocity, the width of the lines.
# They enter as further rows of the Jacobian and are *marginalised*: they widen the error bars of the labels. What is known about
# giants in general enters as a Gaussian **prior**, whose precision is added to the matrix. The result is a **posterior**: mean
# and covariance of the labels of each spectrum.
#
# The project's fit does this for all spectra. The networks of notebook 03 give its first guess, and two steps follow. From
# training stars it takes two things: how wrong the emulator is in each pixel, and by how much the catalogue's labels are off.

# %%
run.build("fit.ckpt")
run.build("fit.h5")
fit = run.embeddings("fit/nirspec").take("test")
networks = {name: run.embeddings(f"starclip/{name}") for name in ("nirspec", "apogee")}

# %%
stars, posterior = Posterior(fit.posterior).combine(fit.star_id)
fitted, covariance = run.model("fit").encoders["nirspec"].population.physical(posterior)
sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
catalogue = data.labels_of(stars)
known, views = networks["nirspec"].take("train", "val"), networks["nirspec"].take("test")
probe = probing.linear_probe(known, data.labels_of(known.star_id), views)
scores = {
    "fit": probing.score_labels(catalogue, fitted),
    "probe on the networks": probing.score_labels(data.labels_of(probe.star_id), probe.labels),
}
covered = (abs(fitted - catalogue) < 1.96 * sigma).mean()
run.save_metrics("fit", {**scores["fit"], "coverage95": float(covered)})
probing.score_table(scores)

# %%
sample = seen.seen_by(starclip.mock_telescope(run.params), data, test, emulator)
bound = sample.limit(NIRSPEC, np.cov(data.labels[data.rows("train")].astype(float).T))
ratio = np.array([scores["fit"]["rmse"][label] for label in LABELS]) / bound
run.save_figure(
    "fit_over_bound",
    figures.errors_over_limit(
        {name: np.array([s["rmse"][label] for label in LABELS]) / bound for name, s in scores.items()}
    ),
)

# %%
Markdown(
    f"From {run.params.corruption.n_views} views together the fit has Teff to {scores['fit']['rmse']['Teff']:.1f} K, log g to "
    f"{scores['fit']['rmse']['logg']:.3f} and [Fe/H] to {scores['fit']['rmse']['Fe']:.3f} dex (RMSE, {len(stars)} test stars). Its "
    f"errors are {ratio.min():.2f} to {ratio.max():.2f} times the bound that a Gaussian prior and Gaussian noise allow (the van "
    f"Trees bound), and its 95 % intervals hold {covered:.1%} of the labels. **The spectra were generated by the same emulator "
    "that fits them**, so this is what the spectra contain if the physics is right, and not what real spectra would give."
)

# %% [markdown]
# ## Two spectra, one star?
#
# Two posteriors also answer the question of notebook 06. The *Bayes factor* compares "both spectra come from one star" with
# "they come from two stars of the population". It needs nothing but the two posteriors and the prior, and unlike a cosine it
# knows how noisy each spectrum is.

# %%
sides = {
    "fit, Bayes factor": (fit, run.embeddings("fit/apogee").take("test")),
    "networks, cosine": tuple(e.take("test") for e in networks.values()),
}
found = {
    name: {
        "nirspec_to_apogee": retrieval.retrieval_scores(retrieval.ranks_between(a, b), len(b)),
        "apogee_to_nirspec": retrieval.retrieval_scores(retrieval.ranks_between(b, a), len(a)),
    }
    for name, (a, b) in sides.items()
}
retrieval.retrieval_table(found)

# %%
first = {name: rows["nirspec_to_apogee"]["success@1"] for name, rows in found.items()}
Markdown(
    "NIRSpec finds the right APOGEE star first in "
    + " and in ".join(f"{value:.1%} of the searches ({name})" for name, value in first.items())
    + ". The networks had to learn from pairs what the fit is told: how a spectrum changes with the labels."
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
        now, covariance = one_step(now)
    wrong[depth] = (now - truth)[two] / np.sqrt(np.diag(covariance))
Markdown(
    "Error of the fit in its own standard deviations (Teff, log g): "
    + "; ".join(f"lines {100 * (depth - 1):.0f} % too deep: {a:+.1f}, {b:+.1f}" for depth, (a, b) in wrong.items())
    + ". The error bars did not grow. A network that was trained on *observed* spectra with labels does not have this problem: it "
    "never believed a synthesis. It has another one: it needs the labels."
)

# %% tags=["nbval-check-output"]
print("NIRSpec views fitted:", len(fit), "- labels each:", fitted.shape[1])

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
# **3.** (To code.) Add [Fe/H] to `two` in the hand-written step above: `two = [TEFF, LOGG, FE]`, and start 0.2 dex off as well. By
# how much do the error bars of Teff and log g grow?

# %%
three = emulator.gradient(truth, NIRSPEC)[[TEFF, LOGG, FE]].astype(float)
your_covariance = None  # of the three labels, from `three` and `weight`

# %% [markdown]
# <details><summary>Solution</summary>
#
# `your_covariance = np.linalg.inv((three * weight) @ three.T)`; compare the roots of its diagonal with those of `covariance`.
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
