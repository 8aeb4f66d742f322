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
# **The figure to remember.** Who is taken for whom, before and after the alignment; and beside it, what the temperature and
# same-star pairs do to a training.
#
# **After this notebook you can** write down the contrastive loss, choose a temperature by experiment, say what false negatives
# cost, and tell what the alignment contributes and what a calibration would have given without it.
#
# **Before this:** notebook 03; the loss is derived step by step in [Contrastive learning from
# scratch](00b_contrastive_from_scratch.ipynb).
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `apogee.ckpt`, `nirspec.ckpt` (notebooks 01 and 03) | `starclip.ckpt` | 1.6 minutes | 2026-12-01 |

# %%
# %matplotlib inline
import copy
import math

import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display

from starclip_lib import FE, figures, info_nce
from starclip_lib.models.calibration import calibrated

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"starclip": {"train": {"epochs": 40}}}

# %%
run = starclip.open_run(params_file, overrides)
data, test = run.data, run.data.rows("test")
noisy = starclip.mock_telescope(run.params, n_views=1)

# %% [markdown]
# ## The idea in one paragraph
#
# Take a batch of stars. Each has a NIRSpec spectrum and an APOGEE spectrum, and each encoder turns its spectrum into a
# point on a sphere. Now play a game of pairs: shown one NIRSpec point, pick its partner among all APOGEE points of the
# batch by closeness (cosine similarity) alone. The loss is the cross-entropy of this game, played in both directions. To
# win it, the encoders must keep what both instruments see of a star, its temperature, gravity and composition, and
# forget what only one of them sees: noise, gaps, the sky.
#
# For n pairs with similarities $s_{ij}$ and a scale $\kappa = 1/\tau$, where τ is the **temperature**, the loss is
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
# ## From labels to a sphere
#
# The encoders of notebook 03 predict twenty labels, each with mean 0 and spread 1. The paper divides this vector by its length,
# so that it ends on a sphere. But then a star and one with half its label values fall on the same point, and with the length of
# the vector most of the metallicity is lost. So we append a constant, the **lift**, before dividing: the length survives as
# latitude. What is it worth, before any alignment?

# %%
encoders = {name: run.model(name).encoders[name] for name in ("nirspec", "apogee")}
guessed = starclip.run_encoder(encoders["nirspec"], data.nirspec, test, noisy, output="labels")[:, 0]
known = starclip.run_encoder(encoders["apogee"], data.apogee, test, output="labels")[:, 0]
guessed, known, target = torch.from_numpy(guessed), torch.from_numpy(known), torch.arange(len(test))
for lift in (0.0, 3.0, 30.0):
    blue, red = (F.normalize(F.pad(labels, (0, 1), value=lift), dim=1) for labels in (guessed, known))
    found = ((blue @ red.T).argmax(1) == target).float().mean().item()
    print(f"lift {lift:g}: {found:.1%} of {len(test)} NIRSpec spectra find their APOGEE spectrum first")

# %% [markdown]
# ## An experiment: temperature and false negatives
#
# Before the whole networks are trained, a small experiment that takes seconds. The networks stay as they are, and only two
# matrices are learned, one for each instrument, that turn the twenty predicted labels before they go to the sphere (with a lift
# of 3). The loss is the one above, and everything else is as in a real training: here is all of it.
#
# Each star is in the batch several times, with another noisy NIRSpec spectrum each time, as in the paper. Its copies are then
# wrong answers to its own question (**false negatives**), unless pairs of the same star are masked. So we train at seven
# temperatures, with and without the mask.

# %%
train, views = data.rows("train"), starclip.mock_telescope(run.params)
seen = torch.from_numpy(starclip.run_encoder(encoders["nirspec"], data.nirspec, train, views, output="labels"))
partner = torch.from_numpy(starclip.run_encoder(encoders["apogee"], data.apogee, train, output="labels")[:, 0])


