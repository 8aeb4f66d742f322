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
# # 04 · StarCLIP: one space for two instruments
#
# **Purpose.** Align the NIRSpec and the APOGEE encoder so that both put the same star in the same place.
#
# **After this notebook you can** write down the contrastive loss, say what the temperature does, and show with one
# picture that two instruments agree.
#
# **Before this:** notebook 03; the loss is derived step by step in [Contrastive learning from
# scratch](00b_contrastive_from_scratch.ipynb).
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `apogee.ckpt`, `nirspec.ckpt` (notebooks 01 and 03) | `starclip.ckpt` | 60 seconds | 2026-11-30 |

# %%
# %matplotlib inline
import copy
import math

import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import numpy as np
import torch
from IPython.display import Markdown, display

from starclip_lib import FE, figures
from starclip_lib.models.calibration import calibrated
from starclip_lib.models.contrastive import info_nce

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"starclip": {"train": {"epochs": 40}}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## The idea in one paragraph
#
# Take a batch of stars. Each has a NIRSpec spectrum and an APOGEE spectrum, and each encoder turns its spectrum into a
# point on a sphere. Now play a game of pairs: shown one NIRSpec point, pick its partner among all APOGEE points of the
# batch by closeness (cosine similarity) alone. The loss is the cross-entropy of this game, played in both directions. To
# win it, the encoders must keep what both instruments see of a star, its temperature, gravity and composition, and
# forget what only one of them sees: noise, gaps, the sky.
#
# For n pairs with similarities $s_{ij}$ and a scale $\kappa = 1/\tau$ the loss is
#
# $$ \mathcal{L} = -\frac{1}{2n} \sum_i \left[ \log \frac{e^{\kappa s_{ii}}}{\sum_j e^{\kappa s_{ij}}}
# + \log \frac{e^{\kappa s_{ii}}}{\sum_j e^{\kappa s_{ji}}} \right]. $$
#
# Two cases can be checked by hand. If all embeddings are equal, guessing among n is all there is: the loss is log n. If
# the pairs are perfect and all others at right angles, it is log(1 + (n - 1) exp(-κ)).

# %% tags=["nbval-check-output"]
n, scale = 8, 10.0
collapsed, perfect = torch.ones(n, 4) / 2, torch.eye(n)
print(f"collapsed: {info_nce(collapsed, collapsed, scale):.4f}, log n = {math.log(n):.4f}")
print(f"perfect: {info_nce(perfect, perfect, scale):.6f}, by hand {math.log1p((n - 1) * math.exp(-scale)):.6f}")

# %% [markdown]
# The **scale** decides how much near misses matter. A large scale (small temperature τ) punishes the one wrong star that
# is almost as close as the right one, and spreads the stars evenly over the sphere. A small scale cares about all stars
# alike and lets similar ones form groups. The paper fixes 15.5, which it calls the temperature although it
# multiplies. We start at 500, in a space that is flatter (see `lift` below), and let training move it.
# [docs/recipe.md](../docs/recipe.md#the-temperature-on-spectra) has both of the paper's choices measured on these spectra.
#
# Three details differ from the paper, and all are settings. Copies of the *same star* in one batch are left out of the
# sums instead of counting as wrong answers (`same_star`). The error of the labels stays in the loss (`label_weight`), so
# that the space remains one from which labels can be read. And before the twenty predicted labels are brought to unit
# length, a constant is appended to them (`lift`). Without it, a star and one with half its label values would fall on the
# same point, and with the length of the vector most of the metallicity would be lost.
#
# A fourth setting is `calibrate`. Not all labels tell stars apart equally well: [Fe/H] is known ten times better than [Ce/H].
# Once the encoders are aligned, their errors on validation stars say how much each label counts, and the space gets
# coordinates in which a scaled cosine is the logarithm of a Bayes factor: "one star" against "two stars of the population"
# ([docs/recipe.md](../docs/recipe.md)).
#
# **Where do the NIRSpec spectra come from?** From an emulator of synthetic spectra, at the catalogue labels (notebook 01).
# The networks see examples only and never the emulator. Notebook [08b](08b_physics_instead_of_a_network.ipynb) fits that
# same emulator to every spectrum. Its numbers stand beside those of the networks as "the fit"; they are what is possible when
# the physical model is exactly right, which it never is for real stars.
#
# ## Before and after
#
# First the pretrained encoders as they are: 48 test stars, sorted by metallicity, NIRSpec against APOGEE. A perfect
# model would show a sharp diagonal and nothing else.

