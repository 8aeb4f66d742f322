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
# # 11 · Limits: as good as physics allows?
#
# **Purpose.** Say how much a spectrum can tell about each label, where in the spectrum it says so, and what a gap costs.
#
# **After this notebook you can** compute a Cramér-Rao bound with nuisances marginalised, see which wavelengths carry an
# element, and decide what signal-to-noise ratio a proposal has to ask for.
#
# **Before this:** notebook 08; matrices.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | a finished run: `data.h5` | figures only | 27 seconds | 2026-12-01 |
#
# `starclip evaluate` runs this notebook, as it does all that judge a finished run. The figure to remember is the **information
# map**: where in the spectrum each element shows.

# %%
# %matplotlib inline
import numpy as np
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import APOGEE, FE, NIRSPEC, PLAIN, figures
from starclip_lib.inference import fisher as limits
from starclip_lib.metrics.robustness import measured_robustness

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"limits": {"n_stars": 20}}

# %%
run = starclip.open_run(params_file, overrides)
data, emulator = run.data, starclip.default_emulator()
test = data.rows("test")
inside = test[emulator.inside_domain(data.labels[test].astype(float))]
sample = inside[: run.params.limits.n_stars]

# %% [markdown]
# ## How much a spectrum tells
#
# Change a label a little, and the spectrum changes in some pixels. If these changes stand out of the noise, the label can be
# measured; how well is what the *Fisher information* adds up over all pixels. Continuum and radial velocity change the
# spectrum too and are unknown, so what they could explain is taken off: they are *marginalised*. The inverse
# of what is left is the **Cramér-Rao bound**, the covariance that no unbiased method can beat. A method that knows the
# population of stars is not unbiased: it leans towards what is common, and for an uninformative spectrum it does better than
# this bound. Its limit adds the population's precision to the spectrum's (the van Trees bound; notebook 12). NIRSpec's grid
# begins at 9,000 Å, but its filter lets light through from 9,700 Å only; shorter wavelengths are left out here.

# %%
snr = np.array([30.0, 60, 100, 200, 300])
stars = data.labels[sample].astype(float)
dark = {i: limits.blocked(i) for i in (NIRSPEC, APOGEE)}
at_100 = {
    i.title: np.median([limits.cramer_rao(emulator, s, i, 100.0, missing=dark[i]) for s in stars], axis=0) for i in dark
}
bound = {title: 100 / snr[:, None] * values for title, values in at_100.items()}  # the bound goes as one over the SNR
shown = ("Teff", "logg", "Fe", "Mg", "V")
run.save_figure("bounds_snr", figures.bounds_against(snr, bound, shown, "SNR per pixel"))

# %%
ratio = at_100["NIRSpec"] / at_100["APOGEE"]
Markdown(
    f"At a SNR of 100 per pixel NIRSpec knows Teff to {at_100['NIRSpec'][0]:.0f} K and APOGEE to {at_100['APOGEE'][0]:.0f} K. "
    f"NIRSpec is better for {(ratio < 1).sum()} of the 20 labels; the median ratio of the bounds is {np.median(ratio):.2f}, the "
    f"largest {ratio.max():.1f} ({PLAIN[ratio.argmax()]})."
)

# %% [markdown]
# Metal-poor stars have weaker lines, which tell less:

# %%
order = sample[np.argsort(data.labels[sample, FE])]
groups = [g for g in np.array_split(order, 5) if len(g)]
metallicity = [float(data.labels[g, FE].mean()) for g in groups]
by_group = {
    i.title: np.array(
        [
            np.median(
                [limits.cramer_rao(emulator, data.labels[s].astype(float), i, 100.0, missing=dark[i]) for s in g],
                axis=0,
            )
            for g in groups
        ]
    )
    for i in dark
}
run.save_figure("bounds_feh", figures.bounds_against(metallicity, by_group, shown, "[Fe/H]", log=False))

# %%
worse = by_group["NIRSpec"][0] / by_group["NIRSpec"][-1]
Markdown(
    f"From [Fe/H] = {metallicity[-1]:+.2f} to {metallicity[0]:+.2f} the bound of NIRSpec grows by a factor of {np.median(worse):.1f} "
    f"(median of the labels): most for {PLAIN[worse.argmax()]} ({worse.max():.1f}), least for {PLAIN[worse.argmin()]} ({worse.min():.1f})."
)

# %% [markdown]
# ## Which wavelengths, and what a gap costs
#
# Where does each label show? Below, for one star, the strength of the response along the spectrum, each label relative to its
# strongest stretch. Molecules (CN, CO, OH) fill whole bands; metals have single lines.

# %%
density = limits.information_density(emulator, stars[0], NIRSPEC, 100.0)
run.save_figure("information", figures.information_map(np.where(dark[NIRSPEC], 0, density), NIRSPEC))

# %%
strength = np.where(dark[NIRSPEC], 0, density)
half = {n: (np.sort(row)[::-1].cumsum() < row.sum() / 2).sum() for n, row in zip(PLAIN, strength)}
narrow, broad = min(half, key=half.get), max(half, key=half.get)
Markdown(
    f"Half of what this spectrum tells about {narrow} lies in {half[narrow]} of its {(~dark[NIRSPEC]).sum():,} pixels; about {broad}, in "
    f"{half[broad]}. An element that lives on few pixels is the first to be lost in a gap."
)