# %%
def align(temperature, masked, n_stars=60, steps=150):
    generator, copies = starclip.seeded("cpu", run.params.seed, 4), seen.shape[1]
    matrices = [torch.eye(20).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.Adam(matrices, lr=0.01)
    for _ in range(steps):
        star = torch.randperm(len(train), generator=generator)[:n_stars].repeat_interleave(copies)
        batch = seen[star, torch.arange(len(star)) % copies], partner[star]
        z_a, z_b = (F.normalize(F.pad(x @ m, (0, 1), value=3.0), dim=1) for x, m in zip(batch, matrices))
        optimizer.zero_grad()
        info_nce(z_a, z_b, 1 / temperature, star if masked else None).backward()
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


# %%
temperatures = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
curves = {"same-star pairs masked": [], "copies are negatives": []}
for shares, masked in zip(curves.values(), (True, False)):
    for tau in temperatures:
        pairs = zip((guessed, known), align(tau, masked))
        blue, red = (F.normalize(F.pad(x @ matrix, (0, 1), value=3.0), dim=1) for x, matrix in pairs)
        shares.append(((blue @ red.T).argmax(1) == target).float().mean().item())

# %%
blue, red = (F.normalize(F.pad(labels, (0, 1), value=3.0), dim=1) for labels in (guessed, known))
untrained = {"before training": ((blue @ red.T).argmax(1) == target).float().mean().item()}
run.save_figure("temperature", figures.sweep(temperatures, curves, untrained))

# %%
masked, copied = (np.array(shares) for shares in curves.values())
best, worst = int(masked.argmax()), int((masked - copied).argmax())
Markdown(
    f"Best with the mask is τ = {temperatures[best]:g}, where {masked[best]:.1%} are found first; at τ = {temperatures[-1]:g} it "
    f"is {masked[-1]:.1%}, at τ = {temperatures[0]:g} {masked[0]:.1%}. The mask makes the largest difference at "
    f"τ = {temperatures[worst]:g}: {masked[worst]:.1%} with it, {copied[worst]:.1%} without."
)

# %% [markdown]
# Why? A *large* temperature hardly distinguishes near misses from far ones. All wrong answers push alike, and the few that sit
# close to the right one, which decide who is first, are only a small part of the push. A *small* temperature listens to the
# nearest wrong answers alone. If copies of the same star count as wrong answers, these are the nearest, and the training spends
# its effort on separating a star from itself. And where only a few answers are heard, the noise of a single batch weighs more.
#
# The numbers on the axis depend on the space: with a larger lift all cosines lie closer to 1, and the best temperature is smaller.
# The paper's "temperature" of 15.5 multiplies, so it is τ = 0.065, in a space without lift.
# [docs/recipe.md](../docs/recipe.md#the-temperature-on-spectra) has both of the paper's choices measured on whole networks.
#
# ## Before the alignment
#
# Now the whole networks. First as they are: 48 test stars, sorted by metallicity, NIRSpec against APOGEE. A perfect
# model would show a sharp diagonal and nothing else.

# %%
stars = test[data.labels[test, FE].argsort()][:: max(1, len(test) // 48)][:48]
before = copy.deepcopy(encoders)
z_nirspec = starclip.run_encoder(before["nirspec"], data.nirspec, stars, noisy)[:, 0]
z_apogee = starclip.run_encoder(before["apogee"], data.apogee, stars)[:, 0]
matrices = {"before alignment": z_nirspec @ z_apogee.T}

# %% [markdown]
# ## The alignment
#
# Both encoders go on from where notebook 03 left them. Two settings differ from the paper: pairs of the same star are masked
# (`same_star`; with fresh noise in each epoch a star is in it only once, so there is little to mask), and the error of the labels
# stays in the loss (`label_weight`), so that labels can still be read from the space. The scale κ starts at `logit_scale` and is
# learned along. In JupyterLab, watch the two curves: the loss, and how often a validation star's partner is the nearest of all.

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
# Each row is a guess: how it is shared out among the APOGEE stars, by the exponential of the scaled cosines. The bright cells off
# the diagonal are the stars that are taken for each other. The loss of these stars, written out once more:

# %%
logits = torch.from_numpy(model.logit_scale * matrices["after alignment"])
by_hand = -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()).mean() / 2
loss = float(info_nce(torch.from_numpy(z_nirspec), torch.from_numpy(z_apogee), model.logit_scale))
on_diagonal = [(m.argmax(1) == np.arange(len(stars))).sum() for m in matrices.values()]
Markdown(
    f"By hand {by_hand:.4f}, by the package {loss:.4f}. The brightest cell of a row is on the diagonal for {on_diagonal[0]} of "
    f"{len(stars)} stars before and {on_diagonal[1]} after. The loss also says how much the two spectra of a star have in common: "
    f"log N minus the loss is a lower bound of their mutual information (equation 2.13 of the paper), here "
    f"{math.log(len(stars)) - loss:.2f} nats of at most log N = {math.log(len(stars)):.2f}."
)

# %% [markdown]
# ## What alignment changes, and what calibration does
#
# Not all labels tell stars apart equally well: [Fe/H] is known far better than [Ce/H], and a plain cosine treats them alike. If
# `calibrate` is set, a last step looks at validation stars, measures how well the two instruments agree on each combination of
# labels, and gives the well-known ones more weight. (The weights are chosen so that a scaled cosine becomes the logarithm of a
# *Bayes factor*: how much more likely two spectra are if they show one star than if they show two.)
#
# This needs no contrastive training at all. So to be fair, it is tried on the pretrained networks as well.

# %%
cases = {"pretrained": before, "pretrained, aligned": copy.deepcopy(model.encoders)}
if run.params.starclip.calibrate:
    val = data.rows("val")
    guess = starclip.run_encoder(before["nirspec"], data.nirspec, val, views, output="labels")
    other = starclip.run_encoder(before["apogee"], data.apogee, val, output="labels").repeat(views.n_views, axis=1)
    *own, _ = calibrated(guess, other, run.params.pretrain.encoder.lift)
    cases |= {"pretrained, calibrated": copy.deepcopy(before), "pretrained, aligned, calibrated": model.encoders}
    for name, coordinates in {"pretrained, calibrated": own, "pretrained, aligned": (None, None)}.items():
        cases[name]["nirspec"].coordinates, cases[name]["apogee"].coordinates = coordinates

# %%
first = {}
for name, both in cases.items():
    blue = starclip.run_encoder(both["nirspec"], data.nirspec, test, noisy)[:, 0]
    cosines = blue @ starclip.run_encoder(both["apogee"], data.apogee, test)[:, 0].T
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

# %% tags=["nbval-check-output"]
print(f"length of the vectors: {np.sqrt((z_nirspec**2).sum(1)).mean():.3f}, dimensions: {z_nirspec.shape[1]}")

# %% [markdown]
# Notebook 06 has the full account: other methods on the same spectra, and why searches fail.
#
# **A caution.** The NIRSpec spectra are theory, computed at the catalogue labels; the APOGEE spectra are observed, by a physics
# that differs from it (notebook 01). The networks learn each side from examples, so this difference hardly matters to them. It
# matters as soon as a NIRSpec spectrum is *observed*, too: notebook 06 shows what then becomes of each method.
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
# **3. (To code.)** Let the temperature be learned. Write `align` again with a third parameter, the logarithm of the scale, start it
# at τ = 0.1, give it to the optimiser (a learning rate of 0.05 suits it), and train for 300 steps. Where does it end?

# %%
yours = None  # the temperature at which your training ended
if yours is not None:
    print(f"learned: τ = {yours:.4f}; the best of the sweep was τ = {temperatures[best]:g}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `log_scale = torch.tensor(math.log(10.0), requires_grad=True)`, then `optimizer = torch.optim.Adam([{"params": matrices},
# {"params": [log_scale], "lr": 0.05}], lr=0.01)`, the loss `info_nce(z_a, z_b, log_scale.exp(), star)`, and in the end
# `yours = 1 / log_scale.exp().item()`. The loss can be lowered by a smaller temperature as soon as the pairs are right, so a
# learned one tends to go below the best of the sweep; that is why `max_scale` bounds it.
#
# </details>
#
# ## Questions
#
# 1. Why must the two encoders be *pretrained*? Try to think what random encoders would do in the first epoch.
# 2. With a batch of two stars the loss is easy to bring to zero. What would the space look like then?
# 3. Two different stars can have the same labels within the errors. The loss still pushes them apart. Is that
#    desirable for finding a star? For reading its labels?
# 4. The sweep's losses cannot be compared between temperatures. Why not? What can?
#
# **Next:** [05 · MockStarCLIP](05_mockstarclip.ipynb) teaches the NIRSpec encoder to live with bad reductions.
