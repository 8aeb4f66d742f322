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
# # 12 · Baselines: what each part of a method contributes
#
# **Purpose.** Put our numbers between what simple methods reach on the same spectra and what a matcher reaches that knows the
# noise of every spectrum. The figure to remember is the **ladder** near the end: every method of this project on the same stars.
#
# **After this notebook you can** tell whether a network is worth its GPU, say what a population prior does to a bound, and
# say how much of a result comes from the network, from contrastive training, and from fitting physics.
#
# **Before this:** notebooks 06, 08 and 11.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5`, `embeddings.h5`, `fit.h5`, all `.ckpt` | tables and figures | 2.7 minutes, 3.2 GB of memory | 2026-12-01 |
#
# `starclip evaluate` runs this notebook, as it does all that judge a finished run.

# %%
# %matplotlib inline
from dataclasses import replace

import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import LABELS, NIRSPEC, PLAIN, UNITS, figures
from starclip_lib.suite import resampling
from starclip_lib.metrics import baselines, ideal, linear_alignment, probing, retrieval, view_information
from starclip_lib.inference import fisher as limits
from starclip_lib.metrics.robustness import measured_contrastive_fit
from starclip_lib.models.encoding import embed_views
from starclip_lib.physics.labels import PUBLISHED_SPREAD
from starclip_lib.training.refining import calibrate

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_matched": 50}}

# %%
run = starclip.open_run(params_file, overrides)
data, emulator, settings = run.data, starclip.default_emulator(), run.params.limits
telescope, worse = starclip.mock_telescope(run.params), starclip.extended_telescope(data, run.params)
test = data.rows("test")
inside = test[emulator.inside_domain(data.labels[test].astype(float))]

# %% [markdown]
# ## The bound for *these* spectra
#
# Each test star has five views, each with its own noise and its own gaps. The information of independent views adds up, so the
# bound of a star is that of the sum. The Cramér-Rao bound of notebook 11 holds for unbiased methods. A method that knows the
# *population*, as every trained network does, can guess an unmeasurable label better than that. With the population's
# covariance as prior, the posterior sigma of a linear Gaussian model bounds the mean squared error over the population: the
# **van Trees bound**. It is computed for all test stars inside the emulator's domain, and errors are taken over the same stars.

# %%
mock = view_information.seen_by(telescope, data, inside, emulator)
prior = np.cov(data.labels[data.rows("train")].astype(float).T)
bound = mock.limit(NIRSPEC, prior)

# %% [markdown]
# ## Simple methods that read labels
#
# The same split, the same views: ridge regression on all pixels, ridge on principal components, the mean of the nearest
# spectra. Beside them the paper's CNN, and our linear probe. All predict each view; the mean over a star's views counts,
# weighted by their information where a method knows it.

# %%
predicted = baselines.simple_methods(data, telescope, run.params.seed)
cnn = starclip.predict_labels(run.model("supervised"), data.nirspec, test, telescope)
predicted["CNN"] = cnn.reshape(-1, 20)
seen_before, known = run.space.known, data.labels_of(run.space.known.star_id)
judged = run.space.nirspec.take("test")
predicted["StarCLIP probe"] = probing.read_views(seen_before, known, judged)

# %%
star_id = np.repeat(data.star_id[test], telescope.n_views)
means = {name: probing.average_views(labels, star_id) for name, labels in predicted.items()}
means["StarCLIP probe"] = probing.linear_probe(seen_before, known, judged)  # views combined by their information
scores = {}
for name, found in means.items():
    same = np.isin(found.star_id, data.star_id[inside])
    scores[name] = probing.score_labels(data.labels_of(found.star_id[same]), found.labels[same])
table = pd.DataFrame({name: s["rmse"] for name, s in scores.items()} | {"van Trees bound": dict(zip(LABELS, bound))})
table.index = [f"{name} [{unit}]" for name, unit in zip(PLAIN, UNITS)]
table.round(3)

# %%
ratios = {name: np.array([s["rmse"][label] for label in LABELS]) / bound for name, s in scores.items()}
run.save_figure("over_limit", figures.errors_over_limit(ratios))

