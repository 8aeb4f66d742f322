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
# # 09 · Similarity browser: which stars are alike?
#
# **Purpose.** Click a star and see its nearest neighbours: on a map, in a table, as spectra and in the Kiel diagram. Change
# the space in which "near" is meant, and watch what alignment does. The figure to remember is the browser itself.
#
# **After this notebook you can** find the twins of a star in either survey, tell a good embedding from a bad one by looking
# at neighbours, and put your own spectrum among the others.
#
# **Before this:** notebook 06.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | everything that notebooks 01 to 06 make | nothing; it is for looking | 14 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown

import starclip_lib as starclip

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"observed": {"folder": "my_spectra"}}

# %%
run = starclip.open_run(params_file, overrides)

# %% [markdown]
# ## The browser
#
# Run the next cell in JupyterLab. (On GitHub, or on a printed page, you see a picture of it. Outside of JupyterLab, the command
# `starclip browse` opens the same thing as a page of its own.)
#
# - **Map.** Every star is there twice, once for each side of the space: circles and diamonds. Click one to make it the query.
#   The star marks the query, rings mark its neighbours. Scroll or drag to zoom; double-click to see all.
# - **Query.** Or type an identifier, or move the three label sliders, which choose the star closest to these labels, or upload
#   a NIRSpec spectrum (PypeIt `spec1d`, STScI `x1d`). Every control can be reached with the Tab key.
# - **Neighbours.** Where the encoders give a posterior of the labels (fits of the emulator do), neighbours come in the order of
#   `ln B`, the logarithm of the Bayes factor of "one star" against "two" (above 0 the spectra favour one); networks order by
#   cosine. The table sorts by any column when you click its head, and saves as CSV. Δ is the neighbour's label minus the query's.
# - **Spectra.** The query in black, its nearest neighbours in colour, differences below. Choose an instrument and a feature.
# - **Space.** *StarCLIP* is the aligned one. *Encoders before alignment* are the same networks as notebook 03 left them. *Raw
#   spectra* compares fluxes pixel by pixel, whatever their wavelengths. *MockStarCLIP* compares mock spectra with worse ones.
#
# To begin with, only test stars are shown, which no model has seen; `all stars` adds those used in training.

# %%
browser = starclip.SimilarityBrowser(run)
browser

# %% [markdown]
# What a click does can be done from Python as well, and what the table shows is a DataFrame. Here is the first test star as
# APOGEE saw it, in the aligned space.

# %%
star = browser.gallery.data.star_id[browser.gallery.rows(test_only=True)[0]]
browser.choose(star, "APOGEE")
browser.table.iloc[:5, :8]

# %%
own = (browser.table["spectrum"] == "APOGEE").mean()
Markdown(
    f"{own:.0%} of these {len(browser.table)} neighbours are APOGEE spectra, like the query. If that is much more than half, the two "
    "instruments' clouds are offset, as in notebook 07, and a search in both finds those of the query's instrument first. To find "
    "the star as the other instrument saw it, choose that one in the menu *search in*."
)

# %% [markdown]
# ## What alignment changes
#
# The same query in every space, and the rank at which the star's own spectrum from the other side appears among all test
# stars. *Raw spectra* compares pixel 1 with pixel 1 and so on, which are different wavelengths in the two instruments: this is
# the paper's baseline, and its rank is a matter of chance. (On the wavelengths that both observe, a comparison finds far more:
# notebook 12.) The encoders of notebook 03 both predict labels, so they find the right region of the map before alignment;
# alignment is to find the star.

# %% tags=["nbval-check-output"]
gallery, rows = browser.gallery, browser.gallery.rows(test_only=True)
print("stars on the map:", len(rows), "of", gallery.data.n_stars)
print("columns of the table:", ", ".join(browser.table.columns[:4]))

# %%
ranks = {}
for space in ("raw spectra", "encoders before alignment", "StarCLIP"):
    found = [
        gallery.search(space, gallery.star(space, "NIRSpec", row), len(rows) - 1, ["APOGEE"], rows).row
        for row in rows[:50]
    ]
    # a star that is not among all others but the last is the last
    ranks[space] = np.array([([*one, row].index(row) + 1) for one, row in zip(found, rows)])
Markdown(
    f"The place of a star's own APOGEE spectrum among {len(rows)}, for the first {len(rows[:50])} test stars as NIRSpec sees them:\n\n- "
    + "\n- ".join(
        f"{space}: first star {r[0]}, median {np.median(r):.0f}, first place {(r == 1).mean():.0%}"
        for space, r in ranks.items()
    )
)

# %%
wrong = rows[:50][ranks["StarCLIP"] > 1]
Markdown(
    f"{len(wrong)} of these stars are not found first in the aligned space"
    + (f"; look at {gallery.data.star_id[wrong[0]]} in the browser." if len(wrong) else ".")
    + " Are its labels and those of the star found instead closer than their errors?"
)

# %% [markdown]
# Fifty stars are a sample; notebook 06 counts over all of them. But it helps to understand one: go back to the
# browser, switch between these spaces, and look at where the rings are.
#
# ## Exercises
#
# **1. Code the search.** Behind a click is one line of algebra. Write a function `nearest(query, candidates)` that returns the number of
# the row of `candidates`, shape (n, k), with the highest cosine to `query`, shape (k,); vectors need not have length one. Put it in
# place of None. Then apply it to the embeddings below: is the answer the star itself, number 0? Try the other queries, and estimate
# SuccessRate@1 of notebook 06 from them.

# %%
queries = run.embeddings("starclip/nirspec").take("test").of_view(0)
candidates = run.embeddings("starclip/apogee").take("test").of_view(0)
print("queries and candidates:", queries.z.shape, candidates.z.shape)
print("stars in the same order:", (queries.star_id == candidates.star_id).mean())

# %%
answer = None
starclip.check("09.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def nearest(query, candidates):
#     return np.argmax(candidates @ query / np.linalg.norm(candidates, axis=1))
#
# np.mean([nearest(z, candidates.z) == i for i, z in enumerate(queries.z)])
# ```
#
# The length of the query is the same for all candidates and does not matter.
#
# </details>
#
# **2.** Colour the PCA map by [Fe/H], and then by log g. Which of them decides where a star lies from left to right? Answer
# `"[Fe/H]"` or `"log g"`.

# %%
answer = None
starclip.check("09.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"[Fe/H]"`: more metal means deeper lines everywhere, so metallicity changes spectra the most, and the first component of a
# PCA is the direction in which the points differ the most. Gravity comes second.
#
# </details>
#
# ## Questions
#
# 1. Diagnose the star named above, or one you found yourself: noise, a gap, or a twin? Which column of the table tells?
# 2. Compare the neighbours of one star in *raw spectra* within NIRSpec: what do they have in common, if not their labels? Look at
#    the gaps.
# 3. Upload a spectrum of your own. Is it inside the cloud of points? What would it mean if it were not?
#
# **Next:** [10 · Observed NIRSpec](10_observed_nirspec.ipynb) puts real JWST spectra through the models.
