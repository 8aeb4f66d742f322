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
# # 13b · The contest: which method holds where theory is wrong?
#
# **Purpose.** Let twelve methods find and measure the same stars, with NIRSpec spectra from theory, as in the paper, and with observed
# ones, as you will have them.
#
# **The figure to remember.** Two ladders side by side: the order of the methods changes when the sky replaces the theory.
#
# **After this notebook you can** say what each method must know, what contrastive training is worth to a network, why an error that
# both instruments share is harmless, and how observed spectra can correct a synthesis without labels.
#
# **Before this:** notebooks 06 and 08b.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run | a table and figures | 5 minutes | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown, display

import starclip_lib as starclip
from starclip_lib import NIRSPEC, figures
from starclip_lib.suite import contest

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_matched": 50}}
n_views: int = 1  # NIRSpec views of each star; `starclip contest` takes all of the run's

# %%
run = starclip.open_run(params_file, overrides)
data, test = run.data, run.data.rows("test")

# %% [markdown]
# ## What is wrong with theory
#
# For each test star there is a NIRSpec spectrum from theory, at the catalogue's labels, and one as it would be observed, by another
# physics at the true labels. Here is the difference of the two in one star (above), and its scatter over the test stars about what
# they have in common (below).

# %%
if data.observed is not None:
    observed = data.with_observed().nirspec.flux[test]
    difference = observed - data.nirspec.flux[test]
    common = np.median(difference, axis=0)
    scatter = (difference - common).std(axis=0)
    display(run.save_figure("mismatch", figures.residuals(difference[0], scatter, (11600, 12200), NIRSPEC)))

# %%
if data.observed is not None:
    lines = 1 - data.nirspec.flux[test]
    sizes = [np.sqrt((x**2).mean()) for x in (difference, common, difference - common, lines)]
    sentence = (
        f"The difference is {sizes[0]:.4f} of the continuum (root mean square) where lines are {sizes[3]:.3f} deep. What all stars have in "
        f"common is {sizes[1]:.4f}, {sizes[1] ** 2 / sizes[0] ** 2:.0%} of the mean square, and {sizes[2]:.4f} is left without it. What is "
        "common could be learned from the observed stars themselves; the rest depends on the star, or is the difference of its labels."
    )
else:
    sentence = "This data set has no observed NIRSpec spectra: set `data.world` to `realistic`."
Markdown(sentence)

# %% [markdown]
# ## The methods
#
# | method | knows | what it does |
# |---|---|---|
# | `overlap` | nothing | chi-squared over the pixels that both instruments have |
# | `linear` | pairs | canonical correlations, regularised on validation stars |
# | `labels` | labels of each side | the pretrained networks, calibrated cosine |
# | `scratch` | pairs | contrastive training of networks with random weights |
# | `contrastive` | labels and pairs | StarCLIP and MockStarCLIP |
# | `theory` | physics | fits of the emulator |
# | `physics` | physics and its doubts | the same, with 19 parameters of physics as nuisances of each spectrum |
# | `errors` | physics, pairs | the run's fits: errors per pixel and errors of pairs are learned from training stars |
# | `corrected` | physics, labels, pairs | the synthesis of APOGEE is corrected by training stars |
# | `shared` | physics | plain theory on both observed sides, whose common errors cancel |
# | `anchored` | as `corrected`, and observed spectra without labels | the correction on APOGEE's chips anchors the labels of the observed spectra, these correct the rest, and what all of them have in common against their nearest APOGEE stars is taken off |
# | `ideal` | everything | the Gaussian ideal matcher |
#
# All see the same view of the same test stars. `starclip contest` does this for all views, and for any run.

# %%
table = contest.hold(run, n_views=n_views)
labels = table.filter(like=" ").columns
table.drop(columns=labels).round(3)

# %%
titles = {"nirspec_to_apogee": "NIRSpec (theory) finds APOGEE", "observed_to_apogee": "observed NIRSpec finds APOGEE"}
steps = contest.as_steps(table, len(test))
shown = {way: title for way, title in titles.items() if table[way].notna().any()}
run.save_figure("contest", figures.ladder(steps, shown))

