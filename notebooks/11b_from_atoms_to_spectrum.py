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
# # 11b · From atoms to a spectrum
#
# **Purpose.** See how a stellar spectrum comes about: a gas, one absorption line in it, all lines, and the continuum that they
# are cut into. Every curve below is a synthesis, computed while you wait.
#
# **After this notebook you can** explain why a strong line hardly grows, tell microturbulence from damping, say why the
# H band shows the deepest layers of a giant, and name the lines of a stretch of spectrum.
#
# **Before this:** notebook 01; what absorption and temperature have to do with each other.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | nothing of a run; the package numba | figures only | 10 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
import pandas as pd
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import figures
from starclip_lib.synthesis import opacity
from starclip_lib.synthesis.chemistry import chemistry

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # where figures are kept; nothing else of the run is used
overrides: dict = {}  # small changes, e.g. {"seed": 8}

# %%
run = starclip.open_run(params_file, overrides)
arcturus = np.array([4286.0, 1.66] + [-0.52] * 18)  # Teff [K], log g, and eighteen abundances [X/H]

# %% [markdown]
# ## One line
#
# Take the atmosphere of Arcturus and put a single line of iron into it, at 10,400 Å. A line needs five numbers: its wavelength,
# the element, the energy that an atom must have before it can absorb (4 eV here, so that only one iron atom in tens of
# thousands can), how readily such an atom absorbs (log gf), and how much collisions with hydrogen atoms blur its energy
# (log gamma, the *damping*). Making log gf larger by one is the same as having ten times as many atoms.

# %%
centre, window = 10400.0, (10370.0, 10430.0)
columns = ["wavelength_vacuum", "species", "excitation", "log_gf", "log_gamma"]
line = pd.DataFrame([[centre, "Fe I", 4.0, -3.0, -7.4]], columns=columns)
more = np.arange(0, 6.1, 1.0)  # log10 of the number of absorbers
grown = {x: starclip.synthesise(arcturus, lines=line.assign(log_gf=x - 3), wavelengths=window) for x in more}
wavelength = grown[0.0].wavelength
shown = abs(wavelength - centre) < 3
run.save_figure(
    "growing_line",
    figures.growing_line((wavelength[shown] / centre - 1) * 299792.458, {x: s.flux[shown] for x, s in grown.items()}),
)

# %% [markdown]
# At first the line gets deeper with every atom. Then its centre cannot: there, we already see the highest and coolest layers,
# and there is nothing cooler to see. More atoms only make it a little wider, until the wings, which damping makes, become
# opaque as well. The centre does not go to zero, since the highest layers glow, too.
#
# ## The curve of growth
#
# The *equivalent width* is the width of a black box that takes as much light away as the line does. Against the number of
# absorbers it has three parts: it grows in proportion (slope 1), hardly at all, and finally with the square root. Two kinds of
# physics decide where. **Microturbulence** is motion of the gas on a scale smaller than the photons' free path: it spreads the
# absorbers over more wavelengths, so a line saturates later. **Damping** matters only where there are wings.

# %%
strengths = np.arange(-1, 6.6, 0.5)


def widths(**physics: float) -> np.ndarray:
    """Equivalent widths in milli-Angstrom, one for each strength."""
    flux = [
        starclip.synthesise(arcturus, lines=line.assign(log_gf=x - 3), wavelengths=window, **physics).flux
        for x in strengths
    ]
    return 1000 * np.trapezoid(1 - np.array(flux), wavelength, axis=1)


# %%
curves = {
    "microturbulence 1.8 km/s": widths(vmic=1.8),
    "microturbulence 0.8 km/s": widths(vmic=0.8),
    "1.8 km/s, four times the damping": widths(vmic=1.8, van_der_waals=0.6),
}
run.save_figure("curves_of_growth", figures.curves_of_growth(strengths, curves))

# %% [markdown]
# The slope of the first curve, between neighbouring strengths, and what the other two do to it:

# %%
table = pd.DataFrame(curves, index=pd.Index(strengths, name="log absorbers"))
slope = np.gradient(np.log10(table.iloc[:, 0]), strengths)
calm, damped = (np.log10(table.iloc[:, i] / table.iloc[:, 0]) for i in (1, 2))
print("log absorbers  slope   0.8 km/s  more damping")
for row in range(0, len(strengths), 2):
    print(f"{strengths[row]:13.1f} {slope[row]:6.2f} {calm.iloc[row]:+10.3f} {damped.iloc[row]:+13.3f}")

# %%
flattest = int(slope.argmin())
Markdown(
    f"The slope begins at {slope[0]:.2f} and is smallest, {slope[flattest]:.2f}, where the equivalent width is "
    f"{table.iloc[flattest, 0]:.0f} mÅ. There, a line grows by a tenth if there are {1.1 ** (1 / slope[flattest]):.1f} times as "
    f"many atoms, and a wrong microturbulence does most harm: it changes the line by up to {abs(calm).max():.2f} dex, which a fit "
    f"turns into a wrong abundance. Damping leaves weak lines alone and changes strong ones by up to {damped.max():.2f} dex: "
    "about half of its own 0.6, since wings grow with the square root. Both are uncertain in real stars, so a careful fit "
    "lets them vary."
)

