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
# # 11 · Limits and baselines: as good as physics allows?
#
# **Purpose.** Say how much a spectrum can tell, and put our numbers between that limit and what simple methods reach.
#
# **After this notebook you can** compute a Cramér-Rao bound with nuisances marginalised, see which wavelengths carry an
# element and what a detector gap costs, and tell whether a network is worth its GPU.
#
# **Before this:** notebooks 06 and 08; matrices.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5`, `supervised.ckpt` | tables and figures | 2 minutes, 3.2 GB of memory | 2026-11-21 |

# %%
# %matplotlib inline
from itertools import pairwise

import numpy as np
import pandas as pd

from starclip_lib import figures
from starclip_lib.data.emulator import default_emulator
from starclip_lib.data.instruments import APOGEE, NIRSPEC
from starclip_lib.data.labels import FE, LABELS, PLAIN, UNITS
from starclip_lib.data.selection import mock_stars
from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.metrics import baselines, limits
from starclip_lib.metrics.baselines import Inputs, Views
from starclip_lib.metrics.probing import average_views, fit_probe, labels_of, score_labels
from starclip_lib.metrics.retrieval import ranks_between, retrieval_scores, retrieval_table
from starclip_lib.models.embeddings import predict_labels, read_embeddings
from starclip_lib.run import Run
from starclip_lib.teaching import exercises
from starclip_lib.transforms.corruptions import extended_corruption, mock
from starclip_lib.transforms.views import observed_views, views_and_snr

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_stars": 20}}

# %%
run = Run.open(params_file, overrides)
data, path, emulator = run.data(), run.need("embeddings.h5"), default_emulator()
seed, n_views, corruption = run.params.seed, run.params.corruption.n_views, mock(run.params.corruption)
test = data.rows("test")
inside = test[emulator.inside_domain(data.labels[test].astype(float))]
sample = inside[: run.params.limits.n_stars]

# %% [markdown]
# ## How much a spectrum tells
#
# Change a label a little, and the spectrum changes in some pixels. If these changes stand out of the noise, the label can be
# measured; how well is what the *Fisher information* adds up over all pixels. Continuum and radial velocity change the
# spectrum too, and nobody knows them beforehand, so what they could explain is taken off: they are *marginalised*. The inverse
# of what is left is the **Cramér-Rao bound**, the covariance that no unbiased method can beat.

# %%
snr = np.array([30.0, 60, 100, 200, 300])
stars = data.labels[sample].astype(float)
at_100 = {
    i.title: np.median([limits.cramer_rao(emulator, s, i, 100.0) for s in stars], axis=0) for i in (NIRSPEC, APOGEE)
}
bound = {title: 100 / snr[:, None] * values for title, values in at_100.items()}  # the bound goes as one over the SNR
shown = ("Teff", "logg", "Fe", "Mg", "V")
figure = figures.bounds_against(snr, bound, shown, "SNR per pixel")
run.save_figure("bounds_snr", figure)
figure

# %% [markdown]
# Metal-poor stars have weaker lines, which tell less:

# %%
order = sample[np.argsort(data.labels[sample, FE])]
groups = [g for g in np.array_split(order, 5) if len(g)]
metallicity = [float(data.labels[g, FE].mean()) for g in groups]
by_group = {
    i.title: np.array(
        [
            np.median([limits.cramer_rao(emulator, s, i, 100.0) for s in data.labels[g].astype(float)], axis=0)
            for g in groups
        ]
    )
    for i in (NIRSPEC, APOGEE)
}
figure = figures.bounds_against(metallicity, by_group, shown, "[Fe/H]", log=False)
run.save_figure("bounds_feh", figure)
figure

# %% [markdown]
# ## Which wavelengths, and what a gap costs
#
# Where does each label show? Below, for one star, the strength of the response along the spectrum, each label relative to its
# strongest stretch. Molecules (CN, CO, OH) fill whole bands; metals have single lines.

