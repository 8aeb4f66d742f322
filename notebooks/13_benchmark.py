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
# # 13 · The benchmark: is this a good embedding, and where does it fail?
#
# **Purpose.** Put the embedding through the tests of related papers (AstroCLIP's benchmark, PAPERCLIP), with an interval on
# every number and a control that must fail.
#
# **After this notebook you can** say whether a difference between two models is real, find out where an embedding
# fails, and tell pairs from strangers with a control that could have shown you wrong.
#
# **Before this:** notebooks 06 and 08; what a bootstrap is.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, the pretrained encoders, `starclip.ckpt` | tables and figures | 49 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import TEFF, figures
from starclip_lib.suite import benchmark, pairs, report, strata

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"n_resamples": 200}}

# %%
run = starclip.open_run(params_file, overrides)
data, seed = run.data, run.params.seed
options = {"n_resamples": run.params.evaluation.n_resamples, "seed": seed}
states = benchmark.embeddings_in_states(run)

# %% [markdown]
# ## Probes before and after alignment
#
# Alignment brings two instruments together. Does it also describe the star better? Three probes read the labels off the
# embeddings of the same views of the same test stars: a **linear** one, the mean of the **nearest neighbours** (knn) and a small
# **network** (mlp). The encoders come in three states: *before*, as pretrained; *aligned*, after the contrastive training;
# *after*, where the run also **calibrates** the space by a linear map fitted to validation pairs.

# %%
probed = benchmark.probe_states(states, data, seed=seed)
pd.Series({key: p.r2.mean() for key, p in probed.items()}).unstack(sort=False).round(3)

# %% [markdown]
# These are means of r² over the twenty labels. Whether two of them differ takes an interval. A bootstrap draws *stars*, each
# with all its views: five views of a star are not five stars. And since a star that is hard for one model is hard for the other, we
# resample the *difference* on the same stars. Where its interval excludes zero, alignment changed something.

# %%
gains = benchmark.alignment_gains(probed, **options)
run.save_figure("alignment_gains", figures.label_intervals(gains, "r² after alignment minus before"))

# %%
Markdown("r² after minus before, mean over the labels:\n" + report.gains_told(gains))

# %% [markdown]
# **How to read this.** A linear probe hardly notices a linear map, so what it gains or loses comes from the contrastive training.
# Neighbours do notice it: in calibrated coordinates two stars are near if they are hard to tell apart, and weakly determined labels
# count as much as strong ones. A label for which only neighbours lose is still in the embedding; the meaning of distance has
# changed. Use a probe to read a label, and distance to find a star.
#
# ## Where does it fail?
#
# Here are the errors of the linear probe, view by view, in bins of what the telescope did, of what the star is, and of how many
# training stars lie close by in the embedding; each is divided by the error of all views.

# %%
stratified, overall = strata.of_probe(run, probed["NIRSpec after", "linear"], states["after"]["nirspec"], **options)
run.save_figure("strata", figures.strata_curves(stratified, overall))

# %%
Markdown(report.strata_told(stratified, overall["Teff"]))

# %% [markdown]
# A condition is a cause only if nothing else changes with it. A noisy view is pulled towards the mean, where most stars lie, so it
# has many neighbours *because* it is noisy; and hot giants are metal-poor ones.
#
# ## Pairs and strangers
#
# From PAPERCLIP: among the best k % of all candidate stars, how often is the right one? The control is the same search with the
# pairs **shuffled**: it must end at k %, chance. If it did better, our measure would reward something that is not there. (One
# shuffle is one draw: it may end somewhat off chance, which an interval over stars does not contain.)

# %%
searches = pairs.searches(states, seed)
curves = {name: pairs.top_percent_curve(*sides, **options) for name, sides in searches.items()}
run.save_figure("top_percent", figures.top_percent(curves))

# %%
Markdown(report.searches_told(curves, run.params.starclip.calibrate))

# %% [markdown]
# ## Two measures that ask for no star
#
# **Told by trees**: boosted trees see embeddings of both instruments and predict which one each is from; one half means that no
# trace of the instrument is left. **Mutual neighbours** (Huh et al. 2024): which share of a star's ten nearest stars is the same
# for both instruments?

# %%
measured = pairs.judged_states(states, **options)
pd.DataFrame({state: {name: str(found) for name, found in row.items()} for state, row in measured.items()}).T

# %%
Markdown(report.sides_told(measured, len(data.rows("test"))))

# %% [markdown]
# A calibrated space gives each instrument one coordinate of its own, zero for the other. The cosine between two instruments ignores
# it; trees do not, and a map shows each instrument as an island (notebook 07). In the twenty shared coordinates trees can still see by
# how far estimates are pulled towards the mean, which depends on the noise.

# %%
found = report.benchmark_metrics(probed, gains, stratified, curves, measured, **options)
run.save_metrics("evaluation.benchmark", found)

# %% tags=["nbval-check-output"]
print("searches:", "; ".join(searches))
print("views judged:", sum(len(side) for side in searches["NIRSpec → APOGEE, after"]))

# %% [markdown]
# ## Exercises
#
# **1. Code a paired interval.** Write a function `interval(difference, draws)`: `difference` has one value a star, shape (n,);
# each row of `draws`, shape (m, n), has the numbers of the stars in one resample. Return the 2.5 and the 97.5 per cent quantile of
# the m means. Put the function in place of None; then apply it to the data below. Did alignment change the error of Teff?

# %%
true = data.labels_of(probed["NIRSpec after", "linear"].mean.star_id)[:, TEFF]
error = {state: abs(probed[f"NIRSpec {state}", "linear"].mean.labels[:, TEFF] - true) for state in ("before", "after")}
difference = error["after"] - error["before"]
draws = np.random.default_rng(seed).integers(len(true), size=(1000, len(true)))
print(f"{len(true)} stars, mean difference {difference.mean():+.2f} K")

# %%
answer = None
starclip.check("13.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def interval(difference, draws):
#     return np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
#
# interval(difference, draws)
# ```
#
# If zero lies outside the two numbers, alignment changed the error of Teff for stars like these.
#
# </details>
#
# **2.** A difference of r² between two models has the 95 % interval [−0.002, 0.013]. Is the second model better? Answer "yes",
# "no" or "undecided".

# %%
answer = None
starclip.check("13.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# "undecided": zero lies inside. It does not say that they are equal either; more test stars would.
#
# </details>
#
# ## Questions
#
# 1. For which labels do the three probes disagree about alignment? What would you use to read a label, and what to find a star?
# 2. How would you separate the effect of crowding on the error from that of noise?
# 3. Our intervals are over stars only. What else varies when one trains a model again?
#
# **Next:** [13b · The contest](13b_contest.ipynb) asks which method holds where theory is wrong.
