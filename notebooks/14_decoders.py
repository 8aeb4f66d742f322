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
# weights beside the best linear predictor, and state what a search for anomalies finds at a given rate of false alarms.
#
# **Before this:** notebooks 02, 06 and 08; principal components.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, `starclip.ckpt` | tables and figures | 1 minute | 2026-11-30 |

# %%
# %matplotlib inline
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
# ## A short description of spectra
#
# A spectrum has eight thousand pixels, but giants differ in a few dozen ways. Principal components of the training
# spectra describe them: each spectrum is the mean plus a weighted sum of components, and a decoder only has to predict the
# weights. For NIRSpec the target is the spectrum *before* noise and gaps, for APOGEE it is what was observed.

# %%
sets = {"nirspec": data.nirspec, "apogee": data.apogee}
bases = {
    name: SpectrumBasis.fit(s.flux[some], s.instrument.no_data, settings.n_components, run.params.seed)
    for name, s in sets.items()
}
weights = {name: bases[name].coefficients(s.flux, s.instrument.no_data) for name, s in sets.items()}

# %% [markdown]
# ## Three ways to predict a spectrum
#
# From an **embedding**, by a network or by ridge regression; and from the **observed spectrum** of the first instrument
# itself, by ridge regression on its own components. The last one is a strong linear method that sees all the pixels; what the
# embedding has lost shows in the difference.

# %%
embedded = {name: run.embeddings(f"starclip/{name}") for name in sets}
numbers = embedded["nirspec"].z.shape[1]
Markdown(
    f"An embedding has {numbers} numbers; a NIRSpec spectrum has {NIRSPEC.n_pix:,} pixels, APOGEE's {APOGEE.n_pix:,}."
)

# %%
known = {name: e.take("train") for name, e in embedded.items()}
judged = {name: e.of_view(0).z[test] for name, e in embedded.items()}
seen = {
    "nirspec": lambda rows, telescope: view_coefficients(bases["nirspec"], data.nirspec, rows, telescope),
    "apogee": lambda rows, telescope: weights["apogee"][rows],
}

# %%
decoders, predicted = {}, {}
for source in sets:
    for target in sets:
        wanted = weights[target][data.rows_of(known[source].star_id)]
        for kind in ("network", "linear"):
            decoder = Decoder(bases[target], kind, seed=run.params.seed).fit(known[source].z, wanted)
            decoders[source, target, kind] = decoder
            predicted[source, target, f"{kind}, from the embedding"] = decoder.predict(judged[source])
        spectra = Decoder(bases[target], "linear").fit(seen[source](train, telescope), wanted)
        predicted[source, target, "linear, from the spectrum"] = spectra.predict(seen[source](test, once))

# %% [markdown]
# ## Scores, region by region
#
# For each wavelength region, the share of the scatter among the stars that a prediction leaves unexplained. Predicting the
# mean spectrum for every star would score 1. APOGEE spectra carry their own noise, which no method can predict.

# %%
title = {"nirspec": "NIRSpec", "apogee": "APOGEE"}
scores = {}
for (source, target, kind), flux in predicted.items():
    spectra = sets[target]
    mean = bases[target].spectra(np.zeros((1, settings.n_components)))[0]
    panel = f"{title[source]} → {title[target]}"
    parts = regions(spectra.instrument)
    scores.setdefault(panel, {})[kind] = spectrum_scores(spectra.flux[test], flux, mean, spectra.instrument, parts)

# %%
r2 = {panel: {kind: s["r2"] for kind, s in kinds.items()} for panel, kinds in scores.items()}
run.save_figure(
    "decoders", figures.region_scores({p: k for p, k in r2.items() if p.endswith("NIRSpec")}, regions(NIRSPEC))
)

# %%
unexplained = {p: {kind: 1 - np.mean(values) for kind, values in kinds.items()} for p, kinds in r2.items()}
pd.DataFrame(unexplained).round(4)