# %%
closest = min(ratios, key=lambda name: np.median(ratios[name]))
Markdown(
    "Error over bound, median of the labels: "
    + "; ".join(f"{name}, {np.median(values):.2f}" for name, values in ratios.items())
    + f". Closest to the bound is **{closest}**; its best label is {PLAIN[ratios[closest].argmin()]} with "
    f"{ratios[closest].min():.2f}, its worst {PLAIN[ratios[closest].argmax()]} with {ratios[closest].max():.2f}."
)

# %% [markdown]
# What would a user of The Payne do? Fit the emulator to each spectrum by least squares, at about a second per spectrum; a
# network takes a thousandth of that, and the steps that refine its guess (notebook 04) are such fits, many spectra at a time,
# with the population as prior. A few single views, compared with the Cramér-Rao bound of these very views. The fit keeps labels
# inside the emulator's domain, which helps where a spectrum says little about a label: it is not unbiased, so it may
# lie below that bound. The interval is a bootstrap over these few stars.

# %%
few = mock.first(min(12, settings.n_stars), n_views=1)
observed = telescope.views(data.nirspec, few.rows)[:, 0]
fitted = baselines.least_squares_labels(observed, few.snr[:, 0], NIRSPEC)
squares = (fitted - few.labels) ** 2
variance = np.array([limits.bounds(one, NIRSPEC) ** 2 for one in few.information[:, 0]])
ratio, low, high = resampling.bootstrap(
    lambda weights: np.median(np.sqrt((weights @ squares) / (weights @ variance)), axis=1), len(few.rows)
)
over_bound = float(ratio)
side = (
    "below the bound: the domain's edge acts as a prior" if high < 1 else "above" if low > 1 else "compatible with it"
)
Markdown(
    f"Least squares, {len(few.rows)} views: RMSE over the Cramér-Rao bound, median of the labels {ratio:.2f} "
    f"(95 %: {low:.2f} to {high:.2f}), that is {side}."
)

# %% [markdown]
# ## One view at a time
#
# Errors grow with the noise, but so does the bound. The ratio of the two says whether a method uses what is there. Bins of
# the views' SNR, gaps included:

# %%
place = np.searchsorted(test, mock.rows)
own = predicted["StarCLIP probe"].reshape(-1, telescope.n_views, 20)[place] - mock.labels[:, None]
snr, by_snr = mock.by_snr(own, NIRSPEC, prior)
run.save_figure("limit_by_snr", figures.ratio_by_snr(snr, by_snr))

# %%
middle = np.median(by_snr, axis=1)
Markdown(
    f"The median label of the StarCLIP probe has {middle[0]:.2f} times the error of the bound at a SNR of {snr[0]:.0f} and "
    f"{middle[-1]:.2f} times at {snr[-1]:.0f}: the method uses {'less' if middle[-1] > middle[0] else 'more'} of what bright spectra hold."
)

# %% [markdown]
# ## Finding stars with nothing trained
#
# APOGEE lies wholly inside NIRSpec's range. An astronomer would first blur APOGEE to NIRSpec's resolution, put it on NIRSpec's
# pixels and compare what both instruments see, by chi-squared with one fitted scale: the **overlap**. Views whose gap
# hides nearly all of these pixels cannot be compared and take the last place.
#
# Next is **a linear alignment**: canonical correlations between the two instruments, on views of their own of the training
# stars, with a penalty and a number of components that validation stars choose.

# %%
overlap = baselines.overlap_scores(data, telescope)
linear = retrieval.scores_both_ways("nirspec", "apogee", linear_alignment.align_linearly(data, telescope))

# %% [markdown]
# ## The Gaussian ideal matcher
#
# Give each spectrum the best estimate of its labels that is possible, with the right uncertainty, and compare two spectra by
# how much more likely they are one star than two. NIRSpec spectra are computed at the catalogue's labels and APOGEE saw the
# true star, so the catalogue's errors stand between them; true labels are drawn for each star as its catalogue labels and their
# errors allow. Mock and extended mock of one star are computed at the very same labels.
#
# This matcher takes population and errors as Gaussian. The population is a mixture, so a method that knows the mixture could
# do better: it is a reference, not an upper bound. Every candidate counts, but only some stars are asked for, since pairs are
# compared one by one. In extended mock spectra, the substituted lines tell nothing about the star and the continuum is
# marginalised anyway.

