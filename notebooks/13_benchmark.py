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
# **Purpose.** Put the embedding through the tests of related papers (AstroCLIP's benchmark, PAPERCLIP), with an interval on
# every number and a control that must fail.
#
# **After this notebook you can** say whether a difference between two models is real, find out where an embedding
# fails, and tell pairs from strangers with a control that could have shown you wrong.
#
# **Before this:** notebooks 06 and 08; what a bootstrap is.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, the pretrained encoders, `starclip.ckpt` | tables and figures | 1 minute | 2026-11-30 |

# %%
# %matplotlib inline
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import FE, LOGG, TEFF, figures
from starclip_lib.suite import benchmark, pairs, report, strata

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"evaluation": {"n_resamples": 200}}

# %%
run = starclip.open_run(params_file, overrides)
data, titles, seed = run.data, {"nirspec": "NIRSpec", "apogee": "APOGEE"}, run.params.seed
options = {"n_resamples": run.params.evaluation.n_resamples, "seed": seed}

# %% [markdown]
# ## Probes before and after alignment
#
# Alignment brings two instruments together. Does it also make the embedding a better description of the star? We read the
# labels off the embeddings of the same views of the same test stars with three probes: a **linear** one, the mean of the
# **nearest neighbours** (knn), and a small **network** (mlp, 32 hidden units).
#
# The encoders come in three states. *Before*: as pretrained. *Aligned*: after the contrastive training, with the twenty
# labels as coordinates. *After*: the run may also **calibrate** the space, a linear map fitted to validation pairs that weights
# the coordinates by how well they tell stars apart. The step from *before* to *aligned* is the effect of the contrastive
# training; the step from *aligned* to *after* is that of the calibration.

# %%
after = {name: run.embeddings(f"starclip/{name}") for name in titles}
trained = run.model("starclip").encoders
before = benchmark.embed_with({name: run.model(name).encoders[name] for name in titles}, data, run.params)
aligned = benchmark.embed_with({name: benchmark.uncalibrated(trained[name]) for name in titles}, data, run.params)
states = {"before": before, "aligned": aligned, "after": after}

# %%
probed = {
    (f"{title} {state}", kind): found
    for name, title in titles.items()
    for state, group in states.items()
    for kind, found in benchmark.probe_with_all(group[name], data, seed=seed).items()
}
pd.Series({key: p.r2.mean() for key, p in probed.items()}).unstack(sort=False).round(3)

# %% [markdown]
# These are means of r² over the twenty labels. To compare two states we need an interval, and two points matter. **What is
# drawn:** a bootstrap draws as many *stars* as there are, with replacement, each with all its views. Five views of a star are
# not five stars, and an interval that treats them as five is too narrow by up to √5. **What is compared:** both models are judged
# on the same stars, and a star that is hard for one is hard for the other, so we resample the *difference*. Where its interval
# excludes zero, alignment changed something.

# %%
gains = {
    title: {
        kind: probed[f"{title} after", kind].gain_over(probed[f"{title} before", kind], **options)
        for kind in ("linear", "knn", "mlp")
    }
    for title in titles.values()
}
run.save_figure("alignment_gains", figures.label_intervals(gains, "r² after alignment minus before"))

# %%
rows = []
for title, kinds in gains.items():
    for kind, found in kinds.items():
        better, worse = sum(i.low > 0 for i in found), sum(i.high < 0 for i in found)
        change = np.mean([i.value for i in found])
        rows.append(
            f"{title}, {kind}: {change:+.3f} on average; better for {better}, worse for {worse} of 20 labels, the others undecided"
        )
Markdown("r² after minus before:\n\n- " + "\n- ".join(rows))

# %% [markdown]
# **How to read this.** Calibration is a linear map, so a linear probe hardly notices it: what that probe gains or loses comes from
# the contrastive training. Neighbours notice it, where the run calibrates. In calibrated coordinates two stars are near if they are hard to tell apart,
# and the many weakly determined labels count as much as the few strong ones. A label for which neighbours lose and the linear
# probe does not is still in the embedding; only the meaning of distance has changed. Use a probe to read a label, and distance
# to find a star.
#
# ## Where does it fail?
#
# One number for all stars hides where they are good and bad. Here are the errors of the linear probe, view by view, in bins
# of what the telescope did (noise, place of the gap), of what the star is, and of how many training stars lie close by in
# the embedding. Each is divided by the error of all views.

