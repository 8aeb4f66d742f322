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
# # 08 · Probing: labels from embeddings, and how good they could be
#
# **Purpose.** Read twenty labels off the embedding with nothing but a linear regression, and compare with a
# dedicated network and with the physical limit.
#
# **The figure to remember.** The errors of two methods, label by label, over the physical limit.
#
# **After this notebook you can** probe a frozen embedding without fooling yourself, attach an uncertainty to each
# label, and explain what a Cramér-Rao bound is and when a method may lie below it.
#
# **Before this:** notebook 06; linear regression, standard deviations.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5`, the two supervised models | tables and figures | 40 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import APOGEE, LABELS, NIRSPEC, figures
from starclip_lib.inference.fisher import median_bound
from starclip_lib.metrics.probing import average_views, linear_probe, score_labels, score_table

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"nirspec_snr": 50.0}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## The probe
#
# A *linear probe* is one linear regression from the embedding to all labels at once. It is deliberately weak: if it
# succeeds, the information lies in the embedding in the simplest form. It is fitted on the training and validation stars and
# judged on test stars. Each star's five views give five predictions; their mean is the star's label (if the model is a fit,
# with an error for each view, they are combined by their information). Their spread s, together with the intrinsic scatter
# of the survey's own labels, is the uncertainty (the paper's equation 5.1):
#
# $$ \sigma = \sqrt{s^2 + \sigma_{\rm int}^2}. $$

# %%
embeddings = {
    "starclip": run.embeddings("starclip/nirspec"),
    "mockstarclip": run.embeddings("mockstarclip/extended"),
}
known = {name: e.take("train", "val") for name, e in embeddings.items()}
probes = {name: linear_probe(e, data.labels_of(e.star_id), embeddings[name].take("test")) for name, e in known.items()}

# %% [markdown]
# That is one matrix product, and nothing is hidden in it. With a column of ones for the constant, the coefficients are those of
# ordinary least squares:

# %%
space = known["starclip"]
design = np.column_stack([np.ones(len(space.z)), space.z]).astype(np.float64)
coefficients, *_ = np.linalg.lstsq(design, data.labels_of(space.star_id).astype(np.float64), rcond=None)
views = embeddings["starclip"].take("test")
by_hand = np.column_stack([np.ones(len(views.z)), views.z]) @ coefficients  # labels of each view
of_star = np.array([by_hand[views.star_id == star].mean(0) for star in probes["starclip"].star_id])
differ = np.abs(of_star - probes["starclip"].labels).max(0) / probes["starclip"].labels.std(0)
print(f"largest difference to the package's probe, in units of the label's spread: {differ.max():.1e}")

# %% [markdown]
# ## The rival
#
# The supervised CNNs of notebooks 03 and 05 were trained for nothing but labels, on the same kind of spectra. They see
# exactly the same five views of each test star.

# %%
rows = {"supervised_cnn": data.rows("test"), "supervised_cnn_extended": starclip.mock_stars(data, run.params)["test"]}
kinds = {
    "supervised_cnn": ("supervised", starclip.mock_telescope(run.params)),
    "supervised_cnn_extended": ("supervised_extended", starclip.extended_telescope(data, run.params)),
}

# %%
for name, (model, telescope) in kinds.items():
    views = starclip.predict_labels(run.model(model), data.nirspec, rows[name], telescope)
    ids = np.repeat(data.star_id[rows[name]], telescope.n_views)
    probes[name] = average_views(views.reshape(-1, views.shape[2]), ids)

# %%
truth = {name: data.labels_of(probe.star_id) for name, probe in probes.items()}
scores = {name: score_labels(truth[name], probe.labels) for name, probe in probes.items()}
run.save_metrics("probing", scores)

# %% [markdown]
# ## How good can a method be?
#
# Noise limits every method. Change one label a little and see by how much the spectrum changes, compared with the
# noise: that is the Fisher information, and its inverse is the **Cramér-Rao bound**, the smallest error that an unbiased
# method can have. The emulator gives the response of each pixel to each label, so we can compute it. A polynomial
# continuum and the radial velocity are fitted at the same time, since an observer does not know them. The bounds below hold
# for one spectrum without gaps, and are medians over some test stars.

# %%
sample = data.labels[data.rows("test")].astype(float)
sample = sample[starclip.default_emulator().inside_domain(sample)][: run.params.limits.n_stars]
signal = {NIRSPEC: run.params.limits.nirspec_snr, APOGEE: run.params.limits.apogee_snr}
bounds = {
    instrument.name: median_bound(starclip.default_emulator(), sample, instrument, snr)
    for instrument, snr in signal.items()
}
run.save_metrics("limits", bounds)

# %%
titles = {"starclip": "StarCLIP probe", "supervised_cnn": "CNN"}
limit = {f"limit, NIRSpec SNR {run.params.limits.nirspec_snr:.0f}": bounds["nirspec"]}
score_table({title: scores[name] for name, title in titles.items()}, limit)

