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
# # 06 · Retrieval: finding the same star in the other survey
#
# **Purpose.** Use a spectrum from one instrument to search among spectra from the other, and measure how often it works.
#
# **After this notebook you can** search by cosine similarity, read SuccessRate@k and MRR, and judge them against chance,
# against the pixels themselves, and against the paper.
#
# **Before this:** notebook 04.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `starclip.ckpt`, `mockstarclip.ckpt` | `embeddings.h5` | 95 seconds | 2026-11-30 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import APOGEE, LABELS, figures
from starclip_lib.metrics import retrieval
from starclip_lib.metrics.baselines import overlap_scores, raw_spectra

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"retrieval": {"n_neighbours": 8}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## Embed everything once
#
# Each NIRSpec star is observed five times by the mock telescope, with other noise and other gaps: five *views*. Each APOGEE
# star has one spectrum. All of them become points on the sphere and go into one file, which this and the following notebooks
# read. Only test stars enter the searches.

# %%
run.build("embeddings.h5")
nirspec, apogee = (run.embeddings(f"starclip/{name}").take("test") for name in ("nirspec", "apogee"))
extended, mocks = (run.embeddings(f"mockstarclip/{name}").take("test") for name in ("extended", "mock"))

# %% tags=["nbval-check-output"]
print(f"{len(nirspec)} NIRSpec views and {len(apogee)} APOGEE spectra of {len(set(apogee.star_id))} test stars")

# %% [markdown]
# ## One search
#
# Take the NIRSpec view of one star and ask for the most similar APOGEE spectra. The search is exact: it computes the
# cosine with every candidate, in blocks, so memory stays small however many stars there are.

# %%
index = retrieval.SimilarityIndex(apogee.z, apogee.star_id, posterior=apogee.posterior)
query = len(nirspec) // 3
place, cosine = index.search(nirspec.z[query : query + 1], k=run.params.retrieval.n_neighbours)
found = apogee.star_id[place[0]]

# %%
stars = np.array([nirspec.star_id[query], *found])
table = pd.DataFrame(data.labels_of(stars), columns=LABELS).T
table.columns = ["query", *(f"{number}: {star}" for number, star in enumerate(found, start=1))]
table.loc["cosine"] = [1.0, *cosine[0]]
table.round(3)

# %% [markdown]
# The first column is the query, the others are what was found, best first. If the first of them has exactly the labels of
# the query, it is the star itself and the search has succeeded.

# %%
alike = data.labels_of(found).std(axis=0) / data.labels[data.rows("test")].std(axis=0)
order = np.argsort(alike)
Markdown(
    f"The {len(found)} stars that were found differ from each other by {np.median(alike):.0%} of what test stars differ by "
    f"(standard deviations, median of the labels). They agree best in {LABELS[order[0]]} ({alike[order[0]]:.0%}) and least in "
    f"{LABELS[order[-1]]} ({alike[order[-1]]:.0%}): neighbours are similar in what the spectra show well, and in little else."
)

# %% [markdown]
# Now the spectra. The black line is the query star's own APOGEE spectrum, which was not part of the query: the query was its
# NIRSpec spectrum. Below are the differences to what was found.

# %%
shown = data.apogee.flux[data.rows_of(stars)]
names = [f"{n}: {star}" + " (itself)" * (star == stars[0]) for n, star in enumerate(found, start=1)]
captions = ["the query star", *names]
run.save_figure("neighbours", figures.neighbours(shown[0], shown[1:4], captions, APOGEE.wavelength, (15700, 15800)))

# %% [markdown]
# ## All searches
#
# **SuccessRate@k** is the share of queries whose own star is among the first k results. **MRR**, the mean reciprocal rank,
# is the mean of 1/rank of the first hit. We search in both directions: five views of each star look for one APOGEE
# spectrum, and one APOGEE spectrum looks for any of five views. MockStarCLIP searches between mock and extended mock
# spectra, one view of each star, as in the paper.
#
# A hit is decided by the star's identifier. Where candidates tie, the first hit gets its expected rank, so identical copies
# bring neither luck nor harm.