# %%
least = {panel: min(kinds, key=kinds.get) for panel, kinds in unexplained.items()}
Markdown(
    "Mean over the regions; the smallest unexplained share in each column: "
    + "; ".join(f"{panel}, {kind} ({unexplained[panel][kind]:.4f})" for panel, kind in least.items())
    + ". Where the line *from the spectrum* wins, the pixels hold more about the target than the embedding kept; where the "
    f"*network* wins, {numbers} numbers serve better than a linear method on all pixels, gaps and noise included."
)

# %% [markdown]
# An example: one test star in a stretch of 500 Å. Grey is what the decoder's input looked like to the telescope, the broad black
# line the truth behind it, the coloured lines what the decoders predict from the NIRSpec embedding and from the APOGEE embedding,
# which never saw this spectrum. They differ too little to be seen above; the lower panel shows by how much.

# %%
observed = once.views(data.nirspec, test)[:, 0]
star = 3
lines = {f"from {title[s]}": predicted[s, "nirspec", "network, from the embedding"][star] for s in sets}
run.save_figure(
    "decoded", figures.decoded_spectrum(observed[star], data.nirspec.flux[test[star]], lines, NIRSPEC, (15700, 16200))
)

# %%
off = {name: 100 * np.sqrt(np.nanmean((flux - data.nirspec.flux[test[star]]) ** 2)) for name, flux in lines.items()}
Markdown(f"Root mean square over the whole spectrum: {', '.join(f'{name} {rms:.2f} %' for name, rms in off.items())}.")

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
own, partner = (decoders[source, "nirspec", "network"] for source in sets)
detector = anomalies.PairDetector(own, partner, watch.pairs(data.nirspec.flux, val), NIRSPEC)
normal = detector(watch.pairs(data.nirspec.flux, test))

# %%
rng = np.random.default_rng([run.params.seed, 13])
planted = {"wrong pair": watch.pairs(data.nirspec.flux, test, partners=np.roll(test, 1))}
bright, _ = anomalies.add_emission_line(observed, NIRSPEC, settings.line_height, rng)
planted["emission line"] = watch.observed(bright, test)
for element in ("Mg", "Si", "C"):
    rows, flux = anomalies.stripped(data, test, element, settings.stripped, starclip.default_emulator())
    planted[f"[{element}/H] − {settings.stripped:g}\n({len(rows)} stars)"] = watch.pairs(flux, rows)

# %%
rates = {
    name: {score: anomalies.detection_rate(normal[score], values) for score, values in detector(pairs).items()}
    for name, pairs in planted.items()
}
run.save_figure("anomalies", figures.detection_rates(rates))

# %%
pd.DataFrame(rates).round(2)

# %% [markdown]
# No single score finds everything. A wrong partner shows in the angle between the embeddings, which is what they were trained
# for. An emission line shows in the residuals and hardly moves the embedding. A missing element moves the embedding of the
# spectrum along with it. How much of it the spectrum's *own* decoder then still calls strange depends on the element: if training
# stars with such an abundance pattern are rare, the decoder cannot follow. APOGEE saw the star as it should be, so
# its angle and its prediction disagree with the changed spectrum. In numbers:

# %%
best = {name.split("\n")[0]: max(found, key=found.get) for name, found in rates.items()}
Markdown(
    "; ".join(
        f"{name.split(chr(10))[0]}: best score {best[name.split(chr(10))[0]]} ({max(found.values()):.1%}), residuals of its own "
        f"decoder {max(v for k, v in found.items() if 'its own' in k):.0%}, of APOGEE's {max(v for k, v in found.items() if 'APOGEE' in k):.0%}"
        for name, found in rates.items()
    )
    + "."
)

# %%
run.save_metrics(
    "evaluation.decoders", {"scores": scores, "anomalies": {k.split("\n")[0]: r for k, r in rates.items()}}
)

# %% tags=["nbval-check-output"]
print("regions:", len(regions(NIRSPEC)), "in NIRSpec,", len(regions(APOGEE)), "in APOGEE")
print("anomalies planted:", ", ".join(name.split("\n")[0] for name in planted))

# %% [markdown]
# ## Exercises
#
# **1.** A predictor leaves 4 % of the scatter unexplained. What is its r²?

# %%
answer = None
starclip.check("14.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.96, one minus the unexplained share.
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