# %% [markdown]
# ## What the lines are cut into
#
# Between lines we look into the *continuum*, and how deep depends on what absorbs there. In a giant it is the negative
# hydrogen ion, a hydrogen atom that holds a second electron, by 0.75 eV only. Below 16,419 Å a photon can knock this
# electron out (bound-free); any photon can be taken up by an electron that flies past an atom (free-free), long waves best.
# Between the two lies the most transparent window of a cool star, in the middle of the H band. The electrons come from
# metals, so the continuum of a metal-poor star is more transparent, and its lines see more atoms.

# %%
atmosphere = grown[0.0].atmosphere
gas, contents = atmosphere.gas, chemistry()
waves = np.linspace(9000, 18000, 400)
column = atmosphere.temperature[:, None]
hydrogen = gas.neutral[:, [contents.elements.index("H")]] / gas.density[:, None]
pressure = gas.electrons[:, None] * 1.380649e-16 * column
sources = {
    "H⁻": hydrogen * pressure * opacity.negative_hydrogen(waves, column),
    "H": hydrogen * opacity.neutral_hydrogen(waves, column),
    "scattering by H": hydrogen * opacity.scattering(waves)[0],
}

# %%
total = opacity.continuous(waves, atmosphere.temperature, gas, contents) / gas.density[:, None]
mass = atmosphere.pressure / 10 ** arcturus[1]  # above each depth, g/cm²
steps = 0.5 * (total[1:] + total[:-1]) * np.diff(mass)[:, None]
tau = total[0] * mass[0] + np.cumsum(steps, axis=0)
seen = [np.interp(1.0, t, atmosphere.temperature[1:]) for t in tau.T]
near = int(np.abs(atmosphere.temperature - np.mean(seen)).argmin())
run.save_figure("continuum", figures.continuum(waves, {name: value[near] for name, value in sources.items()}, seen))

# %%
share = sources["H⁻"][near] / total[near]
Markdown(
    f"H⁻ makes {100 * share.min():.0f} to {100 * share.max():.0f} % of the opacity. The layer seen is hottest, "
    f"{max(seen):.0f} K, at {waves[int(np.argmax(seen))]:,.0f} Å, and {max(seen) - min(seen):.0f} K cooler at "
    f"{waves[int(np.argmin(seen))]:,.0f} Å."
)

# %% [markdown]
# ## All lines together
#
# The list of this project has more than a hundred thousand lines. Here is a stretch of the H band with all of them, and
# with one species at a time, as APOGEE's resolution would show it without noise.

# %%
lines, stretch = starclip.line_list().table(), (16100.0, 16220.0)
inside = starclip.APOGEE.wavelength[
    (starclip.APOGEE.wavelength > stretch[0] + 5) & (starclip.APOGEE.wavelength < stretch[1] - 5)
]
parts = {"all lines": lines} | {name: lines[lines["species"] == name] for name in ("Fe I", "OH", "CO", "CN")}
spectra = {
    name: starclip.synthesise(arcturus, lines=some, wavelengths=stretch).sampled(inside, inside / 22500)
    for name, some in parts.items()
}
run.save_figure("species", figures.spectrum_by_species(inside, spectra))

# %% tags=["nbval-check-output"]
depth = {name: (1 - flux).mean() for name, flux in spectra.items()}
for name, value in depth.items():
    print(f"{name:9} {len(parts[name]):6d} lines take {100 * value:4.1f} % of the light")

# %% [markdown]
# The parts add up to more or less than the whole, since lines that overlap share the light. The atmosphere is the same in all
# panels: only lines were left out, not atoms. The broad dip at 16,114 Å in every panel is hydrogen (Brackett 13), whose
# lines are always computed.
#
# ## Exercises
#
# **1.** The deep line of iron at 16,169.4 Å has a neighbour at 16,168.1 Å that no panel of a species shows. Whose is it? Add
# species to `parts` (they are called `Ca I`, `Si I`, `Ni I`, ...; `lines["species"].unique()` lists them) and compare.

# %%
answer = None
starclip.check("11b.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `Si I`, neutral silicon. Some of its depth is iron's wing and a weak line of magnesium.
#
# </details>
#
# **2.** On the damping part, an equivalent width grows with the square root of the number of atoms. By how much, in dex, must
# an abundance rise for a line to become twice as wide?

# %%
answer = None
starclip.check("11b.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 0.60: four times the atoms, and log10 of 4 is 0.60. On the linear part 0.30 would do.
#
# </details>
#
# ## Questions
#
# 1. Two stars have the same strong lines, but one has weaker weak lines. Which of abundance, microturbulence and damping can
#    explain that?
# 2. Why do weak lines of iron tell the abundance of iron in a metal-poor star better than strong ones, and why are they hard
#    to use at R = 2,700?
# 3. How would the figure of the continuum change in a star with a tenth of the metals?
#
# **Next:** [12 · Baselines](12_baselines.ipynb) puts every method between the limits and the simplest one that works.