# %%
first = [embeddings.of_view(0) for embeddings in (mocks, extended)]
ranks = {
    "nirspec_to_apogee": retrieval.ranks_between(nirspec, apogee),
    "apogee_to_nirspec": retrieval.ranks_between(apogee, nirspec),
    "mock_to_extended": retrieval.ranks_between(*first),
    "extended_to_mock": retrieval.ranks_between(*reversed(first)),
}

# %% [markdown]
# Two baselines use no model at all. The paper's compares the raw fluxes pixel by pixel, APOGEE cropped to NIRSpec's number of
# pixels. Pixel 100 of one is another wavelength than pixel 100 of the other, so it cannot work. The second is the one that an
# astronomer tries first: APOGEE lies inside NIRSpec's range, so blur it to NIRSpec's resolution, put it on NIRSpec's pixels and
# compare by chi-squared over the **overlap**. Nothing is trained. (Notebook 12 has more baselines, and the emulator fit.)

# %%
raw = raw_spectra(data, run.params)
raw_ranks = {
    direction: retrieval.ranks_between(*(raw[name] for name in direction.split("_to_"))) for direction in ranks
}

# %%
candidates = dict(zip(ranks, (len(apogee), len(nirspec), len(first[1]), len(first[0])), strict=True))
views = dict(zip(ranks, (1, run.params.corruption.n_views, 1, 1), strict=True))
scores = {name: retrieval.retrieval_scores(values, candidates[name]) for name, values in ranks.items()}
raw_scores = {d: retrieval.retrieval_scores(r, len(raw[d.split("_to_")[1]])) for d, r in raw_ranks.items()}
chance = {name: retrieval.chance_scores(len(ranks[name]), candidates[name], views[name]) for name in ranks}

# %%
across, within = ("nirspec_to_apogee", "apogee_to_nirspec"), ("mock_to_extended", "extended_to_mock")
split = {"starclip": {d: scores[d] for d in across}, "mockstarclip": {d: scores[d] for d in within}}
results = {
    **split,
    "overlap": overlap_scores(data, starclip.mock_telescope(run.params)),
    "raw": raw_scores,
    "chance": chance,
}
retrieval.retrieval_table(results)

# %% [markdown]
# The paper's Table 3, for comparison, from its own 4,751 test stars, so with almost five times the candidates of the
# default run here: StarCLIP 0.14 and 0.15 for R@1, 0.24 and 0.56 for R@10; MockStarCLIP 0.06 and 0.08, 0.35 and 0.40.

# %%
curves = {"StarCLIP": ranks["nirspec_to_apogee"], "raw pixels, other wavelengths": raw_ranks["nirspec_to_apogee"]}
run.save_figure(
    "success_nirspec", figures.success_curves(curves, lambda k: min(1.0, k / len(apogee)), "NIRSpec finds APOGEE")
)

# %%
curves = {"MockStarCLIP": ranks["mock_to_extended"], "raw pixels": raw_ranks["mock_to_extended"]}
run.save_figure(
    "success_mock", figures.success_curves(curves, lambda k: min(1.0, k / len(first[1])), "mock finds extended mock")
)

# %% [markdown]
# ## Per star, and within one instrument
#
# Searching for an APOGEE star among five views of each NIRSpec star is easier than among one, since any view counts. Ranking
# *stars* by their best view removes that advantage. And within one instrument: can a view find the other four views of
# its own star (itself excluded)? That tests how well the encoder ignores noise and gaps.

# %%
per_star = {
    d: retrieval.ranks_between(a, b, by_star=True)
    for d, (a, b) in {"nirspec_to_apogee": (nirspec, apogee), "apogee_to_nirspec": (apogee, nirspec)}.items()
}
n_stars = len(apogee)
results["per_star"] = {d: retrieval.retrieval_scores(values, n_stars) for d, values in per_star.items()}

