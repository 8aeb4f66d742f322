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
# # 02 · Corruptions: what a spectrograph does to a perfect spectrum
#
# **Purpose.** Turn ab initio NIRSpec spectra into spectra that could have been observed, at random and reproducibly.
#
# **The figure to remember.** Where two gap models put the detector's gap, and where it really is.
#
# **After this notebook you can** name the five corruptions of the paper, apply them to any batch of spectra on any
# device, and explain why real detector gaps are not independent of each other.
#
# **Before this:** notebook 01.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5` (notebook 01) | figures only | 11 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import numpy as np
import torch
from IPython.display import Markdown

from starclip_lib import figures
from starclip_lib.settings.training import GapParams
from starclip_lib.transforms.corruptions import extended_mock, mock, reference_flux
from starclip_lib.transforms.gaps import GapModel, detect_gaps, read_gaps, read_trace_image

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"corruption": {"snr_max": 60.0}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## Five corruptions
#
# A corruption takes a batch of spectra and a random generator and returns a new batch. Nothing is changed in place, and
# the same generator gives the same result. The paper's *extended mock* chains all five:
#
# 1. **Paschen substitution.** Hydrogen lines are hard to model, so the flux within 10 Å of four of them is replaced by
#    that of one reference star, the same for everybody. A model cannot learn from what never changes.
# 2. **Dead pixels.** One pixel in a thousand, anywhere, reads 1.
# 3. **Denormalisation.** The continuum is never known perfectly: multiply by a wavy polynomial within 1 % of 1.
# 4. **Gaussian noise** of a signal-to-noise ratio drawn between 30 and 300, one for each spectrum.
# 5. **Detector gaps.** Two detectors stand side by side, and light that falls beside them is lost; those pixels read 1.
#
# The *mock* has only the last two.

# %%
extended = extended_mock(run.params.corruption, reference_flux(data))
print(" → ".join(type(step).__name__ for step in extended.steps))

# %% [markdown]
# Let us send one star through the chain, one step at a time. Each row shows the spectrum after one more corruption (blue)
# over the untouched one (grey). On the right, a close look at Paschen beta, whose neighbourhood is exchanged first.

# %%
flux = torch.from_numpy(data.nirspec.flux[data.rows("test")[:1]])
generator = starclip.seeded("cpu", run.params.seed, 2)
stages = {"ab initio": flux[0].numpy()}
for name, step in zip(("Paschen substitution", "dead pixels", "denormalisation", "noise", "gaps"), extended.steps):
    flux = step(flux, generator)
    stages[f"+ {name}"] = flux[0].numpy()

# %%
run.save_figure("corruptions", figures.corruption_steps(stages))

# %% [markdown]
# ## Same seed, same spectra
#
# `seeded(device, a, b, ...)` makes a generator whose stream depends on all the numbers given. Training uses
# `seeded(device, seed, epoch)`: fresh corruptions in every epoch, and yet the same ones if the run is repeated or
# resumed after a crash. Evaluation keeps five fixed copies of every star, the *views*, so that all models are judged on
# the very same spectra.

# %% tags=["nbval-check-output"]
batch = torch.from_numpy(data.nirspec.flux[:8])
flux_before = batch.clone()
once, again = (extended(batch, starclip.seeded("cpu", 1)) for _ in range(2))
other = extended(batch, starclip.seeded("cpu", 2))
print(f"same seed: {(once != again).float().mean():.0%} of the pixels differ")
print(f"another seed: more than {10 * int(10 * (once != other).float().mean())} % of the pixels differ")

# %% [markdown]
# Is the noise what it claims to be? Turn the range of signal-to-noise ratios into a single value and measure the scatter
# of the difference to the clean spectrum, away from the gaps. It should be one over the SNR.

# %% tags=["nbval-check-output"]
fixed = run.params.corruption.changed(snr_min=50.0, snr_max=50.0)
noisy = mock(fixed)(batch, starclip.seeded("cpu", 3))
seen = noisy != 1
print(f"scatter {(noisy - batch)[seen].std():.3f}, expected {1 / 50:.3f}")

