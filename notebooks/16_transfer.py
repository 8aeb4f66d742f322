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
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
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
# The last one is the control. It has the same spectra, the same network, the same loss; only the pairing is gone. If it found
# partners among new stars, something other than pairs would be leaking. (It starts from scratch because the pretrained
# encoders predict the same labels: they agree about a star without any alignment, and part of that survives shuffling.)
# Expect it near chance and not exactly there: two encoders that were never aligned are rotated against each other at random,
# and since giants differ mostly along one direction, a single training can end a little above or below.

# %%
encoders = tuple(run.model(name).encoders[name] for name in ("nirspec", "apogee"))
sources = ablation.pairs_of(data, params)
recipe = params.starclip.changed(train=params.starclip.train.changed(epochs=settings.ablation_epochs))

# %%
trained = {
    variant: ablation.train_variant(variant, encoders, *sources, recipe, seed=seed) for variant in ablation.VARIANTS
}

# %%
curves = {
    variant: pairs.top_percent_curve(
        *ablation.embed_pairs(model, data, params), n_resamples=settings.n_resamples, seed=seed
    )
    for variant, (model, _) in trained.items()
}

# %%
run.save_figure(
    "ablation", figures.ablation_curves({variant: history for variant, (_, history) in trained.items()}, curves)
)

# %%
shown = [pairs.PERCENTS.index(p) for p in (0.1, 1.0, 10.0)]
table = {v: [f"{c[0][i]:.3f} [{c[1][i]:.3f}, {c[2][i]:.3f}]" for i in shown] for v, c in curves.items()}
pd.DataFrame.from_dict(table, orient="index", columns=["best 0.1 %", "best 1 %", "best 10 %"])

# %%
first = {variant: curve[0][shown[0]] for variant, curve in curves.items()}
ends = {variant: (curve[1][shown[0]], curve[2][shown[0]]) for variant, curve in curves.items()}
apart = ends["full"][0] > ends["scratch"][1]
Markdown(
    f"**Conclusion.** After {settings.ablation_epochs} epochs the right star comes first in {first['full']:.1%} of the searches if all "
    f"pretrained weights move, in {first['scratch']:.1%} from random weights, and in {first['head']:.1%} with small networks behind "
    f"frozen encoders. Pretraining is worth {100 * (first['full'] - first['scratch']):+.1f} points here, and the intervals "
    f"{'do not overlap' if apart else 'overlap, so that this is not settled'}; moving the encoders' own weights is worth "
    f"{100 * (first['full'] - first['head']):+.1f} points. The control finds {first['shuffled']:.1%}, chance is 0.1%."
)

# %% [markdown]
# ## Moving to another instrument
#
# A network that reads labels from one kind of spectrum meets another: worse data, other gaps, lower resolution. Four ways to
# go on, with 10, 50 or 250 labelled stars of the new kind:
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

# %%
labels = run.model("nirspec").scaler.transform(data.labels)
network, lesson = (
    starclip.EncoderParams(width=settings.transfer_width),
    starclip.TrainParams(epochs=settings.transfer_epochs),
)
results, rates = {}, {}
for name, (old, new) in kinds.items():
    start = domains.train_on(old, data.nirspec, (train, val), labels, network, lesson, seed=seed)
    seen = {
        part: (new.observe(data.nirspec, rows, seed), labels[rows]) for part, rows in (("few", val), ("test", test))
    }
    results[name], rates[name] = transfer.transfer_curve(
        start,
        seen["few"],
        seen["test"],
        sizes=settings.transfer_stars,
        repeats=settings.transfer_repeats,
        steps=settings.transfer_steps,
        n_resamples=settings.n_resamples,
        seed=seed,
    )

# %% [markdown]
# The labelled stars of the new domain are validation stars, which the first training used only to choose its best epoch. Points
# are means over several draws of them; the 95 % intervals hold both the draw and the choice of test stars. Dashed: zero-shot.

# %%
run.save_figure("transfer", figures.transfer_curves(results))

# %%
cells = {
    domain: {"zero-shot": f"{found['zero_shot'][0].value:.3f}"}
    | {
        f"{strategy}, {n} stars": f"{interval.value:.3f} (rate {rates[domain][strategy][n]:g})"
        for strategy in transfer.STRATEGIES[1:]
        for n, interval in found[strategy].items()
    }
    for domain, found in results.items()
}
pd.DataFrame(cells)

# %%
sentences = []
for domain, found in results.items():
    for n in settings.transfer_stars:
        order = sorted(transfer.STRATEGIES[1:], key=lambda strategy: -found[strategy][n].value)
        zero, best, second = found["zero_shot"][0].value, *(found[strategy][n] for strategy in order[:2])
        clear = "clear" if best.low > second.high else f"not separated from {order[1]} ({second.value:.3f})"
        worse = [strategy for strategy in order if found[strategy][n].value < zero]
        sentences.append(
            f"{domain}, {n} stars: {order[0]} {best.value:.3f}, {clear}; below zero-shot: {', '.join(worse) or 'none'}"
        )
