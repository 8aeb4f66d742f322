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
# # 13 · The benchmark: is this a good embedding, and where does it fail?
#
# **Purpose.** Put the embedding through the tests that related papers (AstroCLIP's benchmark, PAPERCLIP) use, with an
# interval on every number.
#
# **After this notebook you can** say whether a difference between two models is real, find out where an embedding
# fails, and tell pairs from strangers with a control that could have shown you wrong.
#
# **Before this:** notebooks 06 and 08; what a bootstrap is.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, the pretrained encoders | tables and figures | 2 minutes | 2026-11-27 |

# %%
# %matplotlib inline
from dataclasses import replace

import numpy as np
import pandas as pd

import starclip_lib as starclip
from starclip_lib import FE, LABELS, LOGG, TEFF, figures
from starclip_lib.evaluation import benchmark, clusters, pairs, report, residuals, strata

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"n_resamples": 200}}

# %%
run = starclip.open_run(params_file, overrides)
data, instruments = run.data, ("nirspec", "apogee")
options = {"n_resamples": run.params.evaluation.n_resamples, "seed": run.params.seed}

# %% [markdown]
# ## Probes before and after alignment
#
# Alignment is meant to bring two instruments together. Does it also make the embedding a better description of the star?
# We compare the same encoders before and after it, on the same views of the same test stars, with three probes: a
# **linear** one, the mean of the **nearest neighbours**, and a small **network** (32 hidden units). A probe that is
# stronger finds what a weaker one leaves lying about; the difference between them says how plainly the labels are written.

# %%
after = {name: run.embeddings(f"starclip/{name}") for name in instruments}
models = {name: run.model(name) for name in instruments}
before = benchmark.embed_unaligned(data, run.params, models)

# %%
probed = {
    (f"{name} {state}", kind): found
    for name in instruments
    for state, group in (("before", before), ("after", after))
    for kind, found in benchmark.probe_with_all(group[name], data, seed=run.params.seed).items()
}

# %% [markdown]
# **Intervals.** Had we drawn other test stars, we would have got other numbers. The bootstrap imitates that: draw as many
# stars as there are, with replacement, and compute the score anew, a thousand times; the middle 95 % of the results are
# the interval. What is drawn are *stars*, each with all its views. Five views of a star are not five stars, and an
# interval that takes them for that is too narrow by up to √5.

# %%
benchmark.r2_table(probed, ("Teff", "logg", "Fe", "Mg"), **options)

# %% [markdown]
# Two intervals that overlap do not say that two models are equal. Both models were judged on the same stars, and a star
# that is hard for one is hard for the other. The right question is how the *difference* varies from one resample to the
# next. Below is r² after alignment minus r² before it: where an interval excludes zero, alignment changed something.

# %%
all_probes = ("linear", "knn", "mlp")
gains = {
    name: {
        kind: probed[f"{name} after", kind].gain_over(probed[f"{name} before", kind], **options) for kind in all_probes
    }
    for name in instruments
}
figure = figures.label_intervals(
    {"NIRSpec": gains["nirspec"], "APOGEE": gains["apogee"]}, "r² after alignment minus before"
)
run.save_figure("alignment_gains", figure)
figure

# %%
for name, kinds in gains.items():
    for kind, found in kinds.items():
        better, worse = sum(i.low > 0 for i in found), sum(i.high < 0 for i in found)
        print(
            f"{name:8} {kind:7} better for {better:2} labels, worse for {worse:2}, undecided for {20 - better - worse:2}"
        )

# %% [markdown]
# ## Does the embedding fall into groups?
#
# Maps of embeddings tempt one to see clusters. Two ways to check. **k-means** divides the stars into k groups whether there
# are any or not; its *inertia*, the scatter that is left, should fall steeply up to the right k and slowly beyond (the
# elbow). **HDBSCAN** looks for dense regions and may say that there are none. How much groups have to do with a label is
# measured by the *adjusted mutual information* with low, middle and high thirds of it: 1 if they are the same partition,
# 0 if they are independent.

# %%
points = {"before": before["nirspec"].of_view(0).z, "after": after["nirspec"].of_view(0).z}
inertia = {name: clusters.inertia_curve(z, seed=run.params.seed) for name, z in points.items()}
elbows = {name: clusters.elbow(curve) for name, curve in inertia.items()}
figure = figures.inertia_curves(inertia, elbows)
run.save_figure("inertia", figure)
figure

# %%
truth = data.labels_of(after["nirspec"].of_view(0).star_id)
grouped = {
    f"{name}, {title}": labels
    for name, z in points.items()
    for title, labels in (
        ("k = 3", clusters.k_means(z, 3, run.params.seed)),
        ("elbow", clusters.k_means(z, elbows[name], run.params.seed)),
        ("HDBSCAN", clusters.density_clusters(z)),
    )
}
clusters.cluster_table(grouped["after, k = 3"], truth[:, [TEFF, LOGG, FE]], ("Teff", "log g", "[Fe/H]")).round(2)

