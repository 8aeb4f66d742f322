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
# # 15 · Densities: how far to trust a label
#
# **Purpose.** Replace a label and its error bar by a probability density that can be checked, and find out what noise in the
# inputs does to every regression.
#
# **After this notebook you can** test whether stated uncertainties come true, repair them if not, and recognise the
# attenuation bias that makes metal-poor stars look too metal-rich and the reverse.
#
# **Before this:** notebook 08; cumulative distributions.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5` | tables and figures | 1 minute | 2026-11-30 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import LABELS, NIRSPEC, figures, label_index
from starclip_lib.suite import attenuation, densities
from starclip_lib.suite.decoders import SpectrumBasis
from starclip_lib.metrics.probing import average_views, fit_probe

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"attenuation_snr": [10.0, 100.0]}}

# %%
run = starclip.open_run(params_file, overrides)
data, settings = run.data, run.params.evaluation
embeddings = run.embeddings("starclip/nirspec")

# %% [markdown]
# ## Three roles for stars
#
# A density that can be checked needs three kinds of stars: those whose labels we *know* (training), those that *calibrate* (validation),
# and those that are *judged* (test). Each star is the mean of its five views in the embedding.

# %%
known = embeddings.take("train")
probe = fit_probe(known, data.labels_of(known.star_id))
sample = {}
for split in ("train", "val", "test"):
    part = embeddings.take(split)
    z, predicted = (average_views(values, part.star_id) for values in (part.z, probe.predict(part.z.astype(float))))
    sample[split] = (z.labels, data.labels_of(z.star_id), predicted.labels)
sigma = predicted.sigma  # equation 5.1; the test stars came last

# %% [markdown]
# ## Densities from neighbours
#
# The stars that lie near a star in the embedding resemble it, so the spread of their labels is a density for its own label.
# How many neighbours? Few follow the embedding closely, but a density made of five values is ragged; many blur it. After
# CLAP we let every star choose: it takes the number of neighbours that came out best *calibrated* for validation stars in
# its surroundings.
#
# **Calibrated** means that things happen as often as stated. Take the cumulative probability of the true label under its
# density, the *probability integral transform* (PIT). Over many stars it must be uniform: a tenth of the truths below the
# 10 % quantile, and so on. A histogram shaped like a ∪ means densities that are too narrow, one like a ∩ too wide ones. If it
# is not flat for calibration stars, its cumulative histogram says by how much to correct the probabilities.

# %%
found, scores = {}, {}
for name in LABELS:
    column = label_index(name)
    parts = [densities.Sample(z, true[:, column], guess[:, column]) for z, true, guess in sample.values()]
    found[name] = densities.compare_methods(*parts, sigma[:, column])
    scores[name] = {method: densities.density_scores(d, parts[2].true) for method, d in found[name].items()}

# %%
true = sample["test"][1]
pits = {n: {m: d.pit(true[:, label_index(n)]) for m, d in found[n].items()} for n in ("Teff", "Fe", "V")}
run.save_figure("pit", figures.pit_histograms(pits))

# %% [markdown]
# Three numbers for each method, over all twenty labels. *Coverage*: how often the truth lies in the central 68 % and 95 % of
# the density. The *continuous ranked probability score* (CRPS) rewards densities that are both narrow and right; it is given
# relative to that of the method in the first row, smaller is better. The last column is the largest distance of the PIT from
# uniform.

# %%
table = pd.DataFrame(
    {
        method: {
            key: np.mean([scores[n][method][key] for n in LABELS])
            for key in ("coverage68", "coverage95", "pit_distance")
        }
        for method in scores["Fe"]
    }
).T
first = {name: scores[name]["Gaussian, eq. 5.1"]["crps"] for name in LABELS}
table.insert(0, "CRPS, relative", [np.mean([scores[n][m]["crps"] / first[n] for n in LABELS]) for m in table.index])
table.round(3)

# %%
sharpest = table["CRPS, relative"].idxmin()

# %%
verdicts = {m: densities.verdict(row["coverage68"], len(true)) for m, row in table.iterrows()}
Markdown(
    "Central 68 % intervals: "
    + "; ".join(f"{m}, {table.loc[m, 'coverage68']:.3f}: {word}" for m, word in verdicts.items())
    + f". The smallest CRPS, {table.loc[sharpest, 'CRPS, relative']:.2f} of the first row, has: {sharpest}."
)

