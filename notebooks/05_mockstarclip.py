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
# **After this notebook you can** fine-tune part of a network against a frozen copy of itself, and choose training
# stars so that rare metallicities are not forgotten.
#
# **Before this:** notebook 04.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `starclip.ckpt`, `supervised.ckpt` | `mockstarclip.ckpt`, `supervised_extended.ckpt` | 55 seconds | 2026-11-27 |

# %%
# %matplotlib inline
from IPython.display import display

import starclip_lib as starclip
from starclip_lib import FE, figures

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
# second copy sees the *extended mock* (all five corruptions), and its fully connected layers learn to put the star where
# the frozen copy puts it. The space itself stays StarCLIP's, so APOGEE stars and probes remain usable.
#
# An encoder that refines its guess (notebook 04) has less to learn. A wavy continuum is fitted along anyway, a dead pixel stands
# off from its neighbours and is left out, and what remains is where the emulator must not be believed: near the hydrogen
# lines, which here belong to another star. So what the second copy learns is its *trust*, pixel by pixel.
#
# ## Choosing the stars
#
# With 250 stars every one counts. Drawn at random, nearly all would sit at the peak of the metallicity distribution.
# `mock_stars` fills thirty bins of [Fe/H] in turn until it has enough. It does so within each part of the split, so a
# test star here was never trained on anywhere, and it enlarges the test part with all the test stars there are, up to
# 5,000. (The paper's extra test stars came from its training stars too.)

# %% tags=["nbval-check-output"]
stars = starclip.mock_stars(data, run.params)
print({name: len(rows) for name, rows in stars.items()})

# %%
groups = {"all training stars": data.rows("train"), "chosen for MockStarCLIP": stars["train"]}
figure = figures.metallicity_histograms({name: data.labels[rows, FE] for name, rows in groups.items()})
run.save_figure("mock_selection", figure)
figure

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

# %% [markdown]
# The peaks below are the substituted Paschen lines (a fourth lies below 9,700 Å, where the detectors see nothing); outside them
# the two copies trust alike.

# %%
figure = figures.trust(model.encoders)
run.save_figure("mock_trust", figure)
figure

# %%
run.build("supervised_extended.ckpt")
baseline = run.model("supervised_extended")

# %%
figure = figures.loss_curves({"MockStarCLIP": model.history, "CNN, extended mock": baseline.history})
run.save_figure("mockstarclip_losses", figure)
figure

# %% [markdown]
# Do not compare the two curves on the left with each other: a batch of training stars is larger than the whole
# validation set, and picking the right one among more is harder.
#
# ## What has it learned?
#
# For each test star, compare where the frozen encoder puts its mock spectrum with where its extended mock lands: first
# through the untuned encoder, then through the tuned one. Cosine 1 means the same place.

# %%
rows = stars["test"]
noisy = starclip.mock_telescope(run.params, n_views=1)
bad = starclip.extended_telescope(data, run.params, n_views=1)

# %%
frozen = model.encoders["mock"]
target = starclip.run_encoder(frozen, data.nirspec, rows, noisy)[:, 0]
shifted = {"same encoder for both": frozen, "after MockStarCLIP": model.encoders["extended"]}
cosines = {
    name: (target * starclip.run_encoder(encoder, data.nirspec, rows, bad)[:, 0]).sum(1)
    for name, encoder in shifted.items()
}

# %%
figure = figures.cosine_histograms(cosines)
run.save_figure("mock_cosines", figure)
figure

# %% [markdown]
# The closer the histogram lies to 1, the less the corruptions move a star. (The space is flat, so all cosines are close to 1;
# look at the digits.) Alignment cannot reach 1: noise and gaps of the two spectra are different draws, so each has lost
# different information.

# %% tags=["nbval-check-output"]
same = all((a == b).all() for a, b in zip(frozen.parameters(), run.model("starclip").encoders["nirspec"].parameters()))
print("the frozen encoder is StarCLIP's, unchanged:", bool(same))

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
# ## Questions
#
# 1. Why is so little tuned, and not everything?
# 2. Batches here hold 64 of about 156 stars. What would a batch of 8, as in the paper, change about the game of pairs?
# 3. Which of the five corruptions hurts most? Build a chain with only one of them (notebook 02 shows the classes) and
#    compare the cosines.
#
# **Next:** [06 · Retrieval](06_retrieval.ipynb) asks how often the right star is found.