Markdown("Highest mean r², by domain and number of stars:\n\n- " + "\n- ".join(sentences))

# %%
edges = [
    (domain, strategy, n)
    for domain, chosen in rates.items()
    for strategy, sizes in chosen.items()
    for n, rate in sizes.items()
    if rate in (transfer.RATES[strategy][0], transfer.RATES[strategy][-1])
]
total = sum(len(sizes) for chosen in rates.values() for sizes in chosen.values())
Markdown(
    f"In {len(edges)} of {total} cases the chosen rate is the lowest or the highest of the three, so that a wider search might do "
    "better still. Intervals that overlap do not rank two strategies."
)

# %% [markdown]
# ## What more would bring
#
# The same network trained with the labels of more and more stars, and networks of several widths. Errors often fall as a power
# of the number of stars towards a floor, $\epsilon = \epsilon_0 + a\, n^{-b}$.
#
# Two traps. First, a network that was stopped early shows the law of the *optimiser steps*: with a fixed number of steps every
# size ends at the same error, and that looks like a floor. So each training is repeated with twice the steps until that lowers the
# validation error by less than 2 %. To afford this, the networks read the leading principal components of the views instead of
# all pixels. Second, there are few points for three unknowns: the uncertainty of the exponent is part of the result, and a
# fit whose exponent is not two standard errors from zero has **failed**.

# %%
noisy = starclip.mock_telescope(params).corruption
most = data.rows("train", max(settings.scaling_stars))
views = scaling.compressed(
    data.nirspec, (most, val, test), labels, noisy, n_components=settings.scaling_inputs, seed=seed
)
fitted = {
    f"width {width}": [
        scaling.converged(n, width, views, steps=settings.scaling_steps, seed=seed) for n in settings.scaling_stars
    ]
    for width in settings.scaling_widths
}

# %% [markdown]
# How low can an error be? The dashed line is what noise and gaps of these very views leave to a method that knows the
# population (its posterior sigma for a linear Gaussian model, notebook 12), relative to the labels' spread.

# %%
bound = scaling.noise_bound(data, test, noisy, run.model("nirspec").scaler.std, seed=seed)
errors = {name: [one.error for one in found] for name, found in fitted.items()}
laws = {name: scaling.fit_power_law(settings.scaling_stars, values) for name, values in errors.items()}
run.save_figure("scaling", figures.scaling_laws(settings.scaling_stars, errors, laws, bound))

# %%
columns = [f"{n} stars" for n in settings.scaling_stars]
steps = {name: [f"{one.error:.3f} ({one.steps:,} steps)" for one in found] for name, found in fitted.items()}
pd.DataFrame.from_dict(steps, orient="index", columns=columns)

# %%
unfinished = sum(one.gain >= 0.02 for found in fitted.values() for one in found)
words = [
    f"{name}: error {errors[name][0]:.3f} to {errors[name][-1]:.3f}, "
    + (
        f"exponent {law.index:.2f} ± {law.index_error:.2f}, floor {law.floor:.3f} ± {law.floor_error:.3f}"
        if law.determined
        else f"the fit **failed** (exponent {law.index:.2f} ± {law.index_error:.2f}): these points do not determine a law"
    )
    for name, law in laws.items()
]
Markdown(
    f"{'; '.join(words)}. The noise bound is {bound:.3f}; the best network is at {min(map(min, errors.values())) / bound:.2f} times "
    f"the bound. Trainings that had not converged after five doublings: {unfinished} of {sum(map(len, fitted.values()))}."
)

# %%
found = report.transfer_metrics(curves, results, settings.scaling_stars, fitted, laws, bound)
run.save_metrics("evaluation.transfer", found)

# %% tags=["nbval-check-output"]
print("variants:", ", ".join(curves))
print("domains:", "; ".join(results))

# %% [markdown]
# ## Exercises
#
# **1.** A layer has 512 inputs and 512 outputs. How many weights does LoRA of rank 4 train in it?

# %%
answer = None
starclip.check("16.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 4 × (512 + 512) = 4,096, in place of 262,144.
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
# 1. Zero-shot is hopeless in one domain and fine in another. What do the domains differ in?
# 2. With ten stars, which strategy would you choose for Teff, and which for an abundance? Look at single labels.
# 3. The error at the largest number of stars lies above the noise bound. What is left: stars, width, or the inputs? Which run
#    would decide?
#
# This is the last notebook. [docs/recipe.md](../docs/recipe.md) summarises what all of this shows about training.
