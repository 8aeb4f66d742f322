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
# # 10 · Observed NIRSpec: real stars through the models
#
# **Purpose.** Take spectra that JWST has really observed, prepare them, and see where the models put them.
#
# **After this notebook you can** read PypeIt's spectra, judge whether one is usable, bring it to rest and to the
# training grid, and find its APOGEE twins.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `starclip.ckpt`, `mockstarclip.ckpt`, `embeddings.h5`; a folder of spectra | tables and figures | 15 seconds | 2026-11-21 |
#
# **A first version.** It reads, prepares and embeds; uncertainties, a check of the domain and other file formats are
# still to come. Take its labels as a demonstration.

# %%
# %matplotlib inline
import pandas as pd

from starclip_lib import figures_spectra, observed
from starclip_lib.embeddings import read_embeddings
from starclip_lib.instruments import NIRSPEC
from starclip_lib.run import Run

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"observed": {"folder": "my_spectra"}}

# %%
run = Run.open(params_file, overrides)
data, path = run.data(), run.need("embeddings.h5")
settings = run.params.observed

# %% [markdown]
# ## Where to get spectra
#
# Give a folder of PypeIt `spec1d_*.fits` files: `make run OBSERVED=FOLDER` from the command line, or
# `overrides = {"observed": {"folder": "FOLDER"}}` above (a relative folder counts from the top of the project).
#
# NIRSpec data are public after at most a year. Programme 2609 observed giants of the globular cluster M71 with
# G140H/F100LP; find it in the MAST archive at <https://mast.stsci.edu>, download the `rate` files and extract spectra
# with [PypeIt](https://pypeit.readthedocs.io). Without a folder the rest of this notebook has nothing to do, and says so.

# %% tags=["nbval-check-output"]
spectra = observed.read_folder(run.root, settings)
print(f"{len(spectra)} spectra" if spectra else "no folder given: nothing to do below (set observed.folder)")

# %% [markdown]
# ## Can it be used?
#
# A verdict comes before anything else. Bright stars saturate the cores of their traces, and the extraction then saws up
# and down from pixel to pixel, although the file calls the pixels good. We measure how much neighbouring pixels differ:
# a clean giant stays near 1.5 per cent, lines included. Ruined spectra are set aside and never embedded.

# %%
verdicts = pd.DataFrame([observed.describe(spectrum) for spectrum in spectra])
verdicts.style.hide(axis="index").format(precision=1)

# %% [markdown]
# ## Velocity and continuum
#
# Each good spectrum is compared with ab initio templates (training stars) at many velocities; the best match gives the
# radial velocity, by which it is shifted to rest. The ratio of spectrum and template, smoothed by a polynomial on each
# detector, is the continuum. Then it goes onto the grid, with missing pixels at 1. What should you expect to see? Lines at the
# same places as in the template, and a gap of 374 Å whose place differs from star to star.

# %%
prepared = observed.prepare_all(spectra, data, settings)
pd.DataFrame({"name": s.name, "velocity [km/s]": s.velocity, "correlation": s.correlation} for s in prepared).round(2)

# %%
for star in prepared:
    template = data.nirspec.flux[star.template]
    figure = figures_spectra.observed_spectrum(NIRSPEC.wavelength, star.flux, star.mask, template, star.name)
    run.save_figure(f"observed_{star.name}", figure)
    display(figure)

# %% [markdown]
# ## Labels and twins
#
# The linear probe of notebook 08 reads labels from the embedding. MockStarCLIP's encoder is used, since it was tuned to
# live with imperfect continua. The probe has learned from stars with log g below 2 and Teff below 5000 K only: what lies
# outside is pulled inside, and a label near the edge of the domain should not be believed.

# %%
twins = observed.find_twins(prepared, data, run, read_embeddings(path, "starclip/apogee"))
run.save_metrics("observed", {"stars": twins.labels.to_dict("records"), "set_aside": observed.rejected(spectra)})
twins.labels.T

# %% [markdown]
# The APOGEE stars nearest to each of them, in the space of the embedding, with their catalogue labels:

# %%
twins.neighbours.T

# %% [markdown]
# ## Questions
#
# 1. Members of one cluster share velocity and composition. Do the labels agree among the stars? Where they do not, which
#    one do you distrust, and why?
# 2. What would happen to a spectrum that is shifted by 200 km/s too much before embedding? Try it.
# 3. The correlation with the best template is well below 1 even for good spectra. Name three causes.
