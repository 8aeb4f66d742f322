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
# # 12 · Baselines and the ideal matcher: how far from simple, how far from possible?
#
# **Purpose.** Put our numbers between what simple methods reach on the same spectra and what no method can beat.
#
# **After this notebook you can** tell whether a network is worth its GPU, say what a population prior does to a limit, and
# state how often the right star *could* be found first.
#
# **Before this:** notebooks 06, 08 and 11.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5`, `starclip.ckpt`, `supervised.ckpt` | tables and figures | 2 minutes, 3.2 GB of memory | 2026-11-27 |

# %%
# %matplotlib inline
from dataclasses import replace

import numpy as np
import pandas as pd

import starclip_lib as starclip
from starclip_lib import LABELS, NIRSPEC, PLAIN, UNITS, figures
from starclip_lib.metrics import baselines, ideal, linear_alignment, probing, retrieval, seen

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_matched": 50}}

# %%
run = starclip.open_run(params_file, overrides)
data, emulator, settings = run.data, starclip.default_emulator(), run.params.limits
telescope, worse = starclip.mock_telescope(run.params), starclip.extended_telescope(data, run.params)
test = data.rows("test")
inside = test[emulator.inside_domain(data.labels[test].astype(float))]

# %% [markdown]
# ## The limit for *these* spectra
#
# Each test star has five views, each with its own noise and its own gaps. The information of independent views adds up, so the
# limit of a star is that of the sum. One thing more: whoever knows the *population* (every trained network does) can guess an
# unmeasurable label better than an unbiased method. The limit with the population's spread as prior allows for that, and no
# method should beat it by more than chance.

# %%
mock = seen.seen_by(telescope, data, inside, emulator)
sample, prior = mock.first(settings.n_stars), np.cov(data.labels[data.rows("train")].astype(float).T)
limit = sample.limit(NIRSPEC, prior)

# %% [markdown]
# ## Honest baselines
#
# The same split, the same views, simple methods: ridge regression on all pixels, ridge on principal components, the mean of
# the nearest spectra. And the paper's CNN, and our linear probe. All predict each view; the mean over a star's views counts,
# weighted by their information where a method knows it.

# %%
predicted = baselines.simple_methods(data, telescope, run.params.seed)
cnn = starclip.predict_labels(run.model("supervised"), data.nirspec, test, telescope)
predicted["CNN"] = cnn.reshape(-1, 20)
seen_before, known = run.space.known, data.labels_of(run.space.known.star_id)
judged = run.space.nirspec.take("test")
predicted["StarCLIP probe"] = probing.read_views(seen_before, known, judged)

# %%
star_id = np.repeat(data.star_id[test], telescope.n_views)
means = {name: probing.average_views(labels, star_id) for name, labels in predicted.items()}
means["StarCLIP probe"] = probing.linear_probe(seen_before, known, judged)  # views combined by their information
scores = {name: probing.score_labels(data.labels_of(m.star_id), m.labels) for name, m in means.items()}
table = pd.DataFrame({name: s["rmse"] for name, s in scores.items()} | {"limit": dict(zip(LABELS, limit))})
table.index = [f"{name} [{unit}]" for name, unit in zip(PLAIN, UNITS)]
table.round(3)

# %%
ratios = {name: np.array([s["rmse"][label] for label in LABELS]) / limit for name, s in scores.items()}
figure = figures.errors_over_limit(ratios)
run.save_figure("over_limit", figure)
figure

# %% [markdown]
# What would a user of The Payne do? Fit the emulator to each spectrum by least squares. It reaches the bound by construction,
# at a second per spectrum; a network takes a thousandth of that, and the steps that refine its guess (notebook 04) are such
# fits, many spectra at a time, with the population as prior. A few single views, since it takes its time:

# %%
few = mock.first(min(12, settings.n_stars), n_views=1)
observed = telescope.views(data.nirspec, few.rows)[:, 0]
fitted = baselines.least_squares_labels(observed, few.snr[:, 0], NIRSPEC)
error = np.sqrt(((fitted - few.labels) ** 2).mean(axis=0))
over_bound = float(np.median(error / few.limit(NIRSPEC)))
print(f"least squares, RMSE over the bound without prior, median of the labels: {over_bound:.2f}")

# %% [markdown]
# ## One view at a time
#
# Errors grow with the noise, but so does the limit. The ratio of the two says whether a method uses what is there. Bins of
# the views' SNR, gaps included:

