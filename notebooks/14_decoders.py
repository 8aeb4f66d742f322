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
# # 14 · Decoders: what an embedding knows of the spectrum, and what does not belong
#
# **Purpose.** Predict whole spectra from embeddings, of the same and of the other instrument, and use the difference between
# predicted and observed to find what is strange.
#
# **After this notebook you can** translate a spectrum from one instrument to another, say whether a network is worth its
# weights beside a linear predictor, and state what a search for anomalies finds at a given rate of false alarms.
#
# **Before this:** notebooks 02, 06 and 08; principal components.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, `starclip.ckpt` | tables and figures | 8 minutes (beside 16) | 2026-12-01 |

# %%
# %matplotlib inline
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import APOGEE, NIRSPEC, figures
from starclip_lib.suite import anomalies, report
from starclip_lib.suite.decoders import regions, train_decoders

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"line_height": 0.05}}

# %%
run = starclip.open_run(params_file, overrides)
decoders, scores = train_decoders(run)

# %% [markdown]
# ## From an embedding back to a spectrum
#
# Giants differ in a few dozen ways, so each spectrum is well described by the mean and a weighted sum of principal components of the
# training spectra, and a decoder only predicts the weights. For NIRSpec the target is the spectrum *before* noise and gaps, for
# APOGEE what was observed, whose noise no method can predict. We predict the weights from an **embedding**, by a network, and from the
# **observed spectrum** itself, by ridge regression on its own components: a strong linear method that sees all the pixels. The
# difference shows what the embedding has lost.

# %%
r2 = {panel: {kind: s["r2"] for kind, s in kinds.items()} for panel, kinds in scores.items()}
shown = {panel: kinds for panel, kinds in r2.items() if panel.endswith("NIRSpec")}
run.save_figure("decoders", figures.region_scores(shown, regions(NIRSPEC)))

# %%
left = report.decoders_table(scores)
left.round(4)

# %%
numbers = run.embeddings("starclip/nirspec").z.shape[1]
below, above = (", ".join(left.index[rows]) or "nowhere here" for rows in (left["ratio"] < 1, left["ratio"] >= 1))
Markdown(
    f"The {numbers} numbers of an embedding serve better than a linear method on the {NIRSPEC.n_pix:,} noisy pixels of NIRSpec or the "
    f"{APOGEE.n_pix:,} of APOGEE (ratio below 1): {below}. The pixels hold more about the target than the embedding kept: {above}."
)

# %% [markdown]
# The table gives the share of the scatter among stars that a prediction leaves unexplained; the mean spectrum for every star would
# score 1.
#
# ## What does not belong
#
# The wrong star in the slit, an emission line, a star with an odd composition: we plant three kinds of anomaly and count how many
# five scores find. The threshold of each score is the value that one in a hundred *normal* pairs exceeds, so all have the same price
# in false alarms. What the decoders usually get wrong is learned on validation stars and does not count as strange.

# %%
normal, strange = anomalies.plant(run, decoders)
rates = {
    name: {score: anomalies.detection_rate(normal[score], values) for score, values in found.items()}
    for name, found in strange.items()
}
run.save_figure("anomalies", figures.detection_rates(rates))

# %%
Markdown(report.anomalies_told(rates))

# %% [markdown]
# **Why no single score finds everything.** A wrong partner changes the angle between the embeddings, which is what they were
# trained for. An emission line is like no star, so no decoder can draw it: it stays in the residuals. A missing element moves the
# embedding along with it, and its own decoder draws the changed spectrum as far as training stars had such abundances, which
# differs from element to element. APOGEE saw the star as it should be, so its prediction disagrees with the changed spectrum.

# %%
run.save_metrics("evaluation.decoders", {"scores": scores, "anomalies": rates})

# %% tags=["nbval-check-output"]
print("regions:", len(regions(NIRSPEC)), "in NIRSpec,", len(regions(APOGEE)), "in APOGEE")
print("anomalies planted:", ", ".join(strange))

# %% [markdown]
# ## Exercises
#
# **1. Code the alarm.** Write a function `found(normal, planted)` that takes the scores of normal pairs and those of planted anomalies
# and returns the share of the planted ones beyond the score that one in a hundred normal pairs exceeds. Put it in place of
# None, then apply it to `normal[score]` and `strange["wrong pair"][score]` for each `score`, and compare with the figure.

# %%
answer = None
starclip.check("14.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def found(normal, planted):
#     return np.mean(planted > np.quantile(normal, 0.99))
#
# {score: found(normal[score], strange["wrong pair"][score]) for score in normal}
# ```
#
# </details>
#
# **2.** At 1 % false alarms a score finds 60 % of a kind of anomaly. In a survey of 10,000 stars 10 are of that kind. How many
# of the stars on your list of alarms are real anomalies, in per cent?

# %%
answer = None
starclip.check("14.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 6 of about 106: 5.7 %. When anomalies are rare, most alarms are false even at 1 %; somebody has to look at them.
#
# </details>
#
# ## Questions
#
# 1. Where does the linear predictor from the spectrum win over the embedding, and why?
# 2. An element is odd in the star itself, so both instruments see it. Which of our scores would find it?
# 3. What would a cosmic-ray hit look like to each score?
#
# **Next:** [15 · Densities](15_densities.ipynb) asks how far to trust a label.