# %% [markdown]
# This is the counterpart of the paper's Table 5.

# %%
limit_of = np.array([bounds["nirspec"][label] for label in LABELS])
below = {
    title: (np.array([scores[name]["rmse"][label] for label in LABELS]) < limit_of).sum()
    for name, title in titles.items()
}
Markdown(
    "Labels whose error is smaller than the bound: "
    + ", ".join(f"{count} of {len(LABELS)} ({title})" for title, count in below.items())
    + f". That is allowed, for three reasons. The bound is for one view at a signal-to-noise ratio of {run.params.limits.nirspec_snr:.0f}; "
    f"a star has {run.params.corruption.n_views} views with ratios from {run.params.corruption.snr_min:.0f} to "
    f"{run.params.corruption.snr_max:.0f}, and their mean is better than one. And the bound is for *unbiased* methods, while a trained "
    "network has seen which labels giants usually have and leans towards them. For an element without strong lines its answer is then "
    "a good guess and not a measurement. Notebook 12 compares each method with the bound for exactly its own views, prior included."
)

# %%
caption = {f"Cramér-Rao bound, {i.title}, SNR {snr:.0f}": bounds[i.name] for i, snr in signal.items()}
run.save_figure("limits", figures.errors_and_bounds({title: scores[name] for name, title in titles.items()}, caption))

# %%
run.save_figure(
    "probing",
    figures.predicted_against_true(
        truth["starclip"],
        {title: probes[name] for name, title in titles.items()},
        {title: scores[name] for name, title in titles.items()},
    ),
)

# %% [markdown]
# ## Extended mock
#
# The same for heavily corrupted spectra and a probe that learned from some two hundred stars: the counterpart of Table 6.

# %%
titles = {"mockstarclip": "MockStarCLIP probe", "supervised_cnn_extended": "CNN, extended mock"}
score_table({title: scores[name] for name, title in titles.items()})

# %%
run.save_figure(
    "probing_mock",
    figures.predicted_against_true(
        truth["mockstarclip"],
        {title: probes[name] for name, title in titles.items()},
        {title: scores[name] for name, title in titles.items()},
    ),
)

# %% [markdown]
# ## Abundances relative to iron
#
# All [X/H] rise and fall with [Fe/H], so their r² is mostly that of iron. The quantity of interest is [X/Fe]. Here is the
# scatter of predicted minus catalogue [X/Fe], beside the spread of [X/Fe] among the stars. Where the two are close,
# the probe has learned nothing about that element beyond what iron tells.

# %%
run.save_figure(
    "over_iron",
    figures.over_iron(
        truth["starclip"], {"StarCLIP probe": probes["starclip"].labels, "CNN": probes["supervised_cnn"].labels}
    ),
)

# %% tags=["nbval-check-output"]
print("stars judged:", scores["starclip"]["n"], "and", scores["mockstarclip"]["n"])

# %% [markdown]
# ## Exercises
#
# **1.** The RMSE of a label is half of the spread of that label among the stars, without bias. What is r²?

# %%
answer = None
starclip.check("08.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1 − (1/2)² = 0.75. An r² that looks good still leaves half of the spread.
#
# </details>
#
# **2.** The signal-to-noise ratio doubles. By which factor does the Cramér-Rao bound change?

# %%
answer = None
starclip.check("08.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.5. Information grows as the square, and the bound is one over its root.
#
# </details>
#
# **3. (To code.)** Are the uncertainties of the probe honest? `probes["starclip"]` has `.labels` and `.sigma`, each (stars, 20), and the
# catalogue's labels of the same stars are `truth["starclip"]`. For each label, compute the share of stars whose catalogue label lies
# within one sigma, and put the twenty shares into `yours`. Honest Gaussian errors give 68 %.

# %%
yours = None  # twenty numbers between 0 and 1
if yours is not None:
    worst = int(np.argmax(np.abs(np.asarray(yours) - 0.683)))
    print(f"median {np.median(yours):.0%}; farthest from 68 %: {LABELS[worst]} with {yours[worst]:.0%}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `one = probes["starclip"]`, `yours = (abs(one.labels - truth["starclip"]) < one.sigma).mean(axis=0)`. Equation 5.1 knows the
# scatter between views and that of the catalogue. It does not know how far the regression itself is off for a star, nor that the
# mean of five views is more certain than one. The two omissions work against each other, and which wins differs from label to label.
#
# </details>
#
# ## Questions
#
# 1. The CNN sees the same spectra and was trained for labels only. For which labels does it win or lose against the probe?
# 2. Which elements lie at "knowing nothing but iron"? Do they have lines in NIRSpec's range?
# 3. A linear probe on twenty coordinates was fitted to the twenty labels that the encoders were pretrained on. What would be a
#    fairer test of what the contrastive training added?
#
# **Next:** [08b · Physics instead of a network](08b_physics_instead_of_a_network.ipynb) fits the labels in place of learning them.
