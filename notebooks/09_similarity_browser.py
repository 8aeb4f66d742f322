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
# the space in which "near" is meant, and watch what alignment does.
#
# **After this notebook you can** find the twins of a star in either survey, tell a good embedding from a bad one by looking
# at neighbours, and put your own spectrum among the others.
#
# **Before this:** notebook 06.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | everything that notebooks 01 to 06 make | nothing; it is for looking | 20 seconds | 2026-11-30 |

# %%
# %matplotlib inline

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
    f"{own:.0%} of the neighbours are APOGEE spectra, like the query. Where that is all of them, the two instruments' clouds are "
    "offset, as in notebook 07, and a search in both finds those of the query's instrument first. To find the star as the other "
    "instrument saw it, choose that one in the menu *search in*."
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
for space in ("raw spectra", "encoders before alignment", "StarCLIP"):
    query = gallery.star(space, "NIRSpec", rows[0])
    found = gallery.search(space, query, len(rows) - 1, ["APOGEE"], rows)
    ahead = list(found.row).index(rows[0]) if rows[0] in found.row else len(rows) - 1
    print(f"{space}: its own APOGEE spectrum is number {ahead + 1} of {len(rows)}")

# %% [markdown]
# One star proves nothing; notebook 06 counts over all of them. But it helps to understand one: go back to the
# browser, switch between these spaces, and look at where the rings are.
#
# ## Exercises
#
# **1.** In the aligned space, search *in APOGEE* with a NIRSpec spectrum, for ten different stars. Note for how many the first
# row is the star itself. Which success rate of notebook 06 did you just estimate? Answer with its name, such as `"R@5"`.

# %%
answer = None
starclip.check("09.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# The share of queries whose first result is the right star is SuccessRate@1, `"R@1"`. With ten stars your estimate has an
# uncertainty of some 0.1 to 0.15 (binomial), which is why notebook 06 takes them all.
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
# 1. Find a star whose nearest neighbour in the other survey is a wrong one. Do the labels of the two differ by more than their
#    errors?
# 2. Compare the neighbours of one star in *raw spectra* within NIRSpec: what do they have in common, if not their labels? Look at
#    the gaps.
# 3. Upload a spectrum of your own. Is it inside the cloud of points? What would it mean if it were not?
#
# **Next:** [10 · Observed NIRSpec](10_observed_nirspec.ipynb) puts real JWST spectra through the models.