# %%
memory = run.params.memory * 1e9
measured = starclip.PairedSpectra.read(run.need("data.h5"), with_ivar=True, memory=memory).apogee  # with its noise
apogee = view_information.seen_by_apogee(replace(data, apogee=measured), inside, settings.apogee_snr, emulator)
chosen = starclip.mock_stars(data, run.params)["test"]
extended = view_information.seen_by(worse, data, chosen[np.isin(chosen, inside)], emulator)
bound_extended = extended.limit(NIRSPEC, prior)

# %%
best = ideal.ideal_retrieval(data, mock, extended, apogee, settings.n_matched, run.params.seed)

# %% [markdown]
# ## What each part contributes
#
# A **network** predicts labels and is compared by cosine, before and after **contrastive** training; a **fit** adjusts the
# emulator to each spectrum and is compared by Bayes factors, before and after. Where the run calibrates its space, the aligned
# networks are calibrated too, so a row shows the pretrained networks with that calibration and no contrastive training. The fit
# uses the emulator that generated the NIRSpec spectra, an advantage that no real instrument offers; observed NIRSpec spectra
# have their own account in notebooks 06 and 13b. Intervals are Wilson's, with one trial per star.

# %%
once = {"mock": starclip.mock_telescope(run.params, 1), "extended": starclip.extended_telescope(data, run.params, 1)}
seen_through = {"nirspec": (test, telescope), "apogee": (test, None)}
seen_through |= {kind: (chosen, view) for kind, view in once.items()}


# %%
def embedded(encoders):
    """The test stars' spectra of each kind, by that kind's encoder."""
    return {kind: embed_views(encoder, data, *seen_through[kind]) for kind, encoder in encoders.items()}


# %%
networks = {name: run.model(name).encoders[name] for name in ("nirspec", "apogee")}
network = {"network": embedded(networks | dict.fromkeys(once, networks["nirspec"]))}
if run.params.starclip.calibrate:
    calibrate((networks["nirspec"], networks["apogee"]), data, run.params)
    network["network, calibrated"] = embedded(networks | dict.fromkeys(once, networks["nirspec"]))
trained = {name: run.embeddings(f"starclip/{name}").take("test") for name in ("nirspec", "apogee")}
trained |= {name: run.embeddings(f"mockstarclip/{name}").take("test").of_view(0) for name in once}
fitted_kinds = {kind: run.embeddings(f"fit/{kind}").take("test") for kind in seen_through}
fit = {"fit": fitted_kinds | {kind: fitted_kinds[kind].of_view(0) for kind in once}}
name = "network + contrastive"
methods = retrieval.methods_table({**network, name: trained, **fit})

# %% [markdown]
# The last row was measured once, where theory is right, with version 0.2 of this package, in which the contrastive loss could train how much the fit
# weighs each pixel. It changed nothing, so later versions leave it out; the recorded numbers stand here.

# %%
recorded = measured_contrastive_fit()
made = "{file}, seed {seed}, {n_stars:,} stars".format(**recorded["made with"])
methods[f"fit + contrastive ({made})"] = recorded["fit + contrastive"]
run.save_metrics("methods", methods)
base = "network, calibrated" if "network, calibrated" in methods else "network"
gain = {d: recorded["fit + contrastive"][d]["success@1"] - recorded["fit"][d]["success@1"] for d in recorded["fit"]}
Markdown(
    f"Contrastive training changes R@1 of the fit by {gain['nirspec_to_apogee']:+.4f} (NIRSpec to APOGEE) and "
    f"{gain['apogee_to_nirspec']:+.4f} (back), between mock and extended mock by {gain['mock_to_extended']:+.4f} and {gain['extended_to_mock']:+.4f} ({made}). "
    f"In this run, '{name}' finds {methods[name]['nirspec_to_apogee']['success@1'] - methods[base]['nirspec_to_apogee']['success@1']:+.3f} and "
    f"{methods[name]['apogee_to_nirspec']['success@1'] - methods[base]['apogee_to_nirspec']['success@1']:+.3f} more than '{base}'."
)

