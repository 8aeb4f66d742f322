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
# | a finished run: `data.h5`, `embeddings.h5`, `starclip.ckpt` | tables and figures | 1 minute | 2026-11-30 |

# %%
# %matplotlib inline
import itertools

import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import APOGEE, NIRSPEC, figures
from starclip_lib.suite import anomalies
from starclip_lib.suite.decoders import Decoder, SpectrumBasis, regions, spectrum_scores, view_coefficients

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"line_height": 0.05}}

# %%
run = starclip.open_run(params_file, overrides)
data, settings = run.data, run.params.evaluation
telescope, once = starclip.mock_telescope(run.params), starclip.mock_telescope(run.params, n_views=1)
train, some = data.rows("train"), data.rows("train", 12_000)  # of a survey not all: spectra are held in memory
val, test = (data.rows(split, 5000) for split in ("val", "test"))

# %% [markdown]
# ## From an embedding back to a spectrum
#
# A spectrum has eight thousand pixels, but giants differ in a few dozen ways. Principal components of the training
# spectra describe them: each spectrum is the mean plus a weighted sum of components, and a decoder only has to predict the
# weights. For NIRSpec the target is the spectrum *before* noise and gaps, for APOGEE it is what was observed.
#
# We predict the weights in two ways: from an **embedding**, by a network; and from the **observed spectrum** of the first
# instrument itself, by ridge regression on its own components. The second is a strong linear method that sees all the pixels;
# what the embedding has lost shows in the difference.

# %%
sets = {"nirspec": data.nirspec, "apogee": data.apogee}
bases = {
    name: SpectrumBasis.fit(s.flux[some], s.instrument.fill_value, settings.n_components, run.params.seed)
    for name, s in sets.items()
}
weights = {name: bases[name].coefficients(s.flux, s.instrument.fill_value) for name, s in sets.items()}
embedded = {name: run.embeddings(f"starclip/{name}") for name in sets}
seen = {
    "nirspec": lambda rows, telescope: view_coefficients(bases["nirspec"], data.nirspec, rows, telescope),
    "apogee": lambda rows, telescope: weights["apogee"][rows],
}

# %%
decoders, predicted = {}, {}
for source, target in itertools.product(sets, sets):
    known, judged = embedded[source].take("train"), embedded[source].of_view(0).z[test]
    wanted = weights[target][data.rows_of(known.star_id)]
    decoders[source, target] = Decoder(bases[target], "network", seed=run.params.seed).fit(known.z, wanted)
    predicted[source, target, "network, from the embedding"] = decoders[source, target].predict(judged)
    pixels = Decoder(bases[target], "linear").fit(seen[source](train, telescope), wanted)
    predicted[source, target, "linear, from the spectrum"] = pixels.predict(seen[source](test, once))

# %% [markdown]
# For each wavelength region, we ask which share of the scatter among the stars a prediction leaves unexplained. Predicting
# the mean spectrum for every star would score 1. APOGEE spectra carry their own noise, which no method can predict.

# %%
title = {"nirspec": "NIRSpec", "apogee": "APOGEE"}
scores = {}
for (source, target, kind), flux in predicted.items():
    part, parts = sets[target], regions(sets[target].instrument)
    mean = bases[target].spectra(np.zeros((1, settings.n_components)))[0]
    panel = scores.setdefault(f"{title[source]} → {title[target]}", {})
    panel[kind] = spectrum_scores(part.flux[test], flux, mean, part.instrument, parts)

# %%
r2 = {panel: {kind: s["r2"] for kind, s in kinds.items()} for panel, kinds in scores.items()}
shown = {panel: kinds for panel, kinds in r2.items() if panel.endswith("NIRSpec")}
run.save_figure("decoders", figures.region_scores(shown, regions(NIRSPEC)))

# %%
left = pd.DataFrame({panel: {kind: 1 - np.mean(v) for kind, v in kinds.items()} for panel, kinds in r2.items()}).T
left["ratio"] = left["network, from the embedding"] / left["linear, from the spectrum"]
left.round(4)

# %%
numbers = embedded["nirspec"].z.shape[1]
Markdown(
    f"An embedding has {numbers} numbers; a NIRSpec spectrum has {NIRSPEC.n_pix:,} pixels, APOGEE's {APOGEE.n_pix:,}. A ratio below 1 "
    f"means that these {numbers} numbers serve better than a linear method on noisy pixels with gaps: "
    f"{', '.join(left.index[left['ratio'] < 1]) or 'nowhere here'}. Above 1 the pixels hold more about the target than the embedding "
    f"kept: {', '.join(left.index[left['ratio'] >= 1]) or 'nowhere here'}."
)

# %% [markdown]
# ## What does not belong
#
# Real data hold surprises: the wrong star in the slit, an emission line, a star with an odd composition. We plant three
# kinds and count how many are found by five scores. Each score has a threshold that one in a hundred *normal* pairs
# exceeds; that is the price in false alarms, and it is the same for all. What the decoders usually get wrong is learned
# on validation stars and does not count as strange.

# %%
encoder = run.model("starclip").encoders["nirspec"]
watch = anomalies.Observatory(data, encoder, embedded["apogee"], telescope)
own, partner = (decoders[source, "nirspec"] for source in sets)
detector = anomalies.PairDetector(own, partner, watch.pairs(data.nirspec.flux, val), NIRSPEC)
normal = detector(watch.pairs(data.nirspec.flux, test))

# %%
rng = np.random.default_rng([run.params.seed, 13])
planted = {"wrong pair": watch.pairs(data.nirspec.flux, test, partners=np.roll(test, 1))}
observed = once.views(data.nirspec, test)[:, 0]
bright, _ = anomalies.add_emission_line(observed, NIRSPEC, settings.line_height, rng)
planted["emission line"] = watch.observed(bright, test)
for element in ("Mg", "Si", "C"):
    rows, flux = anomalies.stripped(data, test, element, settings.stripped, starclip.default_emulator())
    planted[f"[{element}/H] − {settings.stripped:g}"] = watch.pairs(flux, rows)

# %%
strange = {name: detector(pair) for name, pair in planted.items()}
rates = {
    name: {score: anomalies.detection_rate(normal[score], values) for score, values in found.items()}
    for name, found in strange.items()
}
run.save_figure("anomalies", figures.detection_rates(rates))

# %%
rows = []
for name, found in rates.items():
    best = max(found, key=found.get)
    own, partner = (max(v for k, v in found.items() if side in k) for side in ("its own", "APOGEE"))
    more = "APOGEE's" if partner > own else "its own" if own > partner else "neither"
    rows.append(
        f"{name}: best score *{best}*, {found[best]:.1%}; residuals from its own embedding {own:.1%}, from APOGEE's {partner:.1%} "
        f"(better: {more})"
    )
Markdown("Found at 1 % false alarms:\n\n- " + "\n- ".join(rows))

# %% [markdown]
# **Why no single score finds everything.** A wrong partner changes the angle between the embeddings, which is what they were
# trained for. An emission line is like no star, so no decoder can draw it: it stays in the residuals. A missing element moves the
# embedding of the spectrum along with it, and its own decoder then draws the changed spectrum as far as training stars had such
# abundances; how far that is differs from element to element. APOGEE saw the star as it should be, so its prediction disagrees with
# the changed spectrum.

# %%
run.save_metrics("evaluation.decoders", {"scores": scores, "anomalies": rates})

# %% tags=["nbval-check-output"]
print("regions:", len(regions(NIRSPEC)), "in NIRSpec,", len(regions(APOGEE)), "in APOGEE")
print("anomalies planted:", ", ".join(planted))

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