# %%
probe, judged = probed["NIRSpec after", "linear"], after["nirspec"].take("test")
snr, gap = strata.view_conditions(data.nirspec, data.rows("test"), starclip.mock_telescope(run.params))
conditions = {
    "SNR per pixel": snr.ravel(),
    "gap begins at [Å]": gap.ravel(),
    "Teff [K]": probe.true[:, TEFF],
    "log g": probe.true[:, LOGG],
    "[Fe/H]": probe.true[:, FE],
    "log of 1 + training views close by": np.log10(
        1 + strata.neighbour_count(judged.z, after["nirspec"].take("train").z)
    ),
}
stratified = strata.by_condition(probe.error, probe.star_id, conditions, ("Teff", "logg", "Fe"), **options)

# %%
overall = dict(zip(starclip.LABELS, np.sqrt((probe.error**2).mean(axis=0)), strict=True))
run.save_figure("strata", figures.strata_curves(stratified, overall))

# %%
rows, ratio = [], {}
for condition, bins in stratified.items():
    low, high = (bins["Teff"][place].rmse for place in (0, -1))
    ratio[condition] = max(low.value, high.value) / min(low.value, high.value)
    apart = "do not overlap" if low.low > high.high or high.low > low.high else "overlap: not settled"
    rows.append(
        f"{condition}: {low.value:.0f} K in the lowest bin, {high.value:.0f} K in the highest; intervals {apart}"
    )
widest = max(ratio, key=ratio.get)
Markdown(
    f"Error of Teff (all views: {overall['Teff']:.0f} K):\n\n- "
    + "\n- ".join(rows)
    + f"\n\nThe widest range, a factor of {ratio[widest]:.2f}, is that of: {widest}."
)

# %% [markdown]
# A condition is a cause only if nothing else changes with it, and here much does: a noisy view is pulled towards the mean, where
# most stars lie, so it has many neighbours *because* it is noisy; and hot giants are metal-poor ones.
#
# ## Pairs and strangers
#
# From PAPERCLIP: among the best k % of all candidate stars, how often is the right one? And the control: the same search with
# the pairs **shuffled**, so that every spectrum is asked for a star that is not its own. A shuffled search must end at k %,
# chance. If it did better, our measure would reward something that is not there. (One shuffle is one draw: since giants differ
# mostly along one direction, it may end somewhat above or below chance, which an interval over stars does not contain.)

# %%
test = {name: {state: group[name].take("test") for state, group in states.items()} for name in titles}
nirspec, apogee = test.values()
searches = {f"NIRSpec → APOGEE, {state}": (nirspec[state], apogee[state]) for state in states}
searches["APOGEE → NIRSpec, after"] = (apogee["after"], nirspec["after"])
searches["NIRSpec → APOGEE, shuffled"] = (nirspec["after"], pairs.shuffled(apogee["after"], seed))
curves = {name: pairs.top_percent_curve(*pair, **options) for name, pair in searches.items()}
run.save_figure("top_percent", figures.top_percent(curves))


# %%
def at(percent):
    """Value and interval of each curve at k per cent."""
    place = pairs.PERCENTS.index(percent)
    return {name: [float(values[place]) for values in curve] for name, curve in curves.items()}


# %%
value = {state: at(1.0)[f"NIRSpec → APOGEE, {state}"][0] for state in states}
control, low, high = at(10.0)["NIRSpec → APOGEE, shuffled"]
Markdown(
    "The right star is among the best 1 %: "
    + "; ".join(f"{name}, {v:.3f} [{a:.3f}, {b:.3f}]" for name, (v, a, b) in at(1.0).items())
    + f". From NIRSpec the contrastive training changes this by {100 * (value['aligned'] - value['before']):+.1f} points and the "
    f"calibration ({'on' if run.params.starclip.calibrate else 'off'} in this run) by "
    f"{100 * (value['after'] - value['aligned']):+.1f}. Among the best 10 % the control finds {control:.3f} [{low:.3f}, {high:.3f}]; "
    f"chance, 0.100, lies {'inside' if low <= 0.1 <= high else '**outside**'} the interval."
)

