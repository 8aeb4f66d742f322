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
# | a finished run: `data.h5`, `embeddings.h5` | tables and figures | 21 seconds | 2026-12-01 |

# %%
# %matplotlib inline
from IPython.display import Markdown
from sklearn.neighbors import NearestNeighbors

import starclip_lib as starclip
from starclip_lib import FE, figures, label_index
from starclip_lib.suite import attenuation, densities, report
from starclip_lib.metrics.probing import average_views
from starclip_lib.models.embedding_index import fit_probe

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"attenuation_snr": [10.0, 100.0]}}

# %%
run = starclip.open_run(params_file, overrides)
data, settings = run.data, run.params.evaluation
embeddings = run.embeddings("starclip/nirspec")

# %% [markdown]
# ## Densities from neighbours
#
# Stars near a star in the embedding resemble it, so the spread of their labels is a density for its own label. A density made of
# five neighbours is ragged; many neighbours blur it. After CLAP we let every star choose the number that came out best *calibrated*
# for validation stars in its surroundings.
#
# **Calibrated** means that things happen as often as stated. Take the cumulative probability of the true label under its density, the
# *probability integral transform* (PIT). Over many stars it must be uniform: a histogram shaped like a ∪ means densities that are
# too narrow, one like a ∩ too wide ones. If it is not flat for calibration stars, its cumulative histogram tells by how much to
# correct the probabilities. So we need stars whose labels we *know* (training), stars that *calibrate* (validation) and stars that are
# *judged* (test); each is the mean of its five views.

# %%
known = embeddings.take("train")
probe = fit_probe(known, data.labels_of(known.star_id))
sample = {}
for split in ("train", "val", "test"):
    part = embeddings.take(split)
    z, predicted = (average_views(values, part.star_id) for values in (part.z, probe.predict(part.z.astype(float))))
    sample[split] = (z.labels, data.labels_of(z.star_id), predicted.labels)
found, scores = densities.compare_all(sample, predicted.sigma)  # equation 5.1; the test stars came last

# %%
true = sample["test"][1]
pits = {n: {m: d.pit(true[:, label_index(n)]) for m, d in found[n].items()} for n in ("Teff", "Fe", "V")}
run.save_figure("pit", figures.pit_histograms(pits))

# %%
table = densities.table(scores)
table.round(3)

# %%
Markdown(report.densities_told(table, len(true)))

# %% [markdown]
# *Coverage* is how often the truth lies in the central 68 % (95 %) of the density. The *continuous ranked probability score* (CRPS)
# rewards densities that are both narrow and right; smaller is better. The last column is the largest distance of the PIT from uniform.
#
# **Why.** What a probe gets wrong about a star it gets wrong in *all* its views, which no scatter of views shows: the Gaussian of
# equation 5.1 may be too narrow. It also adds the survey's own label errors: it may be too wide. Only a test against the truth
# tells. Where neighbours are too wide, their labels scatter by more than we know about the star: in twenty dimensions even the
# nearest star is not near. Recalibration repairs the stated probabilities, not the knowledge.
#
# ## Attenuation: why extreme stars look ordinary
#
# Noise spreads the input of a regression, and the regression, which minimises the error, leans towards the mean. With one input
# the slope of predicted against true is
#
# $$ \lambda = \frac{\sigma_x^2}{\sigma_x^2 + \sigma_e^2}, $$
#
# whatever the amount of data: the most metal-poor stars come out too metal-rich. If the noise is *known*, its variance can be subtracted
# from that of the inputs. Ours are principal components of clean NIRSpec spectra: these are orthonormal, so noise of 1/SNR in each
# pixel is noise of 1/SNR in each component.

# %%
slopes, ceiling = attenuation.slopes_by_snr(run, figures.MAIN_LABELS)
run.save_figure("attenuation", figures.attenuation_slopes(settings.attenuation_snr, slopes, ceiling))

# %%
Markdown(report.slopes_told(settings.attenuation_snr[0], slopes, ceiling))

# %% [markdown]
# Where the dotted line lies below 1, these inputs do not determine the label, and no correction can repair that. A correction
# overshoots where most of an input's scatter is noise: a large variance is subtracted from one that is hardly larger. For a single star
# the biased value may be the better guess, since an unbiased one scatters more; for a *population*, a gradient or a distribution, the
# unbiased one is needed.

# %%
attenuated = {"snr": list(settings.attenuation_snr), "slopes": slopes, "ceiling": ceiling}
run.save_metrics("evaluation.densities", {"scores": scores, "attenuation": attenuated})

# %% tags=["nbval-check-output"]
print("methods:", "; ".join(found["Fe"]))
print("slopes at SNR", ", ".join(f"{snr:g}" for snr in settings.attenuation_snr), "for", ", ".join(slopes))

# %% [markdown]
# ## Exercises
#
# **1. Code the PIT.** Below, `samples` are [Fe/H] of the sixteen training stars nearest to each test star, shape (n, 16), and
# `truth`, shape (n,), is its own. Write a function `pit(samples, truth)` that returns, for each star, the share of its samples below the
# truth. Put it in place of None; then draw a histogram of `pit(samples, truth)`. Is it flat, a ∪ or a ∩? Compare with the
# panel "16 neighbours" above.

# %%
z, labels, _ = sample["train"]
near = NearestNeighbors(n_neighbors=16).fit(z).kneighbors(sample["test"][0], return_distance=False)
samples, truth = labels[near][:, :, FE], true[:, FE]
print(samples.shape, truth.shape)

# %%
answer = None
starclip.check("15.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def pit(samples, truth):
#     return (samples < truth[:, None]).mean(axis=1)
# ```
#
# If you find a ∩, few values near 0 and 1, neighbours scatter by more than we know about the star.
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
