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
# # 05 · MockStarCLIP: few stars, bad spectra
#
# **Purpose.** Adapt StarCLIP's NIRSpec encoder to heavily corrupted spectra with only a few hundred stars.
#
# **The figure to remember.** Which of the five corruptions does the harm.
#
# **After this notebook you can** fine-tune part of a network against a frozen copy of itself, and choose training
# stars so that rare metallicities are not forgotten.
#
# **Before this:** notebook 04.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `starclip.ckpt`, `supervised.ckpt` | `mockstarclip.ckpt`, `supervised_extended.ckpt` | 39 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import FE, figures
from starclip_lib.transforms.corruptions import Compose

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"mockstarclip": {"n_stars": 500}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## The situation
#
# JWST will observe hundreds of red giants, not tens of thousands, and reductions will have faults that the mock spectra
# of StarCLIP lack: wavy continua, dead pixels, hydrogen lines that no model reproduces. The paper's answer is a second,
# small alignment. One copy of the NIRSpec encoder is frozen and sees the *mock* spectrum of a star (noise and gaps). A
# second copy sees the *extended mock* (all five corruptions), and the last layers of its network learn to put the star where
# the frozen copy puts it. The space itself stays StarCLIP's, so APOGEE stars and probes remain usable.
#
# A fit of the emulator (notebook 08b) needs less of this: it fits a wavy continuum along with the labels and leaves out pixels
# that stand off from their neighbours.
#
# ## Choosing the stars
#
# With so few stars every one counts. Drawn at random, nearly all would sit at the peak of the metallicity distribution.
# `mock_stars` fills thirty bins of [Fe/H] in turn until it has enough. It does so within each part of the split, so a
# test star here was never trained on anywhere, and it enlarges the test part with all the test stars there are, up to
# 5,000. (The paper's extra test stars came from its training stars too.)

# %% tags=["nbval-check-output"]
stars = starclip.mock_stars(data, run.params)
print({name: len(rows) for name, rows in stars.items()})

# %%
groups = {"all training stars": data.rows("train"), "chosen for MockStarCLIP": stars["train"]}
run.save_figure(
    "mock_selection", figures.metallicity_histograms({name: data.labels[rows, FE] for name, rows in groups.items()})
)

# %% [markdown]
# ## Training
#
# The loss is the same game of pairs as in notebook 04, now between two versions of one instrument. Beside it, the
# supervised baseline of notebook 03 gets the same chance: its fully connected layers are tuned on the labels of
# the same few stars.

# %%
viewer = starclip.TrainingViewer("MockStarCLIP")
display(viewer)

# %%
run.build("mockstarclip.ckpt", watch=viewer.update)
model = run.model("mockstarclip")
viewer.show(model.history)

# %%
run.build("supervised_extended.ckpt")
baseline = run.model("supervised_extended")

# %%
run.save_figure(
    "mockstarclip_losses", figures.loss_curves({"MockStarCLIP": model.history, "CNN, extended mock": baseline.history})
)

# %% [markdown]
# Do not compare training and validation on the left with each other: a batch of training stars is larger than the whole
# validation set, and picking the right one among more is harder. With so few stars the curves are noisy; the epoch with the
# lowest validation loss is kept.
#
# ## What has it learned?
#
# For each test star, compare where the frozen encoder puts its mock spectrum with where its extended mock lands: first
# through the untuned encoder, then through the tuned one. What counts is not the angle itself but whether another star is
# nearer: the figure shows the angle to the star's own place over that to the nearest other star.

# %%
rows = stars["test"]
noisy = starclip.mock_telescope(run.params, n_views=1)
bad = starclip.extended_telescope(data, run.params, n_views=1)

# %%
frozen = model.encoders["mock"]
target = starclip.run_encoder(frozen, data.nirspec, rows, noisy)[:, 0]
apogee = starclip.run_encoder(run.model("starclip").encoders["apogee"], data.apogee, rows)[:, 0]
encoders = {"same encoder for both": frozen, "after MockStarCLIP": model.encoders["extended"]}
placed = {name: starclip.run_encoder(e, data.nirspec, rows, bad)[:, 0] for name, e in encoders.items()}

# %%
ratios = {}
for name, z in placed.items():
    angles = np.arccos(np.clip(z @ target.T, -1, 1))
    own = angles.diagonal().copy()
    np.fill_diagonal(angles, np.inf)
    ratios[name] = own / angles.min(1)

# %%
run.save_figure("mock_distances", figures.distance_ratios(ratios))