# %%
own = retrieval.ranks_between(nirspec, nirspec, exclude_self=True)
results["in_modal"] = {"nirspec_to_nirspec": retrieval.retrieval_scores(own, len(nirspec) - 1)}
retrieval.retrieval_table({name: results[name] for name in ("per_star", "in_modal")})

# %%
Markdown(
    "First hits (R@1): "
    + "; ".join(
        f"{d.replace('_to_', ' to ')}: {scores[d]['success@1']:.3f} with StarCLIP, {results['overlap'][d]['success@1']:.3f} by the overlap, "
        f"{raw_scores[d]['success@1']:.3f} by unrelated pixels, {chance[d]['success@1']:.4f} by chance"
        for d in across
    )
    + "."
)

# %% tags=["nbval-check-output"]
print("queries:", {d: len(r) for d, r in ranks.items()}, "candidates:", candidates)

# %%
run.save_metrics("retrieval", results)

# %% [markdown]
# ## Wrong answers
#
# When the right star is not first, who is? If the labels of the wrong answers agree with the query's within the errors, the
# search has found a star that this spectrum cannot distinguish from the right one. If they differ by more, the query was a poor
# spectrum, or the encoders have not learned enough.

# %%
wrong = np.flatnonzero(ranks["nirspec_to_apogee"] > 1)
asked = {} if nirspec.posterior is None else {"posterior": nirspec.posterior[wrong], "rerank": 50}
top = index.search(nirspec.z[wrong], k=1, **asked)[0][:, 0]
pairs = [data.rows_of(ids) for ids in (nirspec.star_id[wrong], apogee.star_id[top])]
difference = np.median(abs(data.labels[pairs[0]] - data.labels[pairs[1]]), axis=0)
pd.DataFrame({"median |difference| of wrong answers": difference, "spread": data.labels.std(0)}, LABELS).T.round(3)

# %%
teff, iron = (LABELS.index(name) for name in ("Teff", "Fe"))
_, snr = starclip.mock_telescope(run.params).views_and_snr(data.nirspec, data.rows("test"))
place = {star: number for number, star in enumerate(data.star_id[data.rows("test")])}
snr_wrong = [snr[place[star], view] for star, view in zip(nirspec.star_id[wrong], nirspec.view[wrong])]
Markdown(
    f"{len(wrong)} of {len(nirspec)} searches miss. The wrong star differs from the right one by {difference[teff]:.0f} K in Teff and "
    f"{difference[iron]:.3f} dex in [Fe/H] (medians); the catalogue's own errors are {starclip.ASPCAP_ERROR[teff]:.0f} K and "
    f"{starclip.ASPCAP_ERROR[iron]:.3f} dex. The views that miss have a median signal-to-noise ratio of {np.median(snr_wrong):.0f}, all views "
    f"{np.median(snr):.0f}."
    if len(wrong)
    else "Every search finds its star first."
)

# %% [markdown]
# ## Exercises
#
# **1.** Three queries find their star at ranks 1, 2 and 4. What is the MRR?

# %%
answer = None
starclip.check("06.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# (1 + 1/2 + 1/4) / 3 = 0.583. It is ruled by the first places: rank 4 or rank 400 hardly matters.
#
# </details>
#
# **2.** An APOGEE spectrum searches among five views of each of 1,000 NIRSpec stars. What is R@1 by chance?

# %%
answer = None
starclip.check("06.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 5 / 5,000 = 0.001.
#
# </details>
#
# ## Questions
#
# 1. R@1 depends on how many candidates there are. How would you expect it to change with ten times as many stars?
# 2. Searching from APOGEE to NIRSpec is more successful than the reverse. Find two reasons.
# 3. From NIRSpec to APOGEE even the Gaussian ideal matcher of notebook 12 misses some stars; from APOGEE to NIRSpec it hardly
#    misses any. What does the number of views have to do with it?
#
# **Next:** [07 · Atlas](07_atlas.ipynb) draws the space as a map.