# %%
figure = figures.information_map(limits.information_density(emulator, stars[0], NIRSPEC, 100.0), NIRSPEC)
run.save_figure("information", figure)
figure

# %% [markdown]
# A detector gap takes a stretch of 374 Å away. What that costs depends on where it falls, element by element.

# %%
starts = np.arange(10000.0, 17000.0, 350.0)
cost = limits.gap_cost(emulator, stars[:3], NIRSPEC, starts, run.params.corruption.gaps.width)
figure = figures.gap_costs(cost, starts)
run.save_figure("gap_cost", figure)
figure

# %%
worst = [(100 * (cost[:, i].max() - 1), PLAIN[i], starts[cost[:, i].argmax()]) for i in range(20)]
for percent, name, start in sorted(worst, reverse=True)[:5]:
    print(f"{name:8} loses most, {percent:3.0f} %, if the gap begins at {start:,.0f} Å")

# %% [markdown]
# ## The limit for *these* spectra
#
# Each test star has five views, each with its own noise and its own gaps. The information of independent views adds up, so the
# limit of a star is that of the sum. One thing more: whoever knows the *population* (every trained network does) can guess an
# unmeasurable label better than an unbiased method. The limit with the population's spread as prior allows for that, and no
# method should beat it by more than chance.

# %%
seen, noise = views_and_snr(data.nirspec.flux, sample, corruption, n_views, seed, NIRSPEC.no_data)
info = limits.view_information(emulator, stars, seen, noise, NIRSPEC)
known = data.labels[data.rows("train")].astype(float)
prior = np.cov(known.T)
limit = limits.rms_bound(info.sum(axis=1), NIRSPEC, prior)

# %% [markdown]
# ## Honest baselines
#
# The same split, the same views, simple methods: ridge regression on all pixels, ridge on principal components, the mean of
# the nearest spectra. And the paper's CNN, and our linear probe. All predict each view; the mean over a star's views counts.

# %%
parts = {name: data.rows(name)[: 4000 if name == "train" else 500] for name in ("train", "val")}
views = {name: observed_views(data.nirspec.flux, r, corruption, min(2, n_views), seed) for name, r in parts.items()}
flat = {name: v.reshape(-1, v.shape[2]) for name, v in views.items()}

# %%
inputs = Inputs(flat["train"], NIRSPEC)
taught = {
    name: Views(inputs(flat[name]), np.repeat(data.labels[r], min(2, n_views), axis=0)) for name, r in parts.items()
}
judged = inputs.of_views(data.nirspec.flux, test, corruption, n_views, seed)

# %%
embeddings = read_embeddings(path, "starclip/nirspec")
probe = fit_probe(embeddings.take("train", "val"), data.star_id, data.labels)
options = {"corruption": corruption, "n_views": n_views, "seed": seed}
cnn = predict_labels(run.model("supervised.ckpt"), data.nirspec, test, **options).reshape(-1, 20)

# %%
predicted = {
    "ridge": baselines.ridge(taught["train"], taught["val"], judged),
    "PCA + ridge": baselines.pca_ridge(taught["train"], judged, seed=run.params.seed),
    "nearest spectra": baselines.raw_neighbours(taught["train"], judged),
    "CNN": cnn,
    "StarCLIP probe": probe.predict(embeddings.take("test").z.astype(float)),
}

# %%
star_id = np.repeat(data.star_id[test], n_views)
means = {name: average_views(labels, star_id) for name, labels in predicted.items()}
scores = {n: score_labels(labels_of(m.star_id, data.star_id, data.labels), m.labels) for n, m in means.items()}
table = pd.DataFrame({name: s["rmse"] for name, s in scores.items()} | {"limit": dict(zip(LABELS, limit, strict=True))})
table.index = [f"{name} [{unit}]" for name, unit in zip(PLAIN, UNITS, strict=True)]
table.round(3)

# %%
ratios = {name: np.array([s["rmse"][label] for label in LABELS]) / limit for name, s in scores.items()}
figure = figures.errors_over_limit(ratios)
run.save_figure("over_limit", figure)
figure

