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
# # 03 · Encoders: reading labels off a spectrum
#
# **Purpose.** Train one network for each instrument to predict twenty stellar labels, and a plain CNN to compare with. They
# are where the contrastive alignment of notebook 04 begins.
#
# **The figure to remember.** Residuals against the distance from the mean: what a network is unsure of, it draws to the mean.
#
# **After this notebook you can** explain what the encoders look like inside, why the scaling of their input decides
# whether they learn at all, and how good they are for each label.
#
# **Before this:** notebooks 01 and 02; linear regression.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5` (notebook 01) | `apogee.ckpt`, `nirspec.ckpt`, `supervised.ckpt` | 2.3 minutes | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import APOGEE, LABELS, NIRSPEC, figures
from starclip_lib.metrics.probing import score_labels, score_table
from starclip_lib.models.encoders import make_encoder
from starclip_lib.settings.training import EncoderParams
from starclip_lib.transforms.views import pretraining_telescope

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"pretrain": {"apogee": {"epochs": 30}}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## Two architectures
#
# **StarNet**, the paper's choice, slides small filters along the spectrum: two convolutions with a kernel of eight pixels,
# an average over four, then three fully connected layers that end in the twenty labels. Nearly all of its parameters sit
# in the first fully connected layer. The counts below are exactly the paper's.

# %% tags=["nbval-check-output"]
settings = EncoderParams(kind="starnet")
for instrument in (APOGEE, NIRSPEC):
    network = make_encoder(instrument, settings, seed=0)
    print(f"StarNet for {instrument.title}: {sum(p.numel() for p in network.parameters()):,} parameters")

# %% [markdown]
# **ResidualMLP**, ours, drops the convolutions: one linear layer looks at the whole spectrum at once, and a few residual
# blocks do the rest. A spectrum is not a photograph of a cat: a line is always at the same pixel, so a network need not
# find it wherever it might be. On a CPU a pass over the stars takes a fraction of StarNet's time; what that costs in accuracy
# is computed below.
#
# ## Scaling the input
#
# Continuum-normalised flux is close to 1 everywhere. What tells one star from another are differences of a few per cent,
# and gradient descent hardly sees them beside the large constant. So the first layer of an encoder subtracts the mean
# training spectrum and divides by the overall scatter. Pixels without data become 0. The paper feeds the flux as it is, which
# with a few thousand stars costs accuracy, in gravity above all (question 3). `input_scaling: none` in a parameter file
# restores that; `params/paper.yaml` does.
#
# ## Training
#
# The loss is the mean squared error of the labels after each has been brought to zero mean and unit variance *over the
# training stars*. The NIRSpec encoder and the CNN baseline see freshly corrupted spectra in every epoch, so they
# cannot memorise noise. A checkpoint is written after every epoch: stop the kernel, run the cell again, and the
# training goes on where it was, to the same result. In JupyterLab the curves below grow while you wait; what is already
# trained is shown at once.

# %%
titles = {"apogee": "APOGEE encoder", "nirspec": "NIRSpec encoder", "supervised": "CNN on mock NIRSpec"}
viewers = {name: starclip.TrainingViewer(title) for name, title in titles.items()}
display(*viewers.values())

# %%
for name in ("apogee", "nirspec", "supervised"):
    run.build(f"{name}.ckpt", watch=viewers[name].update)

# %%
models = {name: run.model(name) for name in titles}
for name, model in models.items():
    viewers[name].show(model.history)

# %%
run.save_figure("encoder_losses", figures.loss_curves({titles[name]: model.history for name, model in models.items()}))

# %% [markdown]
# The dot marks the epoch with the lowest validation loss, whose weights are kept. When the validation curve flattens
# while the training curve still falls, the network has begun to learn its training stars by heart.
#
# How long did an epoch take, on this machine?

# %%
for name, model in models.items():
    print(
        f"{titles[name]}: {model.history.epochs} epochs, {sum(model.history.seconds) / model.history.epochs:.1f} s each"
    )

# %% [markdown]
# ## How good are they?
#
# No model has seen the test stars so far. Each encoder is judged on the kind of spectrum it was trained on: APOGEE
# as it is, and for NIRSpec one mock observation of each star, with noise and gaps (perfect ones if `nirspec_input` is
# `clean`). `predict_labels` undoes the scaling of the labels.

# %%
test = data.rows("test")
true = data.labels[test]
seen = {
    "apogee": None,
    "nirspec": pretraining_telescope(run.params, n_views=1),
    "supervised": starclip.mock_telescope(run.params, n_views=1),
}

# %%
predicted = {}
for name, model in models.items():
    spectra = data.apogee if name == "apogee" else data.nirspec
    views = starclip.predict_labels(model, spectra, test, seen[name])
    predicted[titles[name]] = views[:, 0]

# %%
scores = {name: score_labels(true, labels) for name, labels in predicted.items()}
run.save_metrics("encoders", dict(zip(("apogee", "nirspec", "supervised_mock"), scores.values(), strict=True)))
score_table(scores)

# %%
mlp, cnn = scores["NIRSpec encoder"]["rmse"], scores["CNN on mock NIRSpec"]["rmse"]
better = [name for name in LABELS if cnn[name] < mlp[name]]
Markdown(
    f"On mock NIRSpec the CNN has the smaller error for {len(better)} of {len(LABELS)} labels; in temperature it is "
    f"{cnn['Teff']:.1f} K against {mlp['Teff']:.1f} K for the ResidualMLP, in [Fe/H] {cnn['Fe']:.3f} against "
    f"{mlp['Fe']:.3f} dex. From APOGEE's sharper spectra the same architecture reaches "
    f"{scores['APOGEE encoder']['rmse']['Teff']:.1f} K."
)

