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
# | a finished run: `data.h5`, the pretrained encoders | tables and figures | 5 minutes | 2026-11-27 |

# %%
# %matplotlib inline
import pandas as pd

import starclip_lib as starclip
from starclip_lib import figures
from starclip_lib.evaluation import ablation, domains, pairs, report, scaling, transfer

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
# Expect it near chance and not exactly there: two encoders that nobody aligned are turned to each other at random, and since
# giants differ mostly along one direction, a single training can end a little above or below.

# %%
encoders = tuple(run.model(name).encoders[name] for name in ("nirspec", "apogee"))
sources = ablation.pairs_of(data, params)
pace = {"learning_rate": 3e-4, "weight_decay": 0.05} if params.pretrain.encoder.kind == "newton" else {}  # of networks
recipe = params.starclip.changed(train=params.starclip.train.changed(epochs=settings.ablation_epochs, **pace))

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
figure = figures.ablation_curves({variant: history for variant, (_, history) in trained.items()}, curves)
run.save_figure("ablation", figure)
figure

# %%
shown = [pairs.PERCENTS.index(p) for p in (0.1, 1.0, 10.0)]
table = {v: [f"{c[0][i]:.3f} [{c[1][i]:.3f}, {c[2][i]:.3f}]" for i in shown] for v, c in curves.items()}
pd.DataFrame.from_dict(table, orient="index", columns=["best 0.1 %", "best 1 %", "best 10 %"])

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
# The more freedom, the more it can learn and the more labels it needs not to fool itself.

# %%
kinds = domains.standard_domains(data, params)

# %%
labels = run.model("nirspec").scaler.transform(data.labels)
network, lesson = (
    starclip.EncoderParams(width=settings.transfer_width),
    starclip.TrainParams(epochs=settings.transfer_epochs),
)
results = {}
for name, (old, new) in kinds.items():
    start = domains.train_on(old, data.nirspec, (train, val), labels, network, lesson, seed=seed)
    seen = {
        part: (new.observe(data.nirspec, rows, seed), labels[rows]) for part, rows in (("few", val), ("test", test))
    }
    results[name] = transfer.transfer_curve(
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
figure = figures.transfer_curves(results)
run.save_figure("transfer", figure)
figure

# %% [markdown]
# ## What more would bring
#
# The same network trained on more and more stars, for the same number of steps, and networks of several widths. Errors often
# fall as a power of the number of stars towards a floor that noise sets, $\epsilon = \epsilon_0 + a\, n^{-b}$. Five points
# and three unknowns: the uncertainty of the exponent is part of the result.

# %%
noisy = starclip.mock_telescope(params).corruption
errors = {
    f"width {width}": [
        scaling.error_at(
            n, width, data.nirspec, (train, val, test), labels, noisy, steps=settings.scaling_steps, seed=seed
        )
        for n in settings.scaling_stars
    ]
    for width in settings.scaling_widths
}

# %%
laws = {name: scaling.fit_power_law(settings.scaling_stars, values) for name, values in errors.items()}
figure = figures.scaling_laws(settings.scaling_stars, errors, laws)
run.save_figure("scaling", figure)
figure

# %%
for name, law in laws.items():
    print(f"{name:10} exponent {law.index:.2f} ± {law.index_error:.2f}, floor {law.floor:.3f} ± {law.floor_error:.3f}")

# %%
found = report.transfer_metrics(curves, results, settings.scaling_stars, errors, laws)
run.save_metrics("evaluation.transfer", found)

# %% tags=["nbval-check-output"]
tenth = pairs.PERCENTS.index(10.0)
print("shuffled pairs teach nothing:", curves["shuffled"][1][tenth] < 0.15)
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
# 3. The floor of the scaling law: is it noise, the network, or the number of steps? Which run would decide?
#
# This is the last notebook. [docs/recipe.md](../docs/recipe.md) says what all of this taught us about training.