# %% [markdown]
# What would a user of The Payne do? Fit the emulator to each spectrum by least squares. It reaches the bound by construction,
# at a second per spectrum; a network takes a thousandth of that. A few single views, since it takes its time:

# %%
few = min(12, len(sample))
fitted = baselines.least_squares_labels(seen[:few, 0], noise[:few, 0], NIRSPEC)
single = limits.rms_bound(info[:few, 0], NIRSPEC)
error = np.sqrt(((fitted - stars[:few]) ** 2).mean(axis=0))
print(f"least squares, RMSE over the bound without prior, median of the labels: {np.median(error / single):.2f}")

# %% [markdown]
# ## One view at a time
#
# Errors grow with the noise, but so does the limit. The ratio of the two says whether a method uses what is there. Bins of
# the views' SNR, gaps included:

# %%
place = np.searchsorted(test, sample)
own = (predicted["StarCLIP probe"].reshape(-1, n_views, 20)[place] - stars[:, None]).reshape(-1, 20)
every, one = info.reshape(-1, 20, 20), noise.ravel()
edges = np.quantile(one, np.linspace(0, 1, 5))
bins = [np.flatnonzero((one >= low) & (one <= high)) for low, high in pairwise(edges)]

# %%
by_snr = np.array([np.sqrt((own[b] ** 2).mean(axis=0)) / limits.rms_bound(every[b], NIRSPEC, prior) for b in bins])
figure = figures.ratio_by_snr([one[b].mean() for b in bins], by_snr)
run.save_figure("limit_by_snr", figure)
figure

# %% [markdown]
# ## The ideal matcher
#
# And retrieval? Give each spectrum the best estimate of its labels that is possible, with the right uncertainty, and compare
# two spectra by how much more likely they are one star than two. Nothing can do better, and even that is not perfect, because
# the catalogue's labels, at which our NIRSpec spectra are computed, are not quite those of the star that APOGEE saw. Beside it
# the best *linear* alignment: canonical correlations between the two instruments.

# %%
truth, of = data.labels[inside].astype(float), data.star_id[inside]
every_of = np.repeat(of, n_views)
look = views_and_snr(data.nirspec.flux, inside, corruption, n_views, seed, NIRSPEC.no_data)
nirspec_info = limits.view_information(emulator, truth, *look, NIRSPEC).reshape(-1, 20, 20)
measured = PairedSpectra.read(run.need("data.h5"), with_ivar=True).apogee
apogee_snr = limits.snr_from_ivar(measured, inside, run.params.limits.apogee_snr)
apogee_info = limits.view_information(emulator, truth, measured.flux[inside][:, None], apogee_snr[:, None], APOGEE)[
    :, 0
]

# %%
sides = (np.repeat(truth, n_views, axis=0), nirspec_info), (truth, apogee_info)
rng, population = np.random.default_rng([seed, 12]), (known.mean(axis=0), prior)
matcher = limits.IdealMatcher(*sides, limits.catalogue_covariance(), population, rng)

# %% [markdown]
# Every candidate counts, but only some stars are asked for, since this matcher compares pair by pair.

# %%
n_matched = run.params.limits.n_matched
found = limits.ideal_scores(matcher, every_of, of, n_matched)
ideal = dict(zip(("nirspec_to_apogee", "apogee_to_nirspec"), found, strict=True))

# %% [markdown]
# And MockStarCLIP? Its extended mock spectra are worse: other stars' Paschen lines, dead pixels, a bad continuum, and again
# noise and gaps. The continuum is marginalised anyway, and what lies in the substituted lines tells nothing about the star.
# Mock and extended mock of one star are computed at the very same labels, so no catalogue error stands between them.

