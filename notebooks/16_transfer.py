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
# | a finished run: `data.h5`, the pretrained encoders | tables and figures | 7 minutes | 2026-11-30 |

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
data, params, settings = run.data, run.params, run.params.evaluation
train, val, test = (data.rows(split, 12_000) for split in ("train", "val", "test"))  # of a survey not all
seed = params.seed

# %% [markdown]
# ## What alignment owes to pretraining
#
# Four trainings on pairs, otherwise equal, by the contrastive loss alone (as in PAPERCLIP):
#
# - **full**: both pretrained encoders, all weights;
# - **head**: the pretrained encoders frozen, a small network of two layers behind each;
# - **scratch**: encoders with random weights;
# - **shuffled**: as *scratch*, on pairs of spectra that belong to *different* stars.
#
# The last one is the control: the same spectra, network and loss, and only the pairing is gone. If it found partners among new
# stars, something other than pairs would be leaking. Expect it near chance and not exactly there: two encoders that were never
# aligned are rotated against each other at random, and since giants differ mostly along one direction, a single training can
# end a little above or below.

# %%
encoders = tuple(run.model(name).encoders[name] for name in ("nirspec", "apogee"))
sources = ablation.pairs_of(data, params)
recipe = params.starclip.changed(train=params.starclip.train.changed(epochs=settings.ablation_epochs))

# %%
histories, curves = {}, {}
for variant in ablation.VARIANTS:
    model, histories[variant] = ablation.train_variant(variant, encoders, *sources, recipe, seed=seed)
    sides = ablation.embed_pairs(model, data, params)
    curves[variant] = pairs.top_percent_curve(*sides, n_resamples=settings.n_resamples, seed=seed)
run.save_figure("ablation", figures.ablation_curves(histories, curves))

# %%
one = pairs.PERCENTS.index(1.0)
at = {variant: tuple(values[one] for values in curve) for variant, curve in curves.items()}
lines = [f"{variant}: {value:.3f} [{low:.3f}, {high:.3f}]" for variant, (value, low, high) in at.items()]
settled = {other: at["full"][1] > at[other][2] or at[other][1] > at["full"][2] for other in ("scratch", "head")}
Markdown(
    f"The right star is among the best 1 % after {settings.ablation_epochs} epochs:\n\n- "
    + "\n- ".join(lines)
    + f"\n\nPretraining is worth {100 * (at['full'][0] - at['scratch'][0]):+.1f} points "
    f"({'settled' if settled['scratch'] else 'not settled: the intervals overlap'}), and moving the encoders' own weights "
    f"{100 * (at['full'][0] - at['head'][0]):+.1f} ({'settled' if settled['head'] else 'not settled: the intervals overlap'}). "
    "Chance is 0.010."
)

# %% [markdown]
# ## Moving to another instrument
#
# A network that reads labels from one kind of spectrum meets another: worse data, other gaps, lower resolution. Four ways to
# go on, with a few labelled stars of the new kind:
#
# - **zero-shot**: as it is;
# - **adapter**: a small network that corrects the twenty labels it predicts;
# - **LoRA**: every layer gets a correction of rank four, a product of two thin matrices; the layers themselves stay frozen;
# - **full**: all weights move.
#
# More freedom means that more can be learned, and that more can be learned wrongly from few stars. Which effect wins depends
# on the learning rate too, so each strategy gets three, and the best is chosen on labelled stars of the new kind that are held
# out: a fifth of the validation stars. (In practice those are labelled stars too, and have to be paid for.)

# %%
kinds = domains.standard_domains(data, params)
labels = run.model("nirspec").scaler.transform(data.labels)
network = starclip.EncoderParams(width=settings.transfer_width)
lesson = starclip.TrainParams(epochs=settings.transfer_epochs)
options = {"repeats": settings.transfer_repeats, "steps": settings.transfer_steps, "n_resamples": settings.n_resamples}

# %%
results, rates = {}, {}
for name, (old, new) in kinds.items():
    start = domains.train_on(old, data.nirspec, (train, val), labels, network, lesson, seed=seed)
    few, new_test = ((new.observe(data.nirspec, rows, seed), labels[rows]) for rows in (val, test))
    results[name], rates[name] = transfer.transfer_curve(
        start, few, new_test, sizes=settings.transfer_stars, seed=seed, **options
    )