# %% [markdown]
# ## A sixth corruption
#
# A corruption is nothing but a function of a batch and a generator. Here is one that the paper leaves out: **cosmic rays**, particles
# that hit the detector during the exposure and leave bright spots of a few pixels. Each hit is a bump with an exponential tail.


# %%
def cosmic_rays(flux, generator, hits=3.0, height=0.5, tail=2.0):
    """A mean of `hits` bright spots in each spectrum, of at most `height`, with a tail of `tail` pixels."""
    n, n_pix = flux.shape
    start = torch.rand(n, n_pix, generator=generator) < hits / n_pix
    bright = height * torch.rand(n, n_pix, generator=generator) * start
    shape = torch.exp(-torch.arange(8) / tail)
    spots = sum(share * bright.roll(shift, dims=1) for shift, share in enumerate(shape))
    return torch.where(flux == 1, flux, flux + spots)


# %%
hit = cosmic_rays(batch, starclip.seeded("cpu", 6))
again = cosmic_rays(batch, starclip.seeded("cpu", 6))
changed = (hit - batch).abs() > 0.01
Markdown(
    f"{changed.float().mean():.2%} of the pixels changed by more than 0.01, by {(hit - batch).max():.2f} at most. With the same "
    f"seed, {(hit != again).float().mean():.0%} of them differ. The spectra that went in are untouched: a corruption returns a new batch."
)

# %% [markdown]
# To train with it, add such a step to the chain in `transforms/corruptions.py` (CONTRIBUTING.md has the list of places).
#
# ## Your turn: the corruption explorer
#
# Every slider is one parameter of one corruption, every box switches one off. *New draw* throws the dice again, the menu
# zooms on a Paschen line. If StarCLIP has been trained (notebooks 03 to 06), the lines below the figure say what it makes of
# the damage: how far the embedding has moved from that of the clean spectrum (cosine similarity, 1 is not at all), and what
# a linear probe reads before and after. Try to find out which of the five hurts most, and whether more noise or a wider gap
# costs you vanadium first.
#
# (Sliders need a running notebook; elsewhere you see a picture of it.)

# %%
starclip.CorruptionExplorer(run)

# %% [markdown]
# ## Measuring gaps in a picture
#
# The paper measured the gaps with OpenCV in a picture of spectral traces on the detectors. Our table of gaps was read off
# that published picture. The picture below was drawn *from our table*, so it tests the detection and not the gaps
# themselves: every trace is one spectrum, dark on a noisy background. `detect_gaps` smooths the picture, separates dark from
# light with Otsu's threshold, finds the connected pieces and groups them into rows. The orange and yellow bars are what it
# found.

# %%
image = read_trace_image()
table, found = read_gaps(), detect_gaps(image)
run.save_figure("traces", figures.trace_image(image, found))

# %% [markdown]
# How well does the detection recover what was drawn? The picture has 10 Å a pixel, so the drawn edges are only right to half
# a pixel. Detected and tabulated edges should agree within one.

# %% tags=["nbval-check-output"]
edges = [(gaps.start, gaps.start + gaps.width, 18000 - gaps.cutoff_width) for gaps in (table, found)]
worst = np.abs(np.array(edges[0]) - np.array(edges[1])).max() / 10
print(f"{len(found)} of {len(table)} traces found, worst edge off by {worst:.1f} pixel")

# %% [markdown]
# ## Two ways to draw new gaps
#
# The paper fits a kernel density estimate to each measured quantity and draws from the three independently.

# %%
independent, detector = (GapModel.measured(GapParams(model=name)) for name in ("independent", "detector"))
run.save_figure("gap_densities", figures.gap_densities(table, independent.kde))