# %% [markdown]
# ## Two measures that ask for no star
#
# **Told by trees**: boosted trees are shown embeddings of both instruments and predict which one each is from. One half
# means that no trace of the instrument is left. **Mutual neighbours** (Huh et al. 2024): which share of a star's ten nearest stars
# is the same for both instruments? Chance is ten divided by the number of other stars.

# %%
first_twenty = tuple(replace(side["after"], z=side["after"].z[:, :20]) for side in (nirspec, apogee))
sides = {state: (nirspec[state], apogee[state]) for state in states} | {"after, first 20 coordinates": first_twenty}
measured = {state: pairs.judged(*pair, **options) for state, pair in sides.items()}
pd.DataFrame({state: {name: str(found) for name, found in row.items()} for state, row in measured.items()}).T

# %%
told, shared = (
    {state: row[key].value for state, row in measured.items()}
    for key in ("instrument told by trees", "mutual neighbours of ten")
)
Markdown(
    f"Trees tell the instrument in {told['before']:.1%} of the cases before and {told['after']:.1%} after alignment, and in "
    f"{told['after, first 20 coordinates']:.1%} if they see the first twenty coordinates only. Mutual neighbours go from "
    f"{shared['before']:.3f} to {shared['after']:.3f}; chance is {10 / (len(apogee['after']) - 1):.3f}."
)

# %% [markdown]
# Compare the last two rows. A calibrated space gives each instrument one coordinate of its own, which is zero for the other. The cosine between two
# instruments ignores it, trees do not, and a map shows each instrument as an island (notebook 07). In the twenty shared
# coordinates trees can still see by how far estimates are pulled towards the mean, which depends on the noise.

# %%
run.save_metrics(
    "evaluation.benchmark", report.benchmark_metrics(probed, gains, stratified, curves, measured, **options)
)

# %% tags=["nbval-check-output"]
print("searches:", "; ".join(searches))
print("views judged:", sum(len(side["after"]) for side in test.values()))

# %% [markdown]
# ## Exercises
#
# **1. Code a paired interval.** Below is, star by star, by how much the error of Teff changes with alignment. Write a function
# `interval(difference, draws)`: `difference` has one value a star, shape (n,); each row of `draws`, shape (m, n), has the numbers of the
# stars that one resample contains. Return the 2.5 and the 97.5 per cent quantile of the m means. Put the function in place
# of None; then apply it to these data. Did alignment change the error of Teff?

# %%
true = data.labels_of(probe.mean.star_id)[:, TEFF]
error = {state: abs(probed[f"NIRSpec {state}", "linear"].mean.labels[:, TEFF] - true) for state in ("before", "after")}
difference = error["after"] - error["before"]
draws = np.random.default_rng(seed).integers(len(true), size=(1000, len(true)))
print(f"{len(true)} stars, mean difference {difference.mean():+.2f} K")

# %%
answer = None
starclip.check("13.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def interval(difference, draws):
#     return np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
#
# interval(difference, draws)
# ```
#
# If zero lies outside the two numbers, alignment changed the error of Teff for stars like these.
#
# </details>
#
# **2.** A difference of r² between two models has the 95 % interval [−0.002, 0.013]. Is the second model better? Answer "yes",
# "no" or "undecided".

# %%
answer = None
starclip.check("13.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# "undecided": zero lies inside. It does not say that they are equal either; more test stars would.
#
# </details>
#
# ## Questions
#
# 1. For which labels do the three probes disagree about alignment? What would you use to read a label, and what to find a star?
# 2. How would you separate the effect of crowding on the error from that of noise?
# 3. Our intervals are over stars only. What else varies when one trains a model again?
#
# **Next:** [14 · Decoders](14_decoders.ipynb) asks what an embedding knows of the spectrum itself.
