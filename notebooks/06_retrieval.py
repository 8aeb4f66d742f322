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
# **Purpose.** Use a spectrum from one instrument to search among spectra from the other, measure how often it works, and
# compare with methods that need no training at all.
#
# **The figure to remember.** A ladder: pixels in the overlap, a linear alignment, networks before and after the contrastive
# training, a fit, and the Gaussian ideal matcher, all on the same spectra.
#
# **After this notebook you can** search by cosine similarity, read SuccessRate@k and MRR, write the pixel baseline yourself,
# and diagnose why a search failed.
#
# **Before this:** notebook 04.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5` and the models of notebooks 03 to 05 | `embeddings.h5`, `fit.ckpt`, `fit.h5` | 2.8 minutes | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import APOGEE, LABELS, NIRSPEC, figures
from starclip_lib.metrics import baselines, ideal, linear_alignment, retrieval, view_information
from starclip_lib.models.encoding import embed_views
from starclip_lib.training.refining import calibrate

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"retrieval": {"n_neighbours": 8}}

# %%
run = starclip.open_run(params_file, overrides)
data, test = run.data, run.data.rows("test")

# %% [markdown]
# ## Embed everything once
#
# Each NIRSpec star is observed several times by the mock telescope, with other noise and other gaps: its *views*. Each APOGEE
# star has one spectrum. All of them become points on the sphere and go into one file, which this and the following notebooks
# read. Only test stars enter the searches. The second file is for comparison: there the physical model itself was fitted to
# every spectrum, with no contrastive training (notebook [08b](08b_physics_instead_of_a_network.ipynb) explains how).

# %%
for file in ("embeddings.h5", "fit.ckpt", "fit.h5"):
    run.build(file)
nirspec, apogee = (run.embeddings(f"starclip/{name}").take("test") for name in ("nirspec", "apogee"))
extended, mocks = (run.embeddings(f"mockstarclip/{name}").take("test") for name in ("extended", "mock"))

# %% tags=["nbval-check-output"]
print(f"{len(nirspec)} NIRSpec views and {len(apogee)} APOGEE spectra of {len(set(apogee.star_id))} test stars")

# %% [markdown]
# ## One search
#
# Take the NIRSpec view of one star and ask for the most similar APOGEE spectra. A search is one matrix product: the cosines of
# the query with all candidates, sorted.

# %%
query = len(nirspec) // 3
cosines = apogee.z @ nirspec.z[query]
best = np.argsort(-cosines)[: run.params.retrieval.n_neighbours]
stars = np.array([nirspec.star_id[query], *apogee.star_id[best]])
table = pd.DataFrame(data.labels_of(stars), columns=LABELS).T
table.columns = ["query", *(f"{number}: {star}" for number, star in enumerate(stars[1:], start=1))]
table.round(3)

# %%
place = 1 + int((cosines > cosines[apogee.star_id == stars[0]].max()).sum())
alike = data.labels_of(stars[1:]).std(axis=0) / data.labels[test].std(axis=0)
order = np.argsort(alike)
Markdown(
    f"The star of the query, {stars[0]}, comes in place {place} of {len(apogee)}. The {len(best)} stars found differ from each "
    f"other by {np.median(alike):.0%} of what test stars differ by (standard deviations, median of the labels). They agree best in "
    f"{LABELS[order[0]]} ({alike[order[0]]:.0%}) and least in {LABELS[order[-1]]} ({alike[order[-1]]:.0%})."
)

# %% [markdown]
# ## A ladder of methods
#
# Is a trained network needed at all? Give several methods the same task: one NIRSpec spectrum of each test star, one APOGEE
# spectrum of each, and the question which belong together. The score is the share of queries whose own star comes first.
#
# The task comes in two forms. In the paper's form NIRSpec spectra are *computed*, by a theory that the networks have seen in
# training. In a realistic world (notebook 01) there are also *observed* ones of the test stars, made by a physics that differs from
# theory as that of real giants does. No method below has learned from them. That is the situation of everybody who has JWST data.
#
# **Step 1: pixels in the overlap, nothing trained.** APOGEE lies inside NIRSpec's range, so an astronomer would blur APOGEE to
# NIRSpec's resolution, put it on NIRSpec's pixels, and compare by chi-squared. The noise of each NIRSpec spectrum is known; we
# allow for an error of 0.5 % of the blurred spectrum. Views whose gap hides nearly all common pixels cannot be compared and tie
# for the last place. One weakness shows when APOGEE searches: its candidates have noise of different size, and a noisy view fits
# almost any star as well as its own, which a chi-squared per pixel does not notice. This is the whole method:

# %%
once = starclip.mock_telescope(run.params, 1)
kinds = {"nirspec": data} | ({"observed": data.with_observed()} if data.observed is not None else {})
views = {kind: once.views(source.nirspec, test) for kind, source in kinds.items()}
_, snr = once.views_and_snr(data.nirspec, test)
pixels, blurred, known = baselines.apogee_as_nirspec(data.apogee.flux[test])
chi2 = {kind: np.full((len(test), len(test)), np.inf) for kind in kinds}
for kind, found in chi2.items():
    for row, flux in enumerate(views[kind][:, 0, pixels]):
        both = known & (flux != 1)  # a pixel without data reads 1
        total = (np.where(both, flux - blurred, 0) ** 2).sum(1) / (snr[row] ** -2 + 0.005**2)
        found[row] = np.where(both.sum(1) > 100, total / np.maximum(both.sum(1), 1), np.inf)

# %%
star, ways = data.star_id[test], [*(f"{kind}_to_apogee" for kind in kinds), "apogee_to_nirspec"]
misfits = {f"{kind}_to_apogee": found for kind, found in chi2.items()} | {"apogee_to_nirspec": chi2["nirspec"].T}
ranks = {"pixels in the overlap": {way: retrieval.ranks_of(misfits[way], star, star) for way in ways}}

# %% [markdown]
# **Step 2: a linear alignment.** Reduce each instrument's training spectra to their principal components, find the directions
# in which the pairs correlate most (canonical correlation analysis), and compare by cosine. It uses all of NIRSpec's
# wavelengths and learns from pairs, without a network. Pixels without data are put at the mean spectrum, and a small penalty
# keeps directions of little variance from being taken too seriously. (Notebook [12](12_baselines.ipynb) chooses the penalty by
# validation stars and takes more views of the training stars.)