# %% [markdown]
# But the detectors are pieces of silicon of fixed length. A spectrum whose gap lies further to the red also ends further
# to the red. Independent draws fill the whole plane with spectra that NIRSpec cannot produce. The model `detector` draws only
# where the gap begins; its width and the lengths of the detectors are fixed, and nothing is seen blueward of the filter's
# edge at 9,700 Å. It is our default; `params/paper.yaml` keeps the paper's.

# %%
models = {"independent": independent, "detector": detector}
draws = {name: model.sample(800, starclip.seeded("cpu", 4)) for name, model in models.items()}
run.save_figure(
    "gap_models",
    figures.gap_draws(table, {name: (gaps.start.numpy(), gaps.cutoff.numpy()) for name, gaps in draws.items()}),
)

# %%
fixed, ends = detector.settings, 18000 - table.cutoff_width
expected = np.minimum(18000, table.start + fixed.width + fixed.detector_length)
close, beyond = np.abs(ends - expected) < 100, ends < table.start + 1000
Markdown(
    f"Of the {len(table)} measured cut-offs {close.sum()} lie within 100 Å of the model's line and "
    f"{(~close & ~beyond).sum()} farther away, most of them where the published picture ends short of 18,000 Å. "
    f"The other {beyond.sum()}, at a gap start of {np.median(table.start[beyond]):,.0f} Å, end right behind the gap; no "
    "detector gives such a spectrum, and we take them for misread traces. "
    f"The measured gaps are narrower than the model's: a median of {np.median(table.width):.0f} Å, "
    f"and {table.width.max():.0f} Å at most, against {fixed.width:.0f} Å. The model therefore hides somewhat more than most "
    "traces do."
)

# %% [markdown]
# Why does it matter? With the independent model, training wastes effort on impossible spectra, and a test on such spectra
# tells little about the telescope.
#
# ## Exercises
#
# **1.** What is the standard deviation of the noise on the continuum at a signal-to-noise ratio of 50?

# %%
answer = None
starclip.check("02.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 1 / 50 = 0.02. Strong lines at NIRSpec's resolution are a few times that deep; weak ones disappear in it.
#
# </details>
#
# **2.** With `dead_fraction` 0.001, how many of the 8,192 pixels are set to 1?

# %%
answer = None
starclip.check("02.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 8: `round(0.001 * 8192)`.
#
# </details>
#
# **3. (To code.)** Write another one: **stray light**. A part f of the light on each pixel comes from elsewhere and has no lines; after
# division by the continuum the flux is (flux + f) / (1 + f). Draw f for each spectrum of `batch` between 0 and 0.1 from
# `starclip.seeded("cpu", 7)`, and put the new batch into `yours`. By which factor do the lines become shallower?

# %%
yours = None  # a new batch, of the shape of `batch`
if yours is not None:
    ratio = (1 - yours).norm(dim=1) / (1 - batch).norm(dim=1)  # of the depths of lines, one for each spectrum
    print("lines are shallower by", ratio.numpy().round(3), "- untouched input:", bool((batch == flux_before).all()))

# %% [markdown]
# <details><summary>Solution</summary>
#
# `f = 0.1 * torch.rand(len(batch), 1, generator=starclip.seeded("cpu", 7))` and `yours = (batch + f) / (1 + f)`. The depth 1 - flux is
# divided by 1 + f, for all lines alike: just what a lower metallicity would do to weak lines. That is why stray light biases
# abundances, and why the fit of an observed spectrum has to know it.
#
# </details>
#
# ## Questions
#
# 1. Dead pixels are set to 1 *before* noise is added, gaps *after*. Could a model tell them apart?
# 2. The polynomial of step 3 has degree 8 but never wiggles eight times. Why? (Think of random coefficients of powers
#    of x between 0 and 1.)
# 3. Which element would you lose if the gap began at 15,500 Å? Compare with the features named in notebook 01.
#
# **Next:** [03 · Encoders](03_encoders.ipynb), the networks that learn to read these spectra.
