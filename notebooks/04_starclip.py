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
# | `data.h5`, `apogee.ckpt`, `nirspec.ckpt` (notebooks 01 and 03) | `starclip.ckpt` | 60 seconds | 2026-11-27 |

# %%
# %matplotlib inline
import math

import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import torch
from IPython.display import display

from starclip_lib import FE, figures
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
# ## A guess, then physics
#
# A network guesses labels from a spectrum. But for these spectra we know more: the emulator says what a spectrum with
# guessed labels looks like, and how each pixel changes with each label. If the observed one differs a little from that, the
# difference tells how the guess must change. That is one **Gauss-Newton step**: weighted least squares in twenty labels, with
# continuum, velocity and line width fitted along and the population as prior. Two steps from the network's guess, and the
# labels are as good as the noise allows, with a covariance for each spectrum. In the default run (`kind: newton`) both
# encoders are refined so. [The tour](00_tour.ipynb) plays the game of pairs with networks alone.
#
# What is left to learn? How far to **trust** the synthesis, pixel by pixel. It is first read off the training stars'
# residuals and then trained by the game of pairs, while the networks rest.
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
figure = figures.loss_curves({"StarCLIP": model.history})
run.save_figure("starclip_losses", figure)
figure

# %% [markdown]
# How far does each encoder trust the emulator? For NIRSpec, whose mock spectra come from it, everywhere: what is left is the
# noise of the residuals that it was read off. For APOGEE, single peaks are airglow lines of the night sky, the four humps bands of
# carbon dioxide and methane in the air; no model of a star explains what they leave behind. Nobody told the encoder where they are.

# %%
figure = figures.trust(model.encoders)
run.save_figure("trust", figure)
figure

# %%
z_nirspec = starclip.run_encoder(model.encoders["nirspec"], data.nirspec, stars, noisy)[:, 0]
z_apogee = starclip.run_encoder(model.encoders["apogee"], data.apogee, stars)[:, 0]
matrices["after alignment"] = z_nirspec @ z_apogee.T

# %%
figure = figures.similarity_matrices(matrices, model.logit_scale)
run.save_figure("similarity", figure)
figure

# %% [markdown]
# Each row is a guess: how it is shared out among the APOGEE stars, by the exponential of the scaled cosines. Before, the
# network's labels lead to the right region and often to the wrong star. After, the diagonal stands out: each star is closest to
# itself as seen by the other instrument. How often is the diagonal entry the largest in its row?

# %%
hits = {name: float((matrix.argmax(1) == range(len(stars))).mean()) for name, matrix in matrices.items()}
print({name: f"{share:.0%}" for name, share in hits.items()})

# %% tags=["nbval-check-output"]
print("unit length:", bool(abs((z_nirspec**2).sum(1) - 1).max() < 1e-5))
print("dimensions:", z_nirspec.shape[1])

# %% [markdown]
# This is a small game of pairs with 48 players. Notebook 06 plays it with all test stars.
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
#
# **Next:** [05 · MockStarCLIP](05_mockstarclip.ipynb) teaches the NIRSpec encoder to live with bad reductions.