# %% [markdown]
# A detector gap takes a stretch away. What that costs depends on where it falls, element by element. The gap here is as wide
# as in the mock spectra (`corruption.gaps.width`); most of the measured ones in notebook 02 are narrower.

# %%
starts = np.arange(10000.0, 17000.0, 350.0)
cost = limits.gap_cost(emulator, stars[:3], NIRSPEC, starts, run.params.corruption.gaps.width)
run.save_figure("gap_cost", figures.gap_costs(cost, starts))

# %%
print(f"a gap of {run.params.corruption.gaps.width:.0f} Å:")
worst = [(100 * (cost[:, i].max() - 1), PLAIN[i], starts[cost[:, i].argmax()]) for i in range(20)]
for percent, name, start in sorted(worst, reverse=True)[:5]:
    print(f"{name:8} loses most, {percent:3.0f} %, if the gap begins at {start:,.0f} Å")

# %% [markdown]
# ## What to ask the telescope for
#
# Turn it round: which signal-to-noise ratio does a label need? The bound goes as one over it, so one division answers. Below,
# for a precision of 0.05 dex, and of 50 K in temperature.

# %%
wanted = np.where(np.arange(20) == 0, 50.0, 0.05)
needed = 100 * at_100["NIRSpec"] / wanted
for name, value in zip(PLAIN, needed):
    print(f"{name:8} SNR {value:6.0f} per pixel")

# %%
hardest, easiest = needed.argsort()[[-1, 0]]
Markdown(
    f"The most demanding is {PLAIN[hardest]} with a ratio of {needed[hardest]:.0f}, {needed[hardest] / needed[easiest]:.0f} "
    f"times that of {PLAIN[easiest]}. {(needed > 100).sum()} of the twenty labels need more than 100. "
    "All of this holds if the synthesis is right. For real stars its error is at least 0.4 % of the continuum (docs/model-card.md), "
    "as much as the noise at a ratio of 250, and more inside lines."
)

# %% [markdown]
# ## And if the synthesis is wrong?
#
# These bounds assume that the emulator is right, as it is for the NIRSpec spectra of a run that are theory. What happens to a network, and to the fit that refines its guess in
# Gauss-Newton steps, when the observed spectra come from a synthesis that is wrong in the same way for all stars? Measured
# once (`benchmarks/robustness.py`, minutes) and drawn here: line strengths that are off at random, a line-spread function
# that is 10 % too wide, bands of a molecule that the emulator lacks, and spectra of the emulator before this one.

# %%
run.save_figure("robustness", figures.robustness(measured_robustness()))

# %% [markdown]
# A fit takes every line of its synthesis as true; a network was trained with noise and reads a label off many lines at once. A
# network has never seen the band of a molecule that its training lacked; a fit takes most of it for continuum. *Learned trust* is a fit that
# estimates the emulator's error in each pixel from residuals, without any label. Predict the winner of each row before you look.
# The methods with the lowest errors (within 1 %), and the share of stars that each finds first:

# %%
table = measured_robustness()
lowest = table.groupby("wrong")["ratio"].transform("min")
best = table[table["ratio"] <= 1.01 * lowest]
print(best[["wrong", "method", "ratio", "first"]].to_string(index=False))

# %% tags=["nbval-check-output"]
halves = bound["NIRSpec"][0] / bound["NIRSpec"][1]
print(f"bound at SNR {snr[0]:.0f} over bound at SNR {snr[1]:.0f}: {halves.min():.2f} to {halves.max():.2f}")

# %% [markdown]
# ## Exercises
#
# **1. Code the exposure time of a proposal.** The bound goes as one over the signal-to-noise ratio, and that grows as the square
# root of the exposure time (where photons are the noise). Write a function `longer(bound, wanted)` that says by which factor an exposure
# must be longer, or may be shorter, to bring a bound to what is wanted; both are arrays. Put it in place of None, then apply it to
# `at_100["NIRSpec"]` and `wanted` above. An exposure that reaches 100 takes an hour: which labels can you ask for in a night of eight?

# %%
answer = None
starclip.check("11.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# ```python
# def longer(bound, wanted):
#     return (bound / wanted) ** 2
#
# [name for name, hours in zip(PLAIN, longer(at_100["NIRSpec"], wanted)) if hours <= 8]
# ```
#
# </details>
#
# **2.** A gap widens the bound of an element by 22 %. By which factor must the exposure be longer to make up for it?

# %%
answer = None
starclip.check("11.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1.22² = 1.49: the ratio has to grow by 1.22, and the time as its square.
#
# </details>
#
# ## Questions
#
# 1. Which elements would you not publish from NIRSpec, whatever the network says?
# 2. Where would you put the gap, if you could choose, to study carbon? And to study iron?
# 3. Why do metal-poor stars need more signal? Which labels suffer the least?
#
# **Next:** [11b · From atoms to a spectrum](11b_from_atoms_to_spectrum.ipynb) shows where the spectra of the emulator come from.