# %%
right = {"mock": target, **placed}
first = {name: ((z @ apogee.T).argmax(1) == np.arange(len(rows))).mean() for name, z in right.items()}
untuned, tuned = (np.degrees(np.median(np.arccos((z * target).sum(1).clip(-1, 1)))) for z in placed.values())
Markdown(
    f"What does that mean for finding APOGEE's spectrum of the star? Mock spectra find it first in {first['mock']:.1%} of "
    f"{len(rows)} searches. Extended mock spectra do in {first['same encoder for both']:.1%} with the same encoder and in "
    f"{first['after MockStarCLIP']:.1%} with the tuned one, so that fine-tuning on {len(stars['train'])} stars changes the "
    f"result by {100 * (first['after MockStarCLIP'] - first['same encoder for both']):+.1f} percentage points, of the "
    f"{100 * (first['mock'] - first['same encoder for both']):.1f} that the corruptions cost. The median angle between the two places of a star is {untuned:.2f}° before and {tuned:.2f}° after: the "
    "contrastive loss only asks that other stars be farther away."
)

# %% [markdown]
# ## Which corruption does the harm?
#
# Take the encoder that was never tuned, and give it spectra with all corruptions but one, for each of the five in turn. Where
# the share found first rises the most, the missing corruption was the worst. A chain of corruptions is a list, so leaving one
# out is a line:

# %%
steps = list(bad.corruption.steps)
without = {"all": bad} | {
    type(one).__name__: starclip.ViewSampler(Compose([s for s in steps if s is not one]), 1, run.params.seed)
    for one in steps
}
shares = {}
for name, telescope in without.items():
    z = starclip.run_encoder(frozen, data.nirspec, rows, telescope)[:, 0]
    shares[name] = ((z @ apogee.T).argmax(1) == np.arange(len(rows))).mean()

# %%
titles = {name: name if name == "all" else f"without {name}" for name in shares}
run.save_figure("one_left_out", figures.shares({titles[n]: share for n, share in shares.items()}, len(rows)))

# %%
gains = {name: share - shares["all"] for name, share in shares.items() if name != "all"}
harmful = max(gains, key=gains.get)
Markdown(
    f"With all corruptions {shares['all']:.1%} of {len(rows)} searches find their star first. Leaving out **{harmful}** changes "
    f"that by {100 * gains[harmful]:+.1f} percentage points, more than any other; the others change it by "
    + ", ".join(f"{100 * gain:+.1f} ({name})" for name, gain in gains.items() if name != harmful)
    + ". (Each chain draws its own noise, so differences within the intervals of the figure mean nothing.)"
)

# %% tags=["nbval-check-output"]
starclip_parameters = run.model("starclip").encoders["nirspec"].parameters()
changed = sum(int((a != b).sum()) for a, b in zip(frozen.parameters(), starclip_parameters, strict=True))
print(f"parameters of the frozen encoder that differ from those of StarCLIP: {changed}")

# %% [markdown]
# ## Exercises
#
# **1.** One of the two encoders must not move while MockStarCLIP is trained. Which one? Answer `"mock"` or `"extended"`.

# %%
answer = None
starclip.check("05.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"mock"`: it is StarCLIP's NIRSpec encoder, whose space APOGEE shares. If it moved, the bridge to APOGEE would break.
#
# </details>
#
# **2.** How many negatives does a query have in a batch of 16 different stars?

# %%
answer = None
starclip.check("05.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 15, all the others.
#
# </details>
#
# **3. (To code.)** Now the reverse: mock spectra (noise and gaps) with one *more* corruption. For each of the other three steps of the
# chain, build a telescope of that step, the noise and the gaps, in the order of `steps`, and compute the share found first as above.
# Put the shares into `yours`, by the name of the step that was added.

# %%
yours = None  # e.g. {"DeadPixels": 0.71, ...}
if yours is not None:
    print(f"noise and gaps alone: {first['mock']:.1%};", {name: f"{share:.1%}" for name, share in yours.items()})

# %% [markdown]
# <details><summary>Solution</summary>
#
# `for added in steps: ...`, with `chain = [s for s in steps if s is added or type(s).__name__ in ("GaussianNoise",
# "DetectorGaps")]` and `telescope = starclip.ViewSampler(Compose(chain), 1, run.params.seed)`. Compare the losses with the gains
# above. Do they add up to the whole difference between mock and extended mock? If not, two corruptions hide the same thing.
#
# </details>
#
# ## Questions
#
# 1. Why is so little tuned, and not everything?
# 2. Batches here hold 64 of the training stars counted above. What would a batch of 8, as in the paper, change about the
#    game of pairs?
# 3. A fit of the continuum would undo one of the five corruptions before the encoder sees it. Which, and what would it cost?
#
# **Next:** [06 · Retrieval](06_retrieval.ipynb) asks how often the right star is found.