# %%
asked = min(settings.n_matched, len(inside))
rivals = {
    "overlap": {d: retrieval.with_intervals(x, len(test)) for d, x in overlap.items()},
    "a linear alignment": {d: retrieval.with_intervals(x, len(test)) for d, x in linear.items()},
    **methods,
    "Gaussian ideal matcher": {d: retrieval.with_intervals(x, asked) for d, x in best.items()},
}
retrieval.retrieval_table(rivals)

# %%
titles = {"nirspec_to_apogee": "NIRSpec finds APOGEE", "apogee_to_nirspec": "APOGEE finds NIRSpec"}
run.save_figure("methods_ladder", figures.ladder(rivals, titles))

# %%
lines = []
for direction, title in titles.items():
    first = {name: found[direction] for name, found in rivals.items() if direction in found}
    steps = sorted(first, key=lambda name: first[name]["success@1"])
    lines.append(f"{title}: " + " ≤ ".join(f"{name} {first[name]['success@1']:.3f}" for name in steps))
Markdown(
    "From the lowest step to the highest:\n\n- "
    + "\n- ".join(lines)
    + f"\n\nThe overlap is measured with nothing trained. Back, any of {telescope.n_views} views counts as a hit."
)

# %% [markdown]
# A contrastive loss bounds the mutual information of the two kinds of spectra from below: log N minus the loss, for N pairs.
# A bound near log N says that there are too few stars to show more.

# %%
information = {}
for name, kinds in (("starclip", ("nirspec", "apogee")), ("mockstarclip", ("mock", "extended"))):
    scale = run.model(name).logit_scale
    information[name] = retrieval.information_bound(*(trained[kind] for kind in kinds), scale)
run.save_metrics("information", information)
pd.DataFrame(information).T.round(3)

# %%
run.save_metrics(
    "baselines",
    baselines.as_metrics(
        scores,
        {"limit": bound, "limit_extended": bound_extended},
        {"n": len(few.rows), "rmse_over_bound": over_bound, "low": float(low), "high": float(high)},
        (snr, by_snr),
        {"overlap": overlap, "cca": linear, "ideal": best},
    ),
)

# %% tags=["nbval-check-output"]
print("methods compared:", ", ".join(predicted))
print("search methods:", ", ".join(["overlap", "a linear alignment", "Gaussian ideal matcher"]))

# %% [markdown]
# ## Exercises
#
# **1. Code the van Trees bound.** Write a function `van_trees(information, prior)` that takes the Fisher information of a spectrum
# and the covariance of the population, both (k, k) and in the same units, and returns the k posterior standard deviations. Put
# it in place of None. Below are both for one test star, in units of the labels' published spreads: `van_trees(information, scaled)`
# times these spreads is its bound. For which labels is it close to what the population alone tells, `np.sqrt(np.diag(prior))`?

# %%
spread = PUBLISHED_SPREAD
information, scaled = mock.information[0].sum(axis=0), prior / np.outer(spread, spread)
alone = limits.bounds(information, NIRSPEC, np.diag(np.diag(prior)))
print("with a prior without correlations:", dict(zip(LABELS, alone.round(3).tolist())))

# %%
answer = None
starclip.check("12.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def van_trees(information, prior):
#     return np.sqrt(np.diag(np.linalg.inv(information + np.linalg.inv(prior))))
# ```
#
# Precisions add. Compare with the line above: where the population's correlations help, an element without lines is known
# through the others.
#
# </details>
#
# **2.** A network reports an RMSE *below* the Cramér-Rao bound for [Ce/H], an element without strong lines here. Is the bound
# wrong? Answer True or False.

# %%
answer = None
starclip.check("12.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# False. The bound holds for unbiased methods; the network leans towards what is common, guided by the other elements.
#
# </details>
#
# ## Questions
#
# 1. For which labels does ridge regression come close to the network? What do these labels have in common?
# 2. Why do views whose gap hides the overlap fail with chi-squared and not with an embedding?
# 3. In which direction does the Gaussian ideal matcher miss stars? What would have to be better: NIRSpec, APOGEE, or the
#    catalogue?
#
# **Next:** [13 · Benchmark](13_benchmark.ipynb) judges the embedding with the tests of related papers (`starclip evaluate`).