# %%
first, networks = table["nirspec_to_apogee"], ["labels", "scratch", "contrastive"]
real = [name for name in table.index if name != "ideal"]
Markdown(
    f"**Theory against observed APOGEE.** Contrastive training takes networks from {first['labels']:.1%} to {first['contrastive']:.1%}, and "
    f"from random weights, without labels, to {first['scratch']:.1%}. The plain fit of the theory finds {first['theory']:.1%}, since APOGEE "
    f"was observed by another physics; a fit that learns its errors from training stars finds {first['errors']:.1%}. Best is "
    f"`{first[real].idxmax()}` with {first[real].max():.1%}, where the Gaussian ideal matcher has {first['ideal']:.1%}."
)

# %%
sky = table["observed_to_apogee"]
if data.observed is not None:
    sentence = (
        f"**Observed against observed.** Networks find {sky['labels']:.1%}, after contrastive training {sky['contrastive']:.1%}. `overlap`, which "
        f"knows nothing, finds {sky['overlap']:.1%}, and `theory` on both sides {sky['theory']:.1%}: an error that both instruments share "
        f"cancels as far as it is one. Where only the APOGEE side was corrected (`errors`: {sky['errors']:.1%}, `corrected`: "
        f"{sky['corrected']:.1%}), it no longer does. Best is `{sky[real].idxmax()}` with {sky[real].max():.1%}; ideal is {sky['ideal']:.1%}."
    )
Markdown(sentence)

# %% [markdown]
# ## Labels
#
# Root mean square errors of the labels of single views (Teff in K, the others in dex), and the share of all twenty labels inside the 95 %
# intervals. Observed spectra are judged by the labels at which they were made.

# %%
table[labels].dropna(how="all").round(3)

# %%
if data.observed is not None:
    covered = table["observed coverage"].dropna()
    error = table["observed Teff"].dropna()
    sentence = (
        f"Of observed spectra `{error.idxmin()}` has the smallest error of Teff, {error.min():.0f} K; `theory` has {error['theory']:.0f} K. The "
        f"intervals of `theory` hold {covered['theory']:.0%} of the labels and claim 95 %; with physics as nuisances (`physics`) they hold "
        f"{covered['physics']:.0%}, and those of `anchored` {covered['anchored']:.0%}. An interval that is honest about the physics is wider than "
        "noise alone would make it, and how much wider only a star with known labels can tell."
    )
Markdown(sentence)

# %% tags=["nbval-check-output"]
print(len(table), "methods,", len(test), "test stars,", n_views, "view each")

# %% [markdown]
# ## Exercises
#
# **1.** A method's error of Teff is 1 (in some unit), root mean square. An error of 0.4 is common to all stars. What is the scatter of the
# errors from star to star?

# %%
answer = None
starclip.check("13b.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# √(1 − 0.4²) = 0.917. Taking the common error away gains less than one might hope: squares add.
#
# </details>
#
# **2.** Which of these two loses more when observed NIRSpec spectra take the place of theory, "overlap" or "linear"?

# %%
answer = None
starclip.check("13b.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# "linear": it learned on NIRSpec spectra of theory. `overlap` gains, because the errors of both sides are now the same.
#
# </details>
#
# **3. (To code.)** How far does a correction without labels get? Take `common`, the median difference of the observed spectra and the
# theory at their catalogue labels (on the sky you would take the residuals of a fit), from half of the test stars, subtract it from the
# observed spectra of the other half, and put the root mean square of what is left, a number, into `yours`.

# %%
yours = None  # root mean square of the second half's difference after the correction
if yours is not None:
    print(f"left: {yours:.4f} of the continuum, {yours / sizes[0]:.0%} of the whole difference")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `half = len(difference) // 2`, then `left = difference[half:] - np.median(difference[:half], axis=0)` and
# `yours = np.sqrt((left**2).mean())`. What is left changes with the labels: a correction that is linear in Teff and [Fe/H], as in
# `corrected`, takes more.
#
# </details>
#
# ## Questions
#
# 1. In which situation would you train networks contrastively, and in which would you fit?
# 2. `anchored` trusts APOGEE's labels, and that the stars searched for are among its spectra. What happens if one is not true?
# 3. Another world may differ in other ways. Which statement of this notebook would you expect to hold there, too?
#
# **Next:** [14 · Decoders](14_decoders.ipynb) asks what an embedding knows of the spectrum itself.
