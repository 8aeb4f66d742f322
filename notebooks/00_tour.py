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
# # 00 · A tour: how two telescopes learn to speak about the same star
#
# **Purpose.** The whole idea in twenty minutes, for somebody who has never heard of contrastive learning. One figure for
# each thought; no formula.
#
# **The figure to remember.** Two circles: pairs that sit apart at first, and together after the game.
#
# **After this notebook you can** explain to a friend what StarCLIP does, and know which notebook to open next.
#
# **Before this:** nothing but Python and curiosity.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | nothing | figures only | 35 seconds | 2026-12-01 |

# %%
# On Google Colab: put in the repository's address, and take away the # in front of the next two lines.
# # !pip install --quiet "starclip[notebooks] @ git+https://ADDRESS" && starclip new stars
# # %cd stars/notebooks

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import starclip_lib as starclip  # before torch, whose threads then sleep while they wait

import numpy as np
import torch
from IPython.display import Markdown

from starclip_lib import APOGEE, FE, NIRSPEC, TEFF, figures
from starclip_lib.metrics import baselines, probing, retrieval
from starclip_lib.training import recipes

torch.set_num_threads(1)  # networks this small gain little from more, and lose much where others compute, too

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"seed": 8}

# %%
run = starclip.open_run(params_file, overrides)
settings = starclip.Params(seed=run.params.seed)  # the defaults, whatever the run has: a tour is short

# %% [markdown]
# ## 1 · A spectrum is a fingerprint
#
# Spread a star's light into its colours and dark lines appear. A line is dark because atoms of one kind, or molecules, absorb
# light of exactly that wavelength. At that wavelength the gas is more opaque, so what reaches us comes from higher layers of the
# star, and these are cooler and shine less. The more absorbers in the right state, the higher the layer, and the deeper the line.
# So the lines tell the temperature of the star, the gravity at its surface, and how much of each chemical element it holds:
# twenty numbers in this project, its *labels*. Here is one and the same red giant with more and more magnesium:

# %%
emulator, data = starclip.default_emulator(), starclip.simulate_survey(800, seed=settings.seed)
order, magnesium = data.labels[:, FE].argsort(), starclip.label_index("Mg")
star = data.labels[order[len(order) // 2]].astype(float)
grown = {f"[Mg/H] {change:+.1f}": star + change * np.eye(20)[magnesium] for change in (-0.4, -0.2, 0.0, 0.2, 0.4)}
assert emulator.inside_domain(np.array(list(grown.values()))).all()
grown = {name: emulator(labels[None], APOGEE)[0] for name, labels in grown.items()}
figures.line_growth(APOGEE.wavelength, grown, (15735, 15785), {"Mg": 15745.0, "Mg ": 15753.3, "Mg  ": 15770.1})

# %%
core = np.abs(APOGEE.wavelength - 15753.3).argmin()
depths = [1 - flux[core] for flux in grown.values()]
Markdown(
    f"From the lowest to the highest curve the star has {10**0.8:.1f} times as much magnesium (0.8 dex). The line at 15,753 Å grows "
    f"from a depth of {depths[0]:.2f} to {depths[-1]:.2f}, so by a factor of {depths[-1] / depths[0]:.2f} only: a strong line is "
    "*saturated*. Other lines in the window hardly move, or move the other way. Labels are measured by computing spectra for many "
    "sets of them and looking for the set whose spectrum fits the observed one."
)

# %% [markdown]
# We play with a few hundred such red giants. They are simulated, from a physical model of stellar atmospheres;
# notebook [01](01_data.ipynb) explains how. Two of them, as two telescopes see them:

# %%
pair = order[[20, -20]]
figures.example_pairs(data.apogee.flux[pair], data.nirspec.flux[pair], data.labels[pair])

# %% [markdown]
# ## 2 · Two instruments, two worlds
#
# Each row above is one star, seen twice. **APOGEE** (right) is a survey from the ground: sharp spectra of hundreds of
# thousands of stars, each with its labels measured. **NIRSpec** (left), on the James Webb Space Telescope, sees stars in
# other galaxies that APOGEE can never reach, but blurred, few, and without labels. APOGEE's colours all lie inside NIRSpec's
# range, but there NIRSpec is eight times less sharp, and it sees four times more besides. Pixel number 100 of one has nothing
# to do with pixel number 100 of the other. But one can blur APOGEE until it is as unsharp as NIRSpec, and compare the two where
# both see the star:

# %%
noisy = starclip.mock_telescope(settings, n_views=1)
row = order[[len(order) // 2]]
pixels, blurred, good = baselines.apogee_as_nirspec(data.apogee.flux[row])
seen = noisy.views(data.nirspec, row)[0, 0, pixels]
sharp = APOGEE.wavelength, np.where(data.apogee.flux[row[0]] == 0, np.nan, data.apogee.flux[row[0]])
curves = [
    (NIRSPEC.wavelength[pixels], np.where(keep, flux, np.nan))
    for keep, flux in ((good[0], blurred[0]), (seen != 1, seen))
]
figures.overlap(sharp, *curves, (15650, 15800))

# %%
shared = len(pixels) / NIRSPEC.n_pix
Markdown(
    f"The two agree, but for NIRSpec's noise. Comparing them pixel by pixel finds many stars (exercise 3), and it needs no training. "
    f"It uses {len(pixels):,} of NIRSpec's {NIRSPEC.n_pix:,} pixels ({shared:.0%}), every pixel alike, and nothing at all if a gap "
    "between the detectors hides them. Notebook [06](06_retrieval.ipynb) puts it on a ladder with other methods."
)

# %% [markdown]
# We would like to hand over a NIRSpec spectrum and ask: *which APOGEE stars are like this one?* Since those have labels,
# we would then know what we are looking at.
#
# Why not simply train a network to predict the labels? One can ([03](03_encoders.ipynb) does), as far as labels are known and
# right. Pairs need no labels: it is enough to know that two spectra show the same star. What both see of it, named or not, may
# then be learned, and a search returns real spectra that one can look at.
#
# ## 3 · The game of pairs
#
# Give every spectrum a seat at a round table. NIRSpec's are blue dots, APOGEE's red squares, a line joins the two spectra
# of a star, and the number says which star it is. At first everybody sits at random. Now play a game: from each blue
# dot, guess the red partner by closeness. Every doubtful guess moves the seats a little, the right partners towards each
# other and the others apart.

# %%
points = torch.randn(2, 8, 2, generator=starclip.seeded("cpu", 5)).requires_grad_()
moments = {}
for step in range(201):
    blue, red = torch.nn.functional.normalize(points, dim=-1)
    if step in (0, 20, 200):
        moments[f"after {step} rounds"] = (blue.detach().numpy().copy(), red.detach().numpy().copy())
    points.grad = None
    starclip.info_nce(blue, red, 8.0).backward()
    points.data -= 0.3 * points.grad

# %%
figures.circles(moments)

# %% [markdown]
# After a few rounds partners sit together, and the pairs have spread around the circle so that none is mistaken for
# somebody else. That is *contrastive learning*: the rules do not say where a star should sit, only who belongs together. Here the
# points were moved directly. In earnest, a neural network (an *encoder*) looks at a spectrum and says where it sits, and
# the network is what learns. Then a spectrum never seen before gets a sensible place too.
#
# ## 4 · The same with stars
#
# Two encoders, one for each instrument. Each is first taught to predict labels, so that it knows what lines are; then both
# play the game of pairs. The circle becomes a sphere with more dimensions than one can draw. Training on five hundred
# stars takes some seconds.

# %%
scratch = tempfile.TemporaryDirectory()
folder = Path(scratch.name)
for instrument in ("nirspec", "apogee"):
    recipes.train_encoder(folder / f"{instrument}.ckpt", data, settings, instrument)
before = {name: starclip.Model.load(folder / f"{name}.ckpt").encoders[name] for name in ("nirspec", "apogee")}

# %%
recipes.train_starclip(folder / "starclip.ckpt", data, settings, folder / "nirspec.ckpt", folder / "apogee.ckpt")
after = starclip.Model.load(folder / "starclip.ckpt").encoders

# %% [markdown]
# To see the effect, take forty stars that were *not* used in training and compare each NIRSpec spectrum (rows) with each
# APOGEE spectrum (columns). Bright means close. Ideally only the diagonal is bright, where a star meets itself.

# %%
test = data.rows("test")
some = test[data.labels[test, FE].argsort()][::5][:40]
places = {
    name: (
        starclip.run_encoder(e["nirspec"], data.nirspec, some, noisy)[:, 0],
        starclip.run_encoder(e["apogee"], data.apogee, some)[:, 0],
    )
    for name, e in {"before the game": before, "after the game": after}.items()
}

# %%
figures.similarity_matrices({name: blue @ red.T for name, (blue, red) in places.items()})

# %% [markdown]
# Before the game, the encoders know labels, and all stars of similar metallicity look alike. After it, the diagonal stands
# out. How often is a star the closest to itself, among these forty?

# %%
hits = {name: (blue @ red.T).argmax(1) == np.arange(len(some)) for name, (blue, red) in places.items()}
for name, right in hits.items():
    print(f"{name}: {right.sum()} of {len(right)}")

# %% [markdown]
# ## 5 · Finding the twin
#
# Now the question from above, for all test stars: given the NIRSpec spectrum, is the same star among the first k APOGEE
# spectra found? The dotted line is guessing.

# %%
groups = {}
for name, telescope in {"nirspec": noisy, "apogee": None}.items():
    z = starclip.run_encoder(after[name], getattr(data, name), np.arange(data.n_stars), telescope)
    groups[name] = starclip.as_embeddings(z, data.star_id, data.split)
ranks = retrieval.ranks_between(groups["nirspec"].take("test"), groups["apogee"].take("test"))

# %%
figures.success_curves({"StarCLIP in this tour": ranks}, lambda k: k / len(test), "NIRSpec finds APOGEE")

# %% [markdown]
# Who is taken for whom? Here are the stars for which another one came first:

# %%
found = (groups["nirspec"].take("test").z @ groups["apogee"].take("test").z.T).argmax(1)
wrong = np.flatnonzero(found != np.arange(len(test)))
apart = np.abs(data.labels[test[found[wrong]]] - data.labels[test[wrong]])
Markdown(
    f"{len(wrong)} of {len(test)} searches put another star first. It differs from the right one by "
    f"{np.median(apart[:, TEFF]):.0f} K and {np.median(apart[:, FE]):.2f} dex in [Fe/H] (medians), while labels of the test "
    f"stars spread over {data.labels[test, TEFF].std():.0f} K and {data.labels[test, FE].std():.2f} dex: a similar star. The "
    f"errors of the catalogue are {starclip.ASPCAP_ERROR[TEFF]:.0f} K and {starclip.ASPCAP_ERROR[FE]:.3f} dex, so it is not "
    "the same star by another name."
)

# %% [markdown]
# With a fifth of the default run's training stars this is not the best one can do: [04](04_starclip.ipynb) trains on more stars
# and for longer, and [06](06_retrieval.ipynb) has the full result. Another way is to fit the physical model itself to each
# spectrum, with no contrastive learning. In this project that method knows the answer's own recipe, since all NIRSpec spectra are
# simulated with the model that is fitted; the notebooks name it "the fit" and show it beside the networks.
#
# ## 6 · Reading labels
#
# The place of a star also tells its labels. The simplest tool there is, a linear regression from the coordinates to the
# labels, learns from the training stars and is tried on the others.

# %%
train, held_out = groups["nirspec"].take("train", "val"), groups["nirspec"].take("test")
probe = probing.linear_probe(train, data.labels_of(train.star_id), held_out)
true = data.labels_of(probe.star_id)
scores = {"linear probe": probing.score_labels(true, probe.labels)}
figures.predicted_against_true(true, {"linear probe": probe.labels}, scores, names=("Teff", "logg", "Fe", "Mg"))

# %% [markdown]
# Each point is a star; on the black line the prediction is right. The number r² in each panel is the share of the
# differences between stars that is explained: nearly all for metallicity, less for gravity, which is hard for astronomers, too.
#
# ## 7 · Reality bites
#
# Real spectra are not perfect. There is noise, detectors have dead pixels and a gap between them, the continuum is known
# only roughly. So the encoders are trained on *corrupted* spectra, other ones in every round. Here is one star
# under all five corruptions.

# %%
telescope = starclip.extended_telescope(data, settings, n_views=1)
corrupted = telescope.views(data.nirspec, test[:1])[0, 0]
figures.corruption_steps({"as computed": data.nirspec.flux[test[0]], "as a telescope might deliver it": corrupted})

# %% tags=["nbval-check-output"]
print(f"{len(data.rows('train'))} training stars, {len(test)} test stars")
print(f"{len(ranks)} searches among {len(test)} candidates")

# %% [markdown]
# ## Where to go from here
#
# | notebook | what it shows |
# |---|---|
# | [Contrastive learning from scratch](00b_contrastive_from_scratch.ipynb) | the game of pairs in thirty lines, with sliders |
# | [01 · Data](01_data.ipynb) | how the stars are made, and what is real |
# | [02 · Corruptions](02_corruptions.ipynb) | what a spectrograph does to a spectrum |
# | [03 · Encoders](03_encoders.ipynb) | networks that read labels |
# | [04 · StarCLIP](04_starclip.ipynb) | the game of pairs, with its formula |
# | [05 · MockStarCLIP](05_mockstarclip.ipynb) | the same with few stars and bad spectra |
# | [06 · Retrieval](06_retrieval.ipynb) | finding stars, measured |
# | [07 · Atlas](07_atlas.ipynb) | maps of the space |
# | [08 · Probing](08_probing.ipynb) | labels, uncertainties and physical limits |
# | [08b · Physics instead of a network](08b_physics_instead_of_a_network.ipynb) | fitting labels, and when it fails |
# | [09 · Similarity browser](09_similarity_browser.ipynb) | click a star, see its twins |
# | [10 · Observed NIRSpec](10_observed_nirspec.ipynb) | real JWST spectra |
# | [11 · Limits](11_limits.ipynb) | the smallest errors that are possible |
# | [11b · From atoms to a spectrum](11b_from_atoms_to_spectrum.ipynb) | a line grows and saturates; where H⁻ sits |
# | [12 · Baselines](12_baselines.ipynb) | simple methods, and the Gaussian ideal matcher, for every kind of spectrum |
# | [13 · Benchmark](13_benchmark.ipynb) | the paper's evaluation, with intervals |
# | [14 · Decoders](14_decoders.ipynb) | spectra from embeddings, and strange stars |
# | [15 · Densities](15_densities.ipynb) | honest errors for every label |
# | [16 · Transfer](16_transfer.ipynb) | other telescopes, few labels, more data |
#
# ## Exercises
#
# **1.** How many of NIRSpec's pixels have wavelengths that APOGEE observes, from APOGEE's first pixel to its last? The two grids
# are `starclip.NIRSPEC.wavelength` and `starclip.APOGEE.wavelength`. Compute it in a line, and answer with the number.

# %%
answer = None
starclip.check("00.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `n, a = starclip.NIRSPEC.wavelength, starclip.APOGEE.wavelength; answer = ((n >= a[0]) & (n <= a[-1])).sum()` gives 1,728 of
# 8,192. On these pixels the two instruments can be compared directly, once APOGEE is blurred.
#
# </details>
#
# **2.** Which of the two surveys brings the labels? Answer `"APOGEE"` or `"NIRSpec"`.

# %%
answer = None
starclip.check("00.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `"APOGEE"`: bright stars, high resolution, and a pipeline (ASPCAP) that measured twenty labels of each.
#
# </details>
#
# **3. (To code.)** Write the pixel baseline for the forty stars of section 4. `apogee_as_nirspec` blurs their APOGEE spectra and
# puts them on NIRSpec's pixels; a pixel of NIRSpec without data reads 1. Fill a table of misfits: the mean squared difference
# between NIRSpec spectrum i (row) and APOGEE spectrum j (column), over the pixels that both have. How many of the forty are found?

# %%
pixels, blurred, good = baselines.apogee_as_nirspec(data.apogee.flux[some])
seen = noisy.views(data.nirspec, some)[:, 0, pixels]
yours = None  # misfits, shape (40, 40)
if yours is not None:
    print(f"pixels in the overlap: {(np.argmin(yours, axis=1) == np.arange(len(some))).sum()} of {len(some)}")

# %% [markdown]
# <details><summary>Solution</summary>
#
# `both = (seen != 1)[:, None] & good[None]`, then `square = np.where(both, seen[:, None] - blurred[None], 0) ** 2` and
# `yours = square.sum(2) / np.maximum(both.sum(2), 1)`. Compare with the two counts of section 4. A row without common pixels is 0
# everywhere and finds star number 0: such spectra cannot be compared in this way.
#
# </details>
#
# ## Questions
#
# 1. In section 3, what happens with 30 stars on the circle instead of 8? Why is a sphere with twenty dimensions roomier?
# 2. Why is it important that the forty stars in section 4 were not used in training?
# 3. Think of another pair of instruments (a camera and a microphone?) that could play the game of pairs.
#
# **Next:** [Contrastive learning from scratch](00b_contrastive_from_scratch.ipynb) builds the game of pairs in thirty lines.