# %%
clusters.cluster_table(grouped["after, elbow"], truth[:, [TEFF, LOGG, FE]], ("Teff", "log g", "[Fe/H]")).round(2)

# %%
agreement = {name: clusters.agreement(cluster, truth) for name, cluster in grouped.items()}
for name, cluster in grouped.items():
    best, sizes = int(np.argmax(agreement[name])), np.bincount(cluster[cluster >= 0])
    print(f"{name}: {len(sizes)} clusters {sizes.tolist()}, {(cluster < 0).mean():.0%} of the stars in none;")
    print(f"  AMI with {LABELS[best]} {agreement[name][best]:.2f}, with Teff {agreement[name][TEFF]:.2f}")

# %% [markdown]
# Giants form one continuous sequence, so a partition into groups can only cut it into pieces, as it does in the papers that
# tried it on galaxies. That an embedding has no clusters is no fault of it.
#
# ## Where does it fail?
#
# One number for all stars hides where they are good and bad. Here are the errors of the linear probe, view by view, in bins
# of what the telescope did (noise, place of the gap), of what the star is, and of how many training stars lie close by in
# the embedding. Each is divided by the error of all views.

# %%
probe, judged = probed["nirspec after", "linear"], after["nirspec"].take("test")
snr, gap = strata.view_conditions(data.nirspec, data.rows("test"), starclip.mock_telescope(run.params))
crowd = strata.neighbour_count(judged.z, after["nirspec"].take("train").z)

# %%
conditions = {
    "SNR per pixel": snr.ravel(),
    "gap begins at [Å]": gap.ravel(),
    "Teff [K]": probe.true[:, TEFF],
    "log g": probe.true[:, LOGG],
    "[Fe/H]": probe.true[:, FE],
    "log of 1 + training views close by": np.log10(1 + crowd),
}
stratified = strata.by_condition(probe.error, probe.star_id, conditions, ("Teff", "logg", "Fe"), **options)

# %%
overall = dict(zip(LABELS, np.sqrt((probe.error**2).mean(axis=0)), strict=True))
figure = figures.strata_curves(stratified, overall)
run.save_figure("strata", figure)
figure

# %% [markdown]
# ## Who is wrong, and on which stars?
#
# Residuals of the mean of a star's views, of the linear probe before and after alignment. A residual is an *outlier* if it
# lies more than 1.5 interquartile ranges above the upper quartile. If the same stars were outliers in many labels, something
# would be wrong with those spectra; if each outlier stands alone, it is bad luck with one label.

# %%
states = {state: probed[f"nirspec {state}", "linear"] for state in ("before", "after")}
mean = {state: p.mean for state, p in states.items()}
true = data.labels_of(mean["after"].star_id)
errors = {state: predictions.labels - true for state, predictions in mean.items()}

# %%
figure = figures.residual_boxes(errors, true.std(axis=0))
run.save_figure("residual_boxes", figure)
figure

# %%
shared = {state: residuals.shared_outliers(residuals.outliers(error)) for state, error in errors.items()}
for state, count in shared.items():
    once, more = count[1] / count[1:].sum(), count[4:].sum() / count[1:].sum()
    print(
        f"{state}: {count[1:].sum()} stars are outliers, {once:.0%} of them in one label only, {more:.0%} in four or more"
    )

# %% [markdown]
# Which of the two models is nearer to the truth, star by star, in five bins of each label? (In the benchmark paper the
# histograms behind this have as many bins as the minimum description length asks for. Its Algorithm 1, as printed, always
# chooses the fewest; `residuals.mdl_bins` says why and has the term that is missing.)

# %%
wins = np.array(
    [residuals.net_wins(abs(errors["after"][:, i]), abs(errors["before"][:, i]), true[:, i]) for i in range(20)]
)
figure = figures.win_map(wins, ("after", "before"), len(true))
run.save_figure("net_wins", figure)
figure

# %% [markdown]
# A win by a hair is not one by a mile. The same for [Fe/H], divided by how much the two residuals differ:

# %%
fe = [abs(errors[state][:, FE]) for state in ("after", "before")]
counts, edges = residuals.net_wins_by_size(*fe, true[:, FE])
figure = figures.wins_by_size(counts, edges, "[Fe/H]", "dex", ("after", "before"))
run.save_figure("wins_by_size", figure)
figure