# %%
test = data.rows("test")
stars = test[data.labels[test, FE].argsort()][:: max(1, len(test) // 48)][:48]
noisy = starclip.mock_telescope(run.params, n_views=1)

# %%
before = {name: run.model(name).encoders[name] for name in ("nirspec", "apogee")}
z_nirspec = starclip.run_encoder(before["nirspec"], data.nirspec, stars, noisy)[:, 0]
z_apogee = starclip.run_encoder(before["apogee"], data.apogee, stars)[:, 0]
matrices = {"before alignment": z_nirspec @ z_apogee.T}

# %% [markdown]
# Now the alignment itself. Both encoders go on from where notebook 03 left them. In JupyterLab, watch the two
# curves: the loss, and how often a validation star's partner is the nearest of all.

# %%
viewer = starclip.TrainingViewer("StarCLIP")
display(viewer)

# %%
run.build("starclip.ckpt", watch=viewer.update)
model = run.model("starclip")
viewer.show(model.history)

# %%
run.save_figure("starclip_losses", figures.loss_curves({"StarCLIP": model.history}))

# %%
history = model.history
Markdown(
    f"In {history.epochs} epochs the loss of the validation stars changed from {history.val_loss[0]:.2f} to "
    f"{min(history.val_loss):.2f}, and the share of them whose partner is the nearest from "
    f"{history.val_retrieval[0]:.0%} to {history.val_retrieval[history.best_epoch - 1]:.0%}. If all embeddings were equal, the "
    f"loss of a batch of {run.params.starclip.train.batch_size} would be {math.log(run.params.starclip.train.batch_size):.2f}."
)

# %%
z_nirspec = starclip.run_encoder(model.encoders["nirspec"], data.nirspec, stars, noisy)[:, 0]
z_apogee = starclip.run_encoder(model.encoders["apogee"], data.apogee, stars)[:, 0]
matrices["after alignment"] = z_nirspec @ z_apogee.T

# %%
run.save_figure("similarity", figures.similarity_matrices(matrices, model.logit_scale))

# %% [markdown]
# Each row is a guess: how it is shared out among the APOGEE stars, by the exponential of the scaled cosines. Before, the
# network's labels lead to the right region and often to the wrong star. After, the diagonal stands out: each star is closest to
# itself as seen by the other instrument.
#
# ## What alignment changes, and what calibration does
#
# How often is the diagonal entry the largest in its row, among all test stars? Two things happened between the pictures: the
# encoders were aligned, and then, if `calibrate` is set, labels were weighted by how well both instruments know them. The
# second needs no contrastive learning at all, so it is tried on the pretrained networks as well.

# %%
cases = {"pretrained": before, "pretrained, aligned": copy.deepcopy(model.encoders)}
if run.params.starclip.calibrate:
    val, views = data.rows("val"), starclip.mock_telescope(run.params)
    guess = starclip.run_encoder(before["nirspec"], data.nirspec, val, views, output="labels")
    other = starclip.run_encoder(before["apogee"], data.apogee, val, output="labels").repeat(views.n_views, axis=1)
    *own, _ = calibrated(guess, other, run.params.pretrain.encoder.lift)
    cases |= {"pretrained, calibrated": copy.deepcopy(before), "pretrained, aligned, calibrated": model.encoders}
    for name, coordinates in {"pretrained, calibrated": own, "pretrained, aligned": (None, None)}.items():
        cases[name]["nirspec"].coordinates, cases[name]["apogee"].coordinates = coordinates

# %%
first = {}
for name, encoders in cases.items():
    blue = starclip.run_encoder(encoders["nirspec"], data.nirspec, test, noisy)[:, 0]
    cosines = blue @ starclip.run_encoder(encoders["apogee"], data.apogee, test)[:, 0].T
    first[name] = [(cosines.argmax(axis) == np.arange(len(test))).mean() for axis in (1, 0)]
    print(f"{name}: NIRSpec finds APOGEE {first[name][0]:.1%}, APOGEE finds NIRSpec {first[name][1]:.1%}")

# %%
after, bare = list(first)[-1], first["pretrained"][0]
Markdown(
    f"From NIRSpec to APOGEE the contrastive training takes the share found first from {bare:.1%} to "
    f"{first['pretrained, aligned'][0]:.1%}."
    + (
        f" Calibrating the pretrained networks, without any contrastive training, takes it to "
        f"{first['pretrained, calibrated'][0]:.1%}; both together give {first[after][0]:.1%}. For these simulated stars, whose "
        "labels are known, predicted labels and their errors alone thus account for "
        f"{(first['pretrained, calibrated'][0] - bare) / (first[after][0] - bare):.0%} of the whole gain."
        if run.params.starclip.calibrate
        else ""
    )
)

# %% [markdown]
# The loss says how much the two spectra of a star have in common, too: log N minus the loss is a lower bound of their mutual
# information (equation 2.13 of the paper), and cannot exceed log N for N pairs. For these stars:

# %%
loss = float(info_nce(torch.from_numpy(z_nirspec), torch.from_numpy(z_apogee), model.logit_scale))
print(f"mutual information: at least {math.log(len(stars)) - loss:.2f} nats, log N = {math.log(len(stars)):.2f}")

# %% tags=["nbval-check-output"]
print(f"length of the vectors: {np.sqrt((z_nirspec**2).sum(1)).mean():.3f}, dimensions: {z_nirspec.shape[1]}")

# %% [markdown]
# Notebook 06 has the full account: more views, both directions, and the other methods.
#
# ## Exercises
#
# **1.** What is the loss of a batch of 512 if all embeddings are equal? Does the scale matter?

# %%
answer = None
starclip.check("04.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `math.log(512)`, about 6.24, for every scale: equal cosines stay equal when all are multiplied by it.
#
# </details>
#
# **2.** Our alignment starts with a `logit_scale` of 500. Which temperature is that?

# %%
answer = None
starclip.check("04.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1 / 500 = 0.002. What the paper calls a temperature of 15.5 is a scale, too.
#
# </details>
#
# ## Questions
#
# 1. Why must the two encoders be *pretrained*? Try to think what random encoders would do in the first epoch.
# 2. With a batch of two stars the loss is easy to bring to zero. What would the space look like then?
# 3. Two different stars can have the same labels within the errors. The loss still pushes them apart. Is that
#    desirable for finding a star? For reading its labels?
# 4. Sweep the temperature: `overrides = {"starclip": {"logit_scale": 50.0, "learn_scale": false}}` (Python writes `False`), then
#    5000. What happens to the share of stars found first, and to the picture above?
#
# **Next:** [05 · MockStarCLIP](05_mockstarclip.ipynb) teaches the NIRSpec encoder to live with bad reductions.