# %%
few_stars = mock_stars(data, run.params)["test"]
few_stars = few_stars[emulator.inside_domain(data.labels[few_stars].astype(float))]
worse = extended_corruption(data, run.params)
spoilt, spoilt_snr = views_and_snr(data.nirspec.flux, few_stars, worse, n_views, seed, NIRSPEC.no_data)
spoilt[:, :, worse.steps[0].pixels] = NIRSPEC.no_data  # the Paschen lines of another star
few_labels, few_of = data.labels[few_stars].astype(float), data.star_id[few_stars]
extended_info = limits.view_information(emulator, few_labels, spoilt, spoilt_snr, NIRSPEC)
limit_extended = limits.rms_bound(extended_info[: run.params.limits.n_stars].sum(axis=1), NIRSPEC, prior)

# %%
place = np.searchsorted(inside, few_stars)
first = nirspec_info.reshape(-1, n_views, 20, 20)[place, 0], extended_info[:, 0]
sides = ((few_labels, info) for info in first)
matcher = limits.IdealMatcher(*sides, np.zeros((20, 20)), population, rng)
found = limits.ideal_scores(matcher, few_of, few_of, n_matched)
ideal |= zip(("mock_to_extended", "extended_to_mock"), found, strict=True)

# %%
aligned = {name: read_embeddings(path, f"starclip/{name}").take("test") for name in ("nirspec", "apogee")}
linear = baselines.align_linearly(data, corruption, n_views, seed)
rivals = {
    model: {
        f"{a}_to_{b}": retrieval_scores(ranks_between(e[a], e[b]), len(e[b]))
        for a, b in (("nirspec", "apogee"), ("apogee", "nirspec"))
    }
    for model, e in (("linear alignment (CCA)", linear), ("StarCLIP", aligned))
}
few_models = {
    name: read_embeddings(path, f"mockstarclip/{name}").take("test").of_view(0) for name in ("mock", "extended")
}
rivals["MockStarCLIP"] = {
    f"{a}_to_{b}": retrieval_scores(ranks_between(few_models[a], few_models[b]), len(few_models[b]))
    for a, b in (("mock", "extended"), ("extended", "mock"))
}
retrieval_table({**rivals, "ideal matcher": ideal})

# %%
run.save_metrics(
    "baselines",
    {
        "probing": scores,
        "limit": dict(zip(LABELS, map(float, limit), strict=True)),
        "limit_extended": dict(zip(LABELS, map(float, limit_extended), strict=True)),
        "over_limit": {name: dict(zip(LABELS, map(float, values), strict=True)) for name, values in ratios.items()},
        "least_squares": {"n": few, "rmse_over_bound": float(np.median(error / single))},
        "by_snr": {"snr": [float(one[b].mean()) for b in bins], "over_limit": by_snr.tolist()},
        "retrieval": {"cca": rivals["linear alignment (CCA)"], "ideal": ideal},
    },
)

# %% tags=["nbval-check-output"]
print("methods compared:", ", ".join(predicted))
print("the ideal matcher is better than chance and than 1 in 2:", ideal["apogee_to_nirspec"]["success@1"] > 0.5)

# %% [markdown]
# ## Exercises
#
# **1.** A label has a bound of 0.12 dex in one view. What is it for the mean of four independent views with the same noise?

# %%
answer = None
starclip.check("11.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.06 dex: information adds up, and the bound is one over its root.
#
# </details>
#
# **2.** A network reports an RMSE *below* the Cramér-Rao bound for [Ce/H], an element without strong lines here. Is the bound
# wrong? Answer True or False.

# %%
answer = None
starclip.check("11.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# False. The bound holds for unbiased methods; the network leans towards what is common, guided by the other elements.
#
# </details>
#
# ## Questions
#
# 1. Which elements would you not publish from NIRSpec, whatever the network says?
# 2. Where would you put the gap, if you could choose, to study carbon? And to study iron?
# 3. The ideal matcher misses some stars. What would have to be better: NIRSpec, APOGEE, or the catalogue?
#
# **Next:** [13 · Benchmark](13_benchmark.ipynb) judges the embedding with the tests of related papers (`starclip evaluate`).
