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
# | `data.h5` | figures only | 20 seconds | 2026-11-27 |

# %%
# %matplotlib inline
import numpy as np

import starclip_lib as starclip
from starclip_lib import APOGEE, FE, NIRSPEC, PLAIN, figures
from starclip_lib.metrics import limits
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
# spectrum too, and nobody knows them beforehand, so what they could explain is taken off: they are *marginalised*. The inverse
# of what is left is the **Cramér-Rao bound**, the covariance that no unbiased method can beat.

# %%
snr = np.array([30.0, 60, 100, 200, 300])
stars = data.labels[sample].astype(float)
at_100 = {
    i.title: np.median([limits.cramer_rao(emulator, s, i, 100.0) for s in stars], axis=0) for i in (NIRSPEC, APOGEE)
}
bound = {title: 100 / snr[:, None] * values for title, values in at_100.items()}  # the bound goes as one over the SNR
shown = ("Teff", "logg", "Fe", "Mg", "V")
figure = figures.bounds_against(snr, bound, shown, "SNR per pixel")
run.save_figure("bounds_snr", figure)
figure

# %% [markdown]
# Metal-poor stars have weaker lines, which tell less:

# %%
order = sample[np.argsort(data.labels[sample, FE])]
groups = [g for g in np.array_split(order, 5) if len(g)]
metallicity = [float(data.labels[g, FE].mean()) for g in groups]
by_group = {
    i.title: np.array(
        [
            np.median([limits.cramer_rao(emulator, s, i, 100.0) for s in data.labels[g].astype(float)], axis=0)
            for g in groups
        ]
    )
    for i in (NIRSPEC, APOGEE)
}
figure = figures.bounds_against(metallicity, by_group, shown, "[Fe/H]", log=False)
run.save_figure("bounds_feh", figure)
figure

# %% [markdown]
# ## Which wavelengths, and what a gap costs
#
# Where does each label show? Below, for one star, the strength of the response along the spectrum, each label relative to its
# strongest stretch. Molecules (CN, CO, OH) fill whole bands; metals have single lines.

# %%
figure = figures.information_map(limits.information_density(emulator, stars[0], NIRSPEC, 100.0), NIRSPEC)
run.save_figure("information", figure)
figure

# %% [markdown]
# A detector gap takes a stretch of 374 Å away. What that costs depends on where it falls, element by element.

# %%
starts = np.arange(10000.0, 17000.0, 350.0)
cost = limits.gap_cost(emulator, stars[:3], NIRSPEC, starts, run.params.corruption.gaps.width)
figure = figures.gap_costs(cost, starts)
run.save_figure("gap_cost", figure)
figure

# %%
worst = [(100 * (cost[:, i].max() - 1), PLAIN[i], starts[cost[:, i].argmax()]) for i in range(20)]
for percent, name, start in sorted(worst, reverse=True)[:5]:
    print(f"{name:8} loses most, {percent:3.0f} %, if the gap begins at {start:,.0f} Å")

# %% [markdown]
# ## What to ask the telescope for
#
# Turn it round: which signal-to-noise ratio does a label need? The bound goes as one over it, so one division answers. Below,
# for a precision of 0.05 dex, and of 50 K in temperature. Where the answer is in the thousands, the element has no line worth
# the name in NIRSpec's range.

# %%
wanted = np.where(np.arange(20) == 0, 50.0, 0.05)
needed = 100 * at_100["NIRSpec"] / wanted
for name, value in zip(PLAIN, needed):
    print(f"{name:8} SNR {value:6.0f} per pixel")

# %% [markdown]
# ## And if the synthesis is wrong?
#
# All of this is true *if* the emulator is. What happens to a network, and to the steps that refine its guess, when the observed
# spectra come from a synthesis that is wrong, the same way for all stars? Measured once on the default run
# (`benchmarks/robustness.py`, minutes) and drawn here: line strengths that are off at random, a line-spread function that is
# 10 % too wide, bands of a molecule that the emulator lacks, and spectra of the emulator before this one.

# %%
figure = figures.robustness(measured_robustness())
run.save_figure("robustness", figure)
figure

# %% [markdown]
# Where the synthesis is right, steps find what is to be found, with a network's guess or without. Where lines are wrong, steps
# believe what they should not, and a network, which has learned under noise, may be better. Where a whole *molecule* is missing it is
# the network that breaks down, for it never saw such a band; steps take most of it for continuum. Trust that is learned from the
# residuals, without any label, is the best of all in most rows. It is best to know what one does not know.

# %% tags=["nbval-check-output"]
print("twice the signal, half the bound:", bool(np.allclose(bound["NIRSpec"][0], 2 * bound["NIRSpec"][1])))
print("iron needs less than vanadium:", bool(needed[PLAIN.index("[Fe/H]")] < needed[PLAIN.index("[V/H]")]))

# %% [markdown]
# ## Exercises
#
# **1.** A label has a bound of 0.12 dex in one view. What is it for the mean of four independent views with the same noise?

# %%
answer = None
starclip.check("11.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.06 dex: information adds up, and the bound is one over its root.
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
