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
# **After this notebook you can** explain what the encoders look like inside, why the scaling of their input decides
# whether they learn at all, and how good they are for each label.
#
# **Before this:** notebooks 01 and 02; linear regression.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5` (notebook 01) | `apogee.ckpt`, `nirspec.ckpt`, `supervised.ckpt` | 90 seconds | 2026-11-30 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import APOGEE, LABELS, NIRSPEC, figures
from starclip_lib.metrics.probing import score_labels, score_table
from starclip_lib.models.factory import make_encoder
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
# Points should lie on the black line; the lower panels show what is left, with one standard deviation shaded. An uncertain
# network that minimises squared error leans towards the mean: high values come out too low and low ones too high. This
# *regression to the mean* biases any science done with the tails. Its measure is the slope of predicted against true labels.

# %%
guess = predicted["NIRSpec encoder"]
slopes = {name: np.polyfit(true[:, i], guess[:, i], 1)[0] for i, name in enumerate(LABELS)}
least, second = sorted(slopes, key=slopes.get)[:2]
Markdown(
    f"The slope of the NIRSpec encoder is {slopes['Fe']:.2f} for Fe; it is smallest for {least} ({slopes[least]:.2f}) and "
    f"{second} ({slopes[second]:.2f}). A slope of 1 is no regression to the mean."
)

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
# ## Questions
#
# 1. Which labels are predicted worst, and do they have strong lines in NIRSpec's range? Compare with the limits in
#    notebook 08.
# 2. The NIRSpec encoder is trained with an SNR between 30 and 300. What would happen at an SNR of 10?
# 3. Set `overrides = {"pretrain": {"encoder": {"kind": "starnet", "input_scaling": "none"}}}`, run again, and look at
#    log g. (This takes longer.)
#
# **Next:** [04 · StarCLIP](04_starclip.ipynb) brings the two encoders into one space.