run.save_figure("transfer", figures.transfer_curves(results))

# %% [markdown]
# Points are means over several draws of the labelled stars; the 95 % intervals hold both the draw and the choice of test stars.
# Dashed: zero-shot. Strategies whose intervals overlap are not ranked.

# %%
lines = []
for domain, found in results.items():
    zero = found["zero_shot"][0].value
    for n in settings.transfer_stars:
        best, second = sorted(transfer.STRATEGIES[1:], key=lambda strategy: -found[strategy][n].value)[:2]
        clear = "clearly" if found[best][n].low > found[second][n].high else f"not separated from {second}"
        worse = [strategy for strategy in transfer.STRATEGIES[1:] if found[strategy][n].value < zero]
        lines.append(
            f"{domain}, {n} stars: {best} {found[best][n].value:.3f} ({clear}), zero-shot {zero:.3f}"
            + (f"; tuning does **harm** with {', '.join(worse)}" if worse else "")
        )
tried = [(s, rate) for chosen in rates.values() for s, sizes in chosen.items() for rate in sizes.values()]
edge = sum(rate in (transfer.RATES[s][0], transfer.RATES[s][-1]) for s, rate in tried)
Markdown(
    "Highest mean r² of the labels:\n\n- "
    + "\n- ".join(lines)
    + f"\n\nIn {edge} of {len(tried)} cases the chosen rate is the lowest or highest tried, so that a wider search might do better."
)

# %% [markdown]
# ## What more would bring
#
# The same network trained with the labels of more and more stars. Errors often fall as a power of the number of stars towards
# a floor, $\epsilon = \epsilon_0 + a\, n^{-b}$. Two traps. First, a network that was stopped early shows the law of the *optimiser
# steps*, and with a fixed number of steps every size ends at the same error, which looks like a floor. So each training is repeated
# with twice the steps until that lowers the validation error by less than 2 %. (To afford this, the networks read principal
# components of the views instead of all pixels.) Second, there are few points for three unknowns: the uncertainty of the exponent
# is part of the result, and a fit whose exponent is not two standard errors from zero has **failed**.
#
# How low can an error be? The dashed line is what noise and gaps of these very views leave to a method that knows the
# population (its posterior sigma for a linear Gaussian model, notebook 12), relative to the labels' spread.

# %%
noisy, sizes = starclip.mock_telescope(params).corruption, settings.scaling_stars
split = (data.rows("train", max(sizes)), val, test)
views = scaling.compressed(data.nirspec, split, labels, noisy, n_components=settings.scaling_inputs, seed=seed)
bound = scaling.noise_bound(data, test, noisy, run.model("nirspec").scaler.std, seed=seed)

# %%
fitted, laws = {}, {}
for width in settings.scaling_widths:
    found = [scaling.converged(n, width, views, steps=settings.scaling_steps, seed=seed) for n in sizes]
    fitted[f"width {width}"] = found
    laws[f"width {width}"] = scaling.fit_power_law(sizes, [one.error for one in found])
errors = {name: [one.error for one in found] for name, found in fitted.items()}
run.save_figure("scaling", figures.scaling_laws(sizes, errors, laws, bound))

# %%
lines = []
for name, law in laws.items():
    late = sum(one.gain >= 0.02 for one in fitted[name])
    fit = f"exponent {law.index:.2f} ± {law.index_error:.2f}"
    fit += (
        f", floor {law.floor:.3f} ± {law.floor_error:.3f}"
        if law.determined
        else ": the fit **failed**, no law is determined"
    )
    lines.append(
        f"{name}: error {errors[name][0]:.3f} with {sizes[0]} stars, {errors[name][-1]:.3f} with {sizes[-1]}, "
        f"{errors[name][-1] / bound:.2f} times the bound; {fit}; {late} of {len(sizes)} trainings had not converged"
    )
Markdown(f"The noise bound is {bound:.3f} of the labels' spread.\n\n- " + "\n- ".join(lines))

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