# %% [markdown]
# Three numbers for each label: **r²**, the share of the star-to-star variance that is explained; **Δ**, the mean error;
# and **RMSE**, the typical error in kelvin or dex. The first two models correspond to the paper's Table 4, though its
# NIRSpec encoder was trained and judged on perfect spectra.

# %%
run.save_figure(
    "encoder_labels",
    figures.predicted_against_true(true, {name: predicted[name] for name in list(predicted)[:2]}, scores),
)

# %% [markdown]
# Points should lie on the black line; the lower panels show what is left, with one standard deviation shaded.
#
# ## Regression to the mean
#
# An uncertain network that minimises squared error leans towards the mean: high values come out too low and low ones too high.
# That is the best it can do for the average star, and it biases any science done with the tails. To see it, draw the residual of
# each star against its true distance from the mean, both in units of the label's spread: for the labels with the steepest
# slope, a middling one, and the flattest. A network that always answered with the mean would lie on the dotted line, of slope -1.

# %%
guess, spread = predicted["NIRSpec encoder"], true.std(axis=0)
distance, residual = (true - true.mean(axis=0)) / spread, (guess - true) / spread
slopes = np.array([np.polyfit(x, y, 1)[0] for x, y in zip(distance.T, residual.T)])
three = np.argsort(slopes)[[0, len(LABELS) // 2, -1]]
run.save_figure("shrinkage", figures.shrinkage(distance[:, three], residual[:, three], [LABELS[i] for i in three]))

# %%
explained = np.array([scores["NIRSpec encoder"]["r2"][name] for name in LABELS])
tail = np.abs(distance[:, three[0]]) > 2
Markdown(
    f"The residuals' slope is {slopes[three[0]]:+.2f} for {LABELS[three[0]]} and {slopes[three[-1]]:+.2f} for "
    f"{LABELS[three[-1]]}. Over the twenty labels it follows what is left unexplained: slope and r² - 1 correlate with a coefficient "
    f"of {np.corrcoef(slopes, explained - 1)[0, 1]:.2f}. In the tails: {tail.sum()} test stars are more than two spreads from "
    f"the mean in {LABELS[three[0]]}, and their predictions miss by {np.abs(residual[tail, three[0]]).mean():.2f} spreads on average, "
    f"those of all stars by {np.abs(residual[:, three[0]]).mean():.2f}."
    if tail.any()
    else "No test star lies more than two spreads from the mean in this label."
)

# %% [markdown]
# ## When is regression enough?
#
# If you have labels for stars like yours, on spectra like yours, and want nothing but these labels: then a regression is the
# right tool, and this notebook could be the last. It is not enough in three cases. Labels must exist; for what has no label, it
# learns nothing. Labels carry the errors and the conventions of the pipeline that made them. And a number cannot be looked at:
# a star that is unlike all training stars gets labels as well, without a warning. Contrastive learning needs to know only which
# two spectra are of the same star, and its answer is a list of real spectra that one can check.

# %% [markdown]
# ## Exercises
#
# **1.** A network predicts the mean of every label, for every star. What is its loss (mean squared error of the Z-scored
# labels)?

# %%
answer = None
starclip.check("03.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1, the variance of a Z-scored label. The loss curves begin lower: one epoch has already taught the networks a good deal.
#
# </details>
#
# **2.** Another network is certain but shrinks: its prediction lies exactly at 0.9 times a star's distance from the mean. What is
# its r²?

# %%
answer = None
starclip.check("03.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.99. What is left is 0.1 times the distance, whose square is 0.01 of the variance. So a high r² does not exclude that
# the tails are biased by ten per cent of their distance.
#
# </details>
#
# **3. (To code.)** Undo the regression to the mean. For each label, fit a straight line to predicted against true labels (`guess`
# against `true`), and turn it around: from the prediction to the label. Put the corrected predictions into `yours`. The slope is
# then 1. What happens to the error?

# %%
yours = None  # corrected predictions, of the shape of `guess`
if yours is not None:
    slope = np.median([np.polyfit(true[:, i], yours[:, i], 1)[0] for i in range(len(LABELS))])
    ratio = np.sqrt(((yours - true) ** 2).mean(0) / ((guess - true) ** 2).mean(0))
    print(f"median slope {slope:.3f}; the RMSE is {ratio.min():.2f} to {ratio.max():.2f} times that of the network")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `lines = [np.polyfit(true[:, i], guess[:, i], 1) for i in range(20)]`, then
# `yours = np.column_stack([(guess[:, i] - b) / a for i, (a, b) in enumerate(lines)])`. The bias of the tails is gone, and the error
# of the typical star has grown: noise is stretched along with the signal. One cannot have both; choose for the question that you
# ask, a single star or a population. (For honesty, fit the lines on validation stars.)
#
# </details>
#
# ## Questions
#
# 1. Which labels are predicted worst, and do they have strong lines in NIRSpec's range? Compare with the limits in
#    notebook 08.
# 2. The NIRSpec encoder is trained with an SNR between 30 and 300. What would happen at an SNR of 10?
# 3. Set `overrides = {"pretrain": {"encoder": {"kind": "starnet", "input_scaling": "none"}}}`, run again, and look at
#    log g. (This takes longer.)
#
# **Next:** [04 · StarCLIP](04_starclip.ipynb) brings the two encoders into one space.
