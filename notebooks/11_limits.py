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
# | `data.h5` | figures only | 20 seconds | 2026-11-30 |

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

# %% [markdown]
# ## Which wavelengths, and what a gap costs
#
# Where does each label show? Below, for one star, the strength of the response along the spectrum, each label relative to its
# strongest stretch. Molecules (CN, CO, OH) fill whole bands; metals have single lines.

# %%
density = limits.information_density(emulator, stars[0], NIRSPEC, 100.0)
run.save_figure("information", figures.information_map(np.where(dark[NIRSPEC], 0, density), NIRSPEC))

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
# These bounds, and every number of this project on simulated stars, assume that the emulator is right: NIRSpec spectra are
# generated by the same emulator that is fitted to them. What happens to a network, and to the fit that refines its guess in
# Gauss-Newton steps, when the observed spectra come from a synthesis that is wrong in the same way for all stars? Measured
# once (`benchmarks/robustness.py`, minutes) and drawn here: line strengths that are off at random, a line-spread function
# that is 10 % too wide, bands of a molecule that the emulator lacks, and spectra of the emulator before this one.

# %%
run.save_figure("robustness", figures.robustness(measured_robustness()))

# %% [markdown]
# Where the synthesis is right, the fit finds what is to be found, with a network's guess or without. Where lines are wrong,
# the fit believes them, and a network, which was trained with noise, may be better. Where a whole *molecule* is missing the
# network fails, because it never saw such a band; the fit takes most of it for continuum. *Learned trust* is a fit that
# estimates the emulator's error in each pixel from residuals, without any label. The method with the lowest errors, row by row:

# %%
table = measured_robustness()
best = table.loc[table.groupby("wrong", sort=False)["ratio"].idxmin()]
print(best[["wrong", "method", "ratio", "first"]].to_string(index=False))

# %% tags=["nbval-check-output"]
halves = bound["NIRSpec"][0] / bound["NIRSpec"][1]
print(f"bound at SNR {snr[0]:.0f} over bound at SNR {snr[1]:.0f}: {halves.min():.2f} to {halves.max():.2f}")

# %% [markdown]
# ## Exercises
#
# **1.** The signal-to-noise ratio grows as the square root of the exposure time. A gap widens the bound of an element by 22 %.
# By which factor must the exposure be longer to make up for it?

# %%
answer = None
starclip.check("11.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1.22² = 1.49: the ratio has to grow by 1.22, and the time as its square.
#
# </details>
#
# **2.** A label has a bound of 0.10 dex at a SNR of 100 per pixel. Which SNR does 0.02 dex need?

# %%
answer = None
starclip.check("11.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 500: a bound five times smaller needs a SNR five times higher, and twenty-five times the exposure.
#
# </details>
#
# ## Questions
#
# 1. Which elements would you not publish from NIRSpec, whatever the network says?
# 2. Where would you put the gap, if you could choose, to study carbon? And to study iron?
# 3. Why do metal-poor stars need more signal? Which labels suffer the least?
#
# **Next:** [12 · Baselines](12_baselines.ipynb) puts every method between these limits and the simplest one that works.