# %% [markdown]
# The Gaussian of equation 5.1 adds the survey's own label errors to the scatter of a star's views. It can err on either side: what
# a probe gets wrong about a star it gets wrong in *all* its views, which no scatter shows, so the interval can be too narrow; and
# where the views scatter little, the label errors, which are not errors of the spectrum, make it too wide. Only a test
# against the truth tells which. Plain neighbours scatter by more than we know about the star: in twenty dimensions even the
# nearest star is not near, which costs CRPS. Recalibration repairs the stated probabilities, not the knowledge: compare the CRPS with
# and without it. Neighbours of the *residuals* of the linear probe keep the probe's sharpness.
#
# ## Attenuation: why extreme stars look ordinary
#
# Regress a label on a noisy input and the slope comes out too flat: noise spreads the input, and the regression, which
# minimises the error, leans towards the mean. With one input the slope is
#
# $$ \lambda = \frac{\sigma_x^2}{\sigma_x^2 + \sigma_e^2}, $$
#
# whatever the amount of data. Networks do the same. The most metal-poor stars come out too metal-rich, the most metal-rich
# too metal-poor, and gradients in the Galaxy too shallow. If the noise is *known*, it can be undone: subtract its variance
# from that of the inputs (linear), or treat the true inputs as unknowns and fit them along with the network (LatentNN).

# %%
rows = {split: data.rows(split, 12_000) for split in ("train", "test")}
basis = SpectrumBasis.fit(
    data.nirspec.flux[rows["train"]], NIRSPEC.no_data, settings.attenuation_inputs, run.params.seed
)
inputs = {
    split: (basis.coefficients(data.nirspec.flux[r], NIRSPEC.no_data), data.labels[r].astype(float))
    for split, r in rows.items()
}

# %% [markdown]
# The inputs are the first principal components of clean NIRSpec spectra, with noise added. Since the components are orthonormal,
# noise of 1/SNR in each pixel is noise of 1/SNR in each component.

# %%
results = [
    attenuation.slopes_against_noise(*inputs.values(), 1 / snr, run.params.seed) for snr in settings.attenuation_snr
]
without = attenuation.slopes_against_noise(*inputs.values(), 0.0, run.params.seed)

# %%
slopes = {
    n: {m: [float(r[m][label_index(n)]) for r in results] for m in attenuation.METHODS} for n in figures.MAIN_LABELS
}
ceiling = {n: float(without["linear"][label_index(n)]) for n in figures.MAIN_LABELS}
run.save_figure("attenuation", figures.attenuation_slopes(settings.attenuation_snr, slopes, ceiling))

# %% [markdown]
# The dotted line is the slope of the linear regression *without* noise: where it lies below 1, these few inputs do not determine
# the label, which no correction can repair. The plain regressions fall away from it as the noise grows. Errors in variables
# move the linear slope back towards the line, and can overshoot it where most of an input's scatter is noise: a large variance is
# then subtracted from one that is hardly larger. The latent inputs of the network do most of the same, and may go beyond the
# line too: a latent input absorbs any scatter of the labels, also that which the inputs could not have explained.

# %%
lowest = settings.attenuation_snr[0]

# %%
Markdown(
    f"At SNR {lowest:g}, slope of the plain regression, of the corrected one, and without noise: "
    + "; ".join(
        f"{n}, {slopes[n]['linear'][0]:.2f}, {slopes[n]['linear, corrected'][0]:.2f}, {ceiling[n]:.2f}" for n in slopes
    )
    + ". The correction overshoots by more than 0.1 for: "
    + (", ".join(n for n in slopes if slopes[n]["linear, corrected"][0] > ceiling[n] + 0.1) or "none of them")
    + "."
)

# %% [markdown]
# The corrections cost something. An unbiased prediction scatters more: the slope was the price of a smaller mean error. For a
# single star the biased value may be the better guess; for a *population*, a gradient or a distribution, the unbiased one is
# needed.

# %%
run.save_metrics(
    "evaluation.densities",
    {"scores": scores, "attenuation": {"snr": list(settings.attenuation_snr), "slopes": slopes, "ceiling": ceiling}},
)

# %% tags=["nbval-check-output"]
print("methods:", "; ".join(found["Fe"]))
print("slopes at SNR", ", ".join(f"{snr:g}" for snr in settings.attenuation_snr), "for", ", ".join(slopes))

# %% [markdown]
# ## Exercises
#
# **1.** An input has a spread of 2 and noise of 1 (standard deviations). What slope does a linear regression find, if the true
# one is 1?

# %%
answer = None
starclip.check("15.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 2² / (2² + 1²) = 0.8.
#
# </details>
#
# **2.** The PIT histogram of a method has the shape of a ∪. Are its densities too "narrow" or too "wide"?

# %%
answer = None
starclip.check("15.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# "narrow", or "too narrow": the truth lies in the outermost quantiles more often than stated.
#
# </details>
#
# ## Questions
#
# 1. Recalibration uses all validation stars at once. For which stars could the densities still be wrong?
# 2. A density may be calibrated and useless. Which one would be, and which score would notice?
# 3. Would you publish the corrected or the uncorrected label of the most metal-poor star of a survey?
#
# **Next:** [16 · Transfer](16_transfer.ipynb) takes a network to an instrument that it has never seen.
