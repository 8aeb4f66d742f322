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
# # 16 · Transfer, ablation, scaling: what made it work, and what more would bring
#
# **Purpose.** Take the training apart: what alignment owes to pretraining, how a network moves to another instrument with a
# few labelled stars, and what more stars or a larger network would buy.
#
# **After this notebook you can** run a control that must fail, choose a way to fine-tune for the number of labels you have,
# and read a scaling law without believing more than it says.
#
# **Before this:** notebooks 03, 04 and 13.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, the pretrained encoders | tables and figures | 7 minutes (beside 14) | 2026-12-01 |

# %%
# %matplotlib inline
import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import torch
from IPython.display import Markdown

from starclip_lib import figures
from starclip_lib.suite import ablation, domains, pairs, report, scaling, transfer

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"ablation_epochs": 30}}

# %%
run = starclip.open_run(params_file, overrides)
data, params, settings, seed = run.data, run.params, run.params.evaluation, run.params.seed
train, val, test = (data.rows(split, 12_000) for split in ("train", "val", "test"))  # of a survey not all

# %% [markdown]
# ## What alignment owes to pretraining
#
# Four trainings on pairs by the contrastive loss alone: **full** moves all weights of both pretrained encoders; **head** freezes
# them and trains a small network behind each; **scratch** starts from random weights; **shuffled** is *scratch* on pairs of
# *different* stars. The last one is the control: the same spectra, network and loss, and only the pairing is gone. Expect it
# near chance and not exactly there: encoders that were never aligned are rotated against each other at random, and giants differ
# mostly along one direction.

# %%
encoders = tuple(run.model(name).encoders[name] for name in ("nirspec", "apogee"))
sources = ablation.pairs_of(data, params)
recipe = params.starclip.changed(train=params.starclip.train.changed(epochs=settings.ablation_epochs))
histories, curves = {}, {}
for variant in ablation.VARIANTS:
    model, histories[variant] = ablation.train_variant(variant, encoders, *sources, recipe, seed=seed)
    sides = ablation.embed_pairs(model, data, params)
    curves[variant] = pairs.top_percent_curve(*sides, n_resamples=settings.n_resamples, seed=seed)
run.save_figure("ablation", figures.ablation_curves(histories, curves))

# %%
Markdown(report.ablation_told(curves, settings.ablation_epochs))

# %% [markdown]
# ## Moving to another instrument
#
# A network meets spectra of another kind: worse data, other gaps, lower resolution. With a few labelled stars of the new kind it can
# stay as it is (**zero-shot**), get a small network that corrects its twenty labels (**adapter**), get a correction of rank four in
# every layer (**LoRA**), or move all weights (**full**). More freedom can learn more, and learn more wrongly from few stars. Each
# strategy gets three learning rates; the best is chosen on labelled stars that are held out, which in practice have to be paid for.

# %%
kinds = domains.standard_domains(data, params)
labels = run.model("nirspec").scaler.transform(data.labels)
network = starclip.EncoderParams(width=settings.transfer_width)
lesson = starclip.TrainParams(epochs=settings.transfer_epochs)
options = {"repeats": settings.transfer_repeats, "steps": settings.transfer_steps, "n_resamples": settings.n_resamples}
results, rates = {}, {}
for name, (old, new) in kinds.items():
    start = domains.train_on(old, data.nirspec, (train, val), labels, network, lesson, seed=seed)
    few, new_test = ((new.observe(data.nirspec, rows, seed), labels[rows]) for rows in (val, test))
    results[name], rates[name] = transfer.transfer_curve(
        start, few, new_test, sizes=settings.transfer_stars, seed=seed, **options
    )
run.save_figure("transfer", figures.transfer_curves(results))

# %%
Markdown(report.transfer_told(results, rates))

# %% [markdown]
# Points are means over several draws of the labelled stars, and the 95 % intervals hold both the draw and the choice of test stars.
# Strategies whose intervals overlap are not ranked.
#
# ## What more would bring
#
# The same network learns from more and more stars. Errors often fall as a power of their number towards a floor,
# $\epsilon = \epsilon_0 + a\, n^{-b}$. Two traps. A network that was stopped early shows the law of the *optimiser steps*, so each
# training is repeated with twice the steps until that lowers the validation error by less than 2 % (to afford this, networks read
# principal components of the views). And there are few points for three unknowns: a fit whose exponent is not two standard errors
# from zero has **failed**. The dashed line is what noise and gaps of these views leave to a method that knows the population
# (notebook 12), relative to the labels' spread.

# %%
noisy, sizes = starclip.mock_telescope(params).corruption, settings.scaling_stars
split = (data.rows("train", max(sizes)), val, test)
views = scaling.compressed(data.nirspec, split, labels, noisy, n_components=settings.scaling_inputs, seed=seed)
bound = scaling.noise_bound(data, test, noisy, run.model("nirspec").scaler.std, seed=seed)
fitted = {
    f"width {width}": [scaling.converged(n, width, views, steps=settings.scaling_steps, seed=seed) for n in sizes]
    for width in settings.scaling_widths
}
errors = {name: [one.error for one in found] for name, found in fitted.items()}
laws = {name: scaling.fit_power_law(sizes, error) for name, error in errors.items()}
run.save_figure("scaling", figures.scaling_laws(sizes, errors, laws, bound))

# %%
Markdown(report.scaling_told(sizes, fitted, laws, bound))

# %%
found = report.transfer_metrics(curves, results, sizes, fitted, laws, bound)
run.save_metrics("evaluation.transfer", found)

# %% tags=["nbval-check-output"]
print("variants:", ", ".join(curves))
print("domains:", "; ".join(results))

# %% [markdown]
# ## Exercises
#
# **1. Code LoRA.** Write a function `lora(x, weight, down, up)` for a layer without a bias: inputs `x` (n, in), frozen `weight`
# (out, in), trained `down` (rank, in) and `up` (out, rank). Return (n, out). Put it in place of None. Then apply it to the last linear
# layer of this run's NIRSpec encoder, below, with `up` of zeros: is the output that of the frozen layer? How many weights are
# trained at rank 4, and how many are frozen?

# %%
layer = [module for module in encoders[0].modules() if isinstance(module, torch.nn.Linear)][-1]
weight = layer.weight.detach().numpy()
print("weights of the layer:", weight.shape, "that is", weight.size)

# %%
answer = None
starclip.check("16.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def lora(x, weight, down, up):
#     return x @ (weight + up @ down).T
# ```
#
# Rank 4 trains 4 × (in + out) numbers. With `up` of zeros, where LoRA starts, nothing has changed.
#
# </details>
#
# **2.** An error falls as n^(−0.5) and has no floor. How many times more stars halve it?

# %%
answer = None
starclip.check("16.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 4, as for the mean of independent measurements.
#
# </details>
#
# ## Questions
#
# 1. In which domain is zero-shot worst? What do the two kinds of spectra differ in there?
# 2. With ten stars, which strategy would you choose for Teff, and which for an abundance?
# 3. The error at the largest number of stars lies above the noise bound. What is left: stars, width, or the inputs? Which run
#    would decide?
#
# This is the last notebook. [docs/recipe.md](../docs/recipe.md) summarises what all of this shows about training.