# %%
place = np.searchsorted(test, sample.rows)
own = predicted["StarCLIP probe"].reshape(-1, telescope.n_views, 20)[place] - sample.labels[:, None]
snr, by_snr = sample.by_snr(own, NIRSPEC, prior)
figure = figures.ratio_by_snr(snr, by_snr)
run.save_figure("limit_by_snr", figure)
figure

# %% [markdown]
# ## The ideal matcher
#
# And retrieval? Give each spectrum the best estimate of its labels that is possible, with the right uncertainty, and compare
# two spectra by how much more likely they are one star than two. Nothing can do better, and even that is not perfect, because
# the catalogue's labels, at which our NIRSpec spectra are computed, are not quite those of the star that APOGEE saw. Every
# candidate counts, but only some stars are asked for, since this matcher compares pair by pair.
#
# And MockStarCLIP? Its extended mock spectra are worse: other stars' Paschen lines, dead pixels, a bad continuum, and again
# noise and gaps. The continuum is marginalised anyway, and what lies in the substituted lines tells nothing about the star.
# Mock and extended mock of one star are computed at the very same labels, so no catalogue error stands between them.

# %%
memory = run.params.memory * 1e9
measured = starclip.PairedSpectra.read(run.need("data.h5"), with_ivar=True, memory=memory).apogee  # with its noise
apogee = seen.seen_by_apogee(replace(data, apogee=measured), inside, settings.apogee_snr, emulator)
chosen = starclip.mock_stars(data, run.params)["test"]
extended = seen.seen_by(worse, data, chosen[np.isin(chosen, inside)], emulator)
limit_extended = extended.first(settings.n_stars).limit(NIRSPEC, prior)

# %%
best = ideal.ideal_retrieval(data, mock, extended, apogee, settings.n_matched, run.params.seed)

# %% [markdown]
# Beside it our models, and the best *linear* alignment: canonical correlations between the two instruments.

# %%
ours = {name: run.embeddings(f"starclip/{name}").take("test") for name in ("nirspec", "apogee")}
bad = {name: run.embeddings(f"mockstarclip/{name}").take("test").of_view(0) for name in ("mock", "extended")}
linear = retrieval.scores_both_ways("nirspec", "apogee", linear_alignment.align_linearly(data, telescope))

# %%
rivals = {
    "linear alignment (CCA)": linear,
    "StarCLIP": retrieval.scores_both_ways("nirspec", "apogee", ours),
    "MockStarCLIP": retrieval.scores_both_ways("mock", "extended", bad),
    "ideal matcher": best,
}
retrieval.retrieval_table(rivals)

# %%
run.save_metrics(
    "baselines",
    baselines.as_metrics(
        scores,
        {"limit": limit, "limit_extended": limit_extended},
        {"n": len(few.rows), "rmse_over_bound": over_bound},
        (snr, by_snr),
        {"cca": linear, "ideal": best},
    ),
)

# %% tags=["nbval-check-output"]
print("methods compared:", ", ".join(predicted))
print("the ideal matcher is better than chance and than 1 in 2:", best["apogee_to_nirspec"]["success@1"] > 0.5)

# %% [markdown]
# ## Exercises
#
# **1.** The spread of a label among the stars is 0.3 dex, and a spectrum says nothing about it. Which limit does a method have
# that knows the population?

# %%
answer = None
starclip.check("12.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.3 dex: it answers with the mean of the population, and is wrong by the spread. (Less, if other labels hang together with
# this one; the prior knows that too.)
#
# </details>
#
# **2.** A network reports an RMSE *below* the Cramér-Rao bound for [Ce/H], an element without strong lines here. Is the bound
# wrong? Answer True or False.

# %%
answer = None
starclip.check("12.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# False. The bound holds for unbiased methods; the network leans towards what is common, guided by the other elements.
#
# </details>
#
# ## Questions
#
# 1. For which labels does ridge regression come close to the network? What do these labels have in common?
# 2. Least squares reaches the bound. Why train a network at all? (`docs/recipe.md` has measured it.)
# 3. The ideal matcher misses some stars. What would have to be better: NIRSpec, APOGEE, or the catalogue?
#
# **Next:** [13 · Benchmark](13_benchmark.ipynb) judges the embedding with the tests of related papers (`starclip evaluate`).