# %% [markdown]
# ## Pairs and strangers
#
# From PAPERCLIP: among the best k % of all candidate stars, how often is the right one? And the control: the same search with
# the pairs **shuffled**, so that every spectrum is asked for a star that is not its own. A shuffled search must end at k %,
# chance. If it did better, our measure would reward something that is not there.

# %%
test = {name: after[name].take("test") for name in instruments}
early = {name: before[name].take("test") for name in instruments}
searches = {
    "NIRSpec → APOGEE": (test["nirspec"], test["apogee"]),
    "APOGEE → NIRSpec": (test["apogee"], test["nirspec"]),
    "NIRSpec → APOGEE, before alignment": (early["nirspec"], early["apogee"]),
    "NIRSpec → APOGEE, shuffled": (test["nirspec"], pairs.shuffled(test["apogee"], run.params.seed)),
}
curves = {name: pairs.top_percent_curve(*pair, **options) for name, pair in searches.items()}

# %%
figure = figures.top_percent(curves)
run.save_figure("top_percent", figure)
figure

# %%
cosines = {
    state: tuple(
        pairs.pair_cosines(g["nirspec"], b) for b in (g["apogee"], pairs.shuffled(g["apogee"], run.params.seed))
    )
    for state, g in (("before alignment", early), ("after alignment", test))
}
separation = {state: pairs.separation(*both) for state, both in cosines.items()}
figure = figures.cosine_distributions(cosines)
run.save_figure("cosines", figure)
figure

# %% [markdown]
# A good embedding has little overlap between the two histograms. The probability that a matched pair is more similar than
# one of strangers says it in one number.

# %%
for state, probability in separation.items():
    print(f"{state}: a matched pair is more similar than strangers with probability {probability:.4f}")

# %% [markdown]
# ## Three more judges
#
# Others judge alignment without asking for a star. **Leakage**: boosted trees are shown embeddings of both instruments and say
# which one each is from. Right half of the time means that nothing of the instrument is left; before alignment it may be all
# there is. **Mutual neighbours**: which share of a star's ten nearest stars is the same for both instruments? Chance is one in a
# hundred here. **CKA**: 1 if one embedding is the other but for a rotation. The last two are those of the Platonic Universe
# papers, and neither asks whether the two embeddings lie in the same place.

# %%
mocks = {name: run.embeddings(f"mockstarclip/{name}").take("test") for name in ("mock", "extended")}
common = tuple(replace(test[name], z=test[name].z[:, :20]) for name in instruments)
sides = {
    "before alignment": (early["nirspec"], early["apogee"]),
    "StarCLIP": (test["nirspec"], test["apogee"]),
    "StarCLIP, first twenty coordinates": common,
    "MockStarCLIP": (mocks["mock"], mocks["extended"]),
}
aligned = {state: pairs.judged(*pair, **options) for state, pair in sides.items()}
pd.DataFrame({state: {name: str(found) for name, found in row.items()} for state, row in aligned.items()}).T

# %% [markdown]
# Trees that tell the instrument for certain have found what the cosine does not mind: in a calibrated space each side has a
# coordinate of its own, which is zero on the other. In the twenty that both share, what is left is the noise, whose size differs
# between the instruments, as trees can see from how far estimates are pulled towards the mean. A judge is only as good as its
# question.

# %%
found = report.benchmark_metrics(
    probed, gains, agreement, grouped, stratified, shared, wins, curves, separation, aligned, **options
)
run.save_metrics("evaluation.benchmark", found)

# %% tags=["nbval-check-output"]
low, high = curves["NIRSpec → APOGEE, shuffled"][1:]
tenth = pairs.PERCENTS.index(10.0)
print("shuffled pairs are at chance:", low[tenth] < 0.1 < high[tenth])
print("probes:", ", ".join(all_probes), "· views judged:", sum(len(side) for side in test.values()))

# %% [markdown]
# ## Exercises
#
# **1.** A difference of r² between two models has the 95 % interval [−0.002, 0.013]. Is the second model better? Answer "yes",
# "no" or "undecided".

# %%
answer = None
starclip.check("13.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# "undecided": zero lies inside. It does not say that they are equal either; more test stars would.
#
# </details>
#
# **2.** In a search among 1,000 stars the pairs are shuffled. In how many per cent of the queries is the "right" one among
# the best 50?

# %%
answer = None
starclip.check("13.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 5: the partner was drawn at random, so each place is as likely as any other, and 50 of 1,000 are 5 %.
#
# </details>
#
# ## Questions
#
# 1. Which labels does alignment make worse, and which instrument knows more about them?
# 2. Errors rise where the embedding is empty. Is it the emptiness or what the stars there are like? How would you tell?
# 3. The paper on galaxies gives intervals over objects only. What else varies when one trains a model again?
#
# **Next:** [14 · Decoders](14_decoders.ipynb) asks what an embedding knows of the spectrum itself.