# %%
train, several = data.rows("train"), starclip.mock_telescope(run.params.changed(seed=run.params.seed + 1))
inputs = {
    "nirspec": baselines.Inputs(several.views(data.nirspec, train)[:, 0], NIRSPEC),
    "apogee": baselines.Inputs(data.apogee.flux[train], APOGEE),
}
pairs = inputs["nirspec"].of_views(data.nirspec, train, several), inputs["apogee"](data.apogee.flux[train])
cca = linear_alignment.CanonicalCorrelation(*pairs, n_components=min(60, len(train) // 4))
cca.regularise(min(60, len(train) // 4), 30, penalty=0.001)

# %%
methods = {"linear alignment": {}}
spectra = {kind: (view[:, 0], "nirspec", 0) for kind, view in views.items()}
for kind, (flux, name, side) in {**spectra, "apogee": (data.apogee.flux[test], "apogee", 1)}.items():
    z = cca.directions(cca.components(inputs[name](flux), side), side)
    methods["linear alignment"][kind] = starclip.as_embeddings(z[:, None], star, data.split[test])

# %% [markdown]
# **Steps 3 to 5: networks.** Before the contrastive training the two networks predict labels, and these are compared by cosine.
# If the run calibrates its space, step 4 shows the same networks with that calibration and no contrastive training
# ([04](04_starclip.ipynb) explains it). Step 5 is StarCLIP. **Step 6: the fit**, compared by Bayes factors. It fits the theory
# that computed the NIRSpec spectra, an advantage that no real telescope offers: observed spectra take it away.


# %%
def embedded(encoders):
    apogee = embed_views(encoders["apogee"], data, test)
    return {k: embed_views(encoders["nirspec"], d, test, once) for k, d in kinds.items()} | {"apogee": apogee}


# %%
encoders = {name: run.model(name).encoders[name] for name in ("nirspec", "apogee")}
methods["networks before"] = embedded(encoders)
if run.params.starclip.calibrate:
    calibrate((encoders["nirspec"], encoders["apogee"]), data, run.params)
    methods["calibrated only"] = embedded(encoders)
methods["networks after"] = embedded(run.model("starclip").encoders)
methods["fit"] = embedded(run.model("fit").encoders)

# %%
for name, sides in methods.items():
    ranks[name] = {way: retrieval.ranks_between(*(sides[side] for side in way.split("_to_"))) for way in ways}

# %% [markdown]
# **The top: a Gaussian ideal matcher.** It is told how much every spectrum can know about the labels (its Fisher information),
# and how wrong the catalogue is, and compares by Bayes factors. Population and errors are taken as Gaussian, so it is a
# reference and not a strict upper limit. Some stars are asked for; all stars inside the emulator's range are candidates.

# %%
emulator, limits = starclip.default_emulator(), run.params.limits
inside = test[emulator.inside_domain(data.labels[test].astype(float))]
with_noise = starclip.PairedSpectra.read(run.need("data.h5"), with_ivar=True, memory=run.params.memory * 1e9)
told = (
    view_information.seen_by(once, data, inside, emulator),
    view_information.seen_by_apogee(with_noise, inside, limits.apogee_snr, emulator),
)
# its second argument is for extended mock spectra, which are not asked for here
matcher = ideal.ideal_retrieval(data, told[0], told[0].first(2), told[1], limits.n_matched, run.params.seed)
if data.observed is not None:
    found = ideal.ideal_among_observed(data, *told, limits.n_matched, run.params.seed)
    matcher["observed_to_apogee"] = found

# %%
scores = {n: {way: retrieval.retrieval_scores(r, len(test)) for way, r in found.items()} for n, found in ranks.items()}
steps = {n: {way: retrieval.with_intervals(s, len(test)) for way, s in found.items()} for n, found in scores.items()}
asked = min(limits.n_matched, len(inside))
steps["Gaussian ideal matcher"] = {way: retrieval.with_intervals(matcher[way], asked) for way in ways}
titles = {
    "nirspec_to_apogee": "NIRSpec (theory) finds APOGEE",
    "observed_to_apogee": "observed NIRSpec finds APOGEE",
    "apogee_to_nirspec": "APOGEE finds NIRSpec (theory)",
}
run.save_figure("ladder", figures.ladder(steps, {way: titles[way] for way in ways}))

# %%
first = {name: found["nirspec_to_apogee"]["success@1"] for name, found in steps.items()}
top = max((name for name in first if name not in ("fit", "Gaussian ideal matcher")), key=first.get)
Markdown(
    f"Chance is 1 in {len(test)}. From NIRSpec to APOGEE, "
    + ", ".join(f"{name}: {value:.1%}" for name, value in first.items())
    + f". Without knowledge of the physical model, **{top}** is the best of these. From the networks before to those after, the share "
    f"changes by {100 * (first['networks after'] - first['networks before']):+.1f} percentage points"
    + (
        f"; the calibration alone, with no contrastive training, changes it by "
        f"{100 * (first['calibrated only'] - first['networks before']):+.1f}"
        if "calibrated only" in first
        else ""
    )
    + f". The bars are 95 % intervals; with {len(test)} stars, steps whose bars overlap are not told apart."
)

# %% [markdown]
# **And in the sky?** The middle panel has the same methods, with observed NIRSpec spectra of the same stars.

# %%
shares = {name: (found["nirspec_to_apogee"], found.get("observed_to_apogee")) for name, found in steps.items()}
shares = {name: [way["success@1"] for way in both] for name, both in shares.items() if both[1] is not None}
fallen = sorted(shares, key=lambda name: shares[name][1] - shares[name][0])
Markdown(
    "With observed spectra the shares are "
    + ", ".join(f"{name}: {shares[name][1]:.1%}" for name in shares)
    + f". The largest fall is that of {fallen[0]}, from {shares[fallen[0]][0]:.1%} to {shares[fallen[0]][1]:.1%}. A network reads lines as it "
    "learned them from theory, and a fit believes theory for NIRSpec while it corrects APOGEE by training stars: both put the observed "
    "star's labels where the difference of physics takes them, all in the same direction. Where both sides have the same error, as the "
    "pixels in the overlap do, it cancels. Notebook [13b](13b_contest.ipynb) has methods that learn the difference from the observed "
    "spectra themselves."
    if shares
    else "This data set has no observed NIRSpec spectra: set `data.world` to `realistic`."
)

# %% [markdown]
# ## All searches
#
# **SuccessRate@k** is the share of queries whose own star is among the first k results. **MRR**, the mean reciprocal rank,
# is the mean of 1/rank of the first hit. Now all views search: each view of a star looks for its one APOGEE spectrum, and one
# APOGEE spectrum looks for any of the star's views. MockStarCLIP searches between mock and extended mock
# spectra, one view of each star, as in the paper.
#
# A hit is decided by the star's identifier. Where candidates tie, the first hit gets its expected rank, so identical copies
# bring neither luck nor harm.

# %%
pair = [embeddings.of_view(0) for embeddings in (mocks, extended)]
every = {
    "nirspec_to_apogee": retrieval.ranks_between(nirspec, apogee),
    "apogee_to_nirspec": retrieval.ranks_between(apogee, nirspec),
    "mock_to_extended": retrieval.ranks_between(*pair),
    "extended_to_mock": retrieval.ranks_between(*reversed(pair)),
}

# %% [markdown]
# The paper's baseline compares raw fluxes pixel by pixel, APOGEE cropped to NIRSpec's number of pixels. Pixel 100 of one is
# another wavelength than pixel 100 of the other, so it cannot work between instruments. It stands in the table as `raw`; `overlap`
# is step 1 of the ladder, with one view of each star.

# %%
raw = baselines.raw_spectra(data, run.params)
raw_ranks = {way: retrieval.ranks_between(*(raw[name] for name in way.split("_to_"))) for way in every}
candidates = dict(zip(every, (len(apogee), len(nirspec), len(pair[1]), len(pair[0])), strict=True))
n_views = dict(zip(every, (1, run.params.corruption.n_views, 1, 1), strict=True))
found = {way: retrieval.retrieval_scores(values, candidates[way]) for way, values in every.items()}

# %%
across, within = list(every)[:2], list(every)[2:]
split = {"starclip": {way: found[way] for way in across}, "mockstarclip": {way: found[way] for way in within}}
results = {
    **split,
    "observed": {name: both["observed_to_apogee"] for name, both in scores.items() if "observed_to_apogee" in both},
    "overlap": scores["pixels in the overlap"],
    "raw": {w: retrieval.retrieval_scores(r, len(raw[w.split("_to_")[1]])) for w, r in raw_ranks.items()},
    "chance": {way: retrieval.chance_scores(len(every[way]), candidates[way], n_views[way]) for way in every},
}
retrieval.retrieval_table(results)

# %% [markdown]
# The paper's Table 3, for comparison, from its own 4,751 test stars, so with almost five times the candidates of the
# default run here: StarCLIP 0.14 and 0.15 for R@1, 0.24 and 0.56 for R@10; MockStarCLIP 0.06 and 0.08, 0.35 and 0.40.
#
# Searching for an APOGEE star among five views of each NIRSpec star is easier than among one, since any view counts. Ranking
# *stars* by their best view removes that advantage. And within one instrument: can a view find the other views of
# its own star (itself excluded)? That tests how well the encoder ignores noise and gaps.

# %%
ends = {"nirspec_to_apogee": (nirspec, apogee), "apogee_to_nirspec": (apogee, nirspec)}
per_star = {way: retrieval.ranks_between(*both, by_star=True) for way, both in ends.items()}
results["per_star"] = {way: retrieval.retrieval_scores(values, len(apogee)) for way, values in per_star.items()}
own = retrieval.ranks_between(nirspec, nirspec, exclude_self=True)
results["in_modal"] = {"nirspec_to_nirspec": retrieval.retrieval_scores(own, len(nirspec) - 1)}
retrieval.retrieval_table({name: results[name] for name in ("per_star", "in_modal")})

# %% tags=["nbval-check-output"]
print("queries:", {way: len(r) for way, r in every.items()}, "candidates:", candidates)

# %%
run.save_metrics("retrieval", results)

# %% [markdown]
# ## A gallery of failures
#
# When the right star is not first, who is, and why? Take the single-view searches of the ladder's step 5 again. For every one
# that failed we know the two stars, and, since these spectra are simulated, what each looks like without noise. So we can ask how
# different the two really are, in units of the noise of this view, over the pixels that it shows:
#
# $$ d = \mathrm{S/N} \cdot \sqrt{\sum_{\rm seen\ pixels} (f_{\rm right} - f_{\rm wrong})^2}. $$
#
# Below about 5 the noise of the view alone can hide the difference, above that it cannot.

# %%
wrong = np.flatnonzero(ranks["networks after"]["nirspec_to_apogee"] > 1)
similarity = methods["networks after"]["nirspec"].z @ apogee.z.T
np.fill_diagonal(similarity, similarity.diagonal() - 1e-7)  # a tie is not a hit
taken = similarity.argmax(1)[wrong]
clean, seen = data.nirspec.flux[test], views["nirspec"][:, 0]
differences = np.where(seen[wrong] != 1, clean[wrong] - clean[taken], 0)
distance = snr[wrong, 0] * np.sqrt((differences**2).sum(1))

# %%
noisy = snr[wrong, 0] < np.quantile(snr, 0.25)
reasons = np.select(
    [distance < 5, noisy],
    ["the noise hides the difference", "a noisy view, but the difference is there"],
    "a good view: the network missed the difference",
)
hidden = (seen == 1).mean(1)
apart = np.abs(data.labels[test[wrong]] - data.labels[test[taken]]) / data.labels.std(axis=0)
table = {"reason": reasons, "d": distance, "S/N": snr[wrong, 0], "hidden": hidden[wrong], "labels apart": apart.mean(1)}
pd.DataFrame(table).groupby("reason").agg({"reason": "size", **dict.fromkeys(list(table)[1:], "median")}).round(2)

# %%
strangers = np.abs(data.labels[test] - np.roll(data.labels[test], len(test) // 2, axis=0)) / data.labels.std(axis=0)
share = np.median(apart, axis=0) / np.median(strangers, axis=0) if len(wrong) else np.ones(len(LABELS))
same = np.argsort(share)
Markdown(
    f"{len(wrong)} of {len(test)} searches fail. The views that fail have a median signal-to-noise ratio of "
    f"{np.median(snr[wrong]):.0f}, all views {np.median(snr):.0f}. What does the wrong star have in common with the right one? It "
    f"differs by {share[same[0]]:.0%} of what two stars drawn at random differ by in {LABELS[same[0]]} and by "
    f"{share[same[1]]:.0%} in {LABELS[same[1]]}, but by {share[same[-1]]:.0%} in {LABELS[same[-1]]} (medians)."
    if len(wrong)
    else "Every search finds its star first."
)

# %% [markdown]
# The five worst, by how much closer the wrong star came than the right one. Each panel shows the difference of the two stars'
# noise-free NIRSpec spectra (blue) and the noise of the view, one standard deviation either way (grey); the gap is left out.

# %%
margin = similarity[wrong, taken] - similarity[wrong, wrong]
worst = np.argsort(-margin)[:5]
captions = [
    f"{star[wrong[n]]} taken for {star[taken[n]]}: S/N {snr[wrong[n], 0]:.0f}, d = {distance[n]:.1f}, {reasons[n]}"
    for n in worst
]
shown = np.where(seen[wrong[worst]] != 1, differences[worst], np.nan)
if len(worst):
    display(run.save_figure("failures", figures.failures(shown, 1 / snr[wrong[worst], 0], captions)))

# %% [markdown]
# Where a line stands out of the grey band, a person could have told the stars apart. Hundreds of small differences inside the
# band add up, too: that is what d counts, and what a fit of the whole spectrum uses. A failure with a large d asks for a better
# encoder, one with a small d for a better spectrum.
#
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
# **3. (To code.)** Diagnose the five failures of the gallery: for each of them, in which label do the two stars differ most, in
# units of that label's spread among all stars? Use `test`, `wrong`, `taken` and `worst`, and put a list of names from `LABELS`
# into `yours`. The cell compares them with the table `apart`.

# %%
yours = None  # e.g. ["Teff", "C", "C", "N", "logg"]
if yours is not None:
    print(f"{np.mean(np.array(yours) == np.array(LABELS)[apart[worst].argmax(1)]):.0%} of yours agree")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `a, b = data.labels[test[wrong[worst]]], data.labels[test[taken[worst]]]`, then
# `yours = [LABELS[i] for i in (abs(a - b) / data.labels.std(axis=0)).argmax(axis=1)]`. Look at the five spectra once more: does
# this label have strong lines that NIRSpec sees?
#
# </details>
#
# ## Questions
#
# 1. R@1 depends on how many candidates there are. How would you expect it to change with ten times as many stars?
# 2. The pixel baseline uses a fraction of NIRSpec's wavelengths and no training. Compare its rung with the others in both
#    directions. What does each method do with a view whose gap hides the overlap?
# 3. The pixels in the overlap find observed spectra better than computed ones, if the world is realistic. Why?
#
# **Next:** [07 · Atlas](07_atlas.ipynb) draws the space as a map.
