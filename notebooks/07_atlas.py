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
# # 07 · Atlas: a map of the stars
#
# **Purpose.** Look at the embedding: what are its main directions, and do they mean anything?
#
# **The figure to remember.** The map coloured by metallicity, and the control: the same probe with shuffled labels.
#
# **After this notebook you can** project embeddings with PCA and UMAP, and tell which features of such a map deserve
# trust, and test with a shuffled control whether a pattern means anything.
#
# **Before this:** notebook 06.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5` (notebooks 01 and 06) | figures, `atlas.html` to explore | 24 seconds | 2026-12-01 |

# %%
# %matplotlib inline
import numpy as np
from scipy.spatial.distance import cdist
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import FE, LABELS, figures
from sklearn.linear_model import LinearRegression

from starclip_lib.metrics.atlas import principal_components, thin, umap_map
from starclip_lib.models.embeddings import join
from starclip_lib.lab.widgets.base import PicturedFigure

# %% tags=["parameters"]
params_file: str = "../params/quick.yaml"  # every setting of the run
overrides: dict = {}  # small changes, e.g. {"atlas": {"n_neighbours": 30}}

# %%
run = starclip.open_run(params_file, overrides)
data = run.data

# %% [markdown]
# ## Principal components
#
# Both instruments' test embeddings together, NIRSpec and APOGEE, turned so that the first axis has the largest
# variance, the second the next largest, and so on. The fractions below say how much of the total variance each axis
# carries. The paper finds about 41 % for the first two of StarCLIP and 50 % for those of MockStarCLIP.

# %%
pairs = {"starclip": ("nirspec", "apogee"), "mockstarclip": ("mock", "extended")}
points = {
    model: join(*(run.embeddings(f"{model}/{name}").take("test") for name in names)) for model, names in pairs.items()
}
components = {model: principal_components(both.z) for model, both in points.items()}

# %%
run.save_metrics("pca", {model: fractions.tolist() for model, (_, fractions) in components.items()})
{model: fractions[:5].round(3).tolist() for model, (_, fractions) in components.items()}

# %% [markdown]
# Colour the map by labels. Smooth gradients mean that the space is ordered by that label. The contrastive loss knows no labels,
# but this is not a proof that it found them: the encoders were pretrained to predict exactly these.

# %%
shown = thin(points["starclip"], run.params.atlas.max_points, run.params.seed)
labels = data.labels_of(points["starclip"].star_id)
xy = components["starclip"][0]
run.save_figure("pca_starclip", figures.maps(xy[shown], labels[shown], "PC"))

# %%
few = thin(points["mockstarclip"], run.params.atlas.max_points, run.params.seed)
mock_labels = data.labels_of(points["mockstarclip"].star_id)
run.save_figure("pca_mockstarclip", figures.maps(components["mockstarclip"][0][few], mock_labels[few], "PC"))

# %% [markdown]
# ## Is it real? A shuffled control
#
# A colour gradient pleases the eye, and eyes find patterns everywhere. Two controls show what a pattern is worth. Read each
# label with a linear regression from the coordinates of the training stars' first NIRSpec views, and judge it on test stars. Then
# **shuffle**: give every training star the labels of another one, and do just the same. What is left is what the method
# finds in nothing. The third bar asks something harder: how much would the star's **[Fe/H] alone**, taken from
# the catalogue, tell about this label?

# %%
known, judged = (run.embeddings("starclip/nirspec").take(part).of_view(0) for part in ("train", "test"))
given, true = data.labels_of(known.star_id), data.labels_of(judged.star_id)
shuffled = given[np.random.default_rng(run.params.seed).permutation(len(given))]
answers = {
    "the stars' own labels": LinearRegression().fit(known.z, given).predict(judged.z),
    "labels shuffled": LinearRegression().fit(known.z, shuffled).predict(judged.z),
    "[Fe/H] alone": LinearRegression().fit(given[:, [FE]], given).predict(true[:, [FE]]),
}
r2 = {name: 1 - ((found - true) ** 2).mean(0) / true.var(0) for name, found in answers.items()}
run.save_figure("controls", figures.controls({name: np.delete(values, FE) for name, values in r2.items()}, skip=FE))

# %%
own, nothing, iron = r2.values()
others = np.delete(np.arange(len(LABELS)), FE)
more = own - iron
hardly = [LABELS[i] for i in others if more[i] < 0.05]
Markdown(
    f"With their own labels the median r² is {np.median(own):.2f}, with shuffled ones {np.median(nothing):.2f} ({nothing.min():.2f} to "
    f"{nothing.max():.2f}). Of the {len(others)} labels other than [Fe/H], iron alone explains {np.median(iron[others]):.0%} of the "
    f"variance (median). The space adds most to it for {LABELS[others[more[others].argmax()]]} ({more[others].max():+.2f}), and less "
    f"than 0.05 for {', '.join(hardly) or 'none'}. For these, the map's colours are hardly more than those of metallicity."
)

# %% [markdown]
# ## UMAP
#
# UMAP keeps neighbourhoods and gives up distances. Read it as a subway map: who is next to whom can be trusted, how far
# apart two groups are, or how large a group is, cannot. It repeats on one machine with the same seed, but not across
# machines. The first call compiles code and takes a while. The points of the two instruments form islands of their own here;
# the next section explains why.

# %%
settings = run.params.atlas
z = points["starclip"].z[shown]
umap_xy = umap_map(z, settings.n_neighbours, settings.min_distance, run.params.seed)
run.save_figure("umap_starclip", figures.maps(umap_xy, labels[shown], "UMAP"))

# %% [markdown]
# ## Do the instruments mix?
#
# Do not expect that one cannot tell which instrument a point came from. The loss compares a NIRSpec point with APOGEE points
# only; if all of APOGEE moves by the same amount, each star's partner stays the nearest. Models of this kind therefore often
# keep a *modality gap*, an offset between the two clouds. On the left below, NIRSpec and APOGEE in all coordinates, with the
# two points of some stars joined. If the run calibrates its space (`starclip.calibrate`), the offset is there by construction:
# beside the twenty shared coordinates each instrument has one of its own, which is 0 in the other. On the right, the shared
# coordinates alone.

# %%
nirspec = run.embeddings("starclip/nirspec").take("test").of_view(0).z[:1000]
apogee = run.embeddings("starclip/apogee").take("test").z[:1000]
spaces = {"all": np.vstack([nirspec, apogee]), "shared": np.vstack([nirspec[:, :20], apogee[:, :20]])}
n = len(apogee)
some = np.arange(0, n, max(1, n // 120))

# %%
panels = {}
for name, both in spaces.items():
    turned, _ = principal_components(both, 20)
    offset = np.abs(turned[:n].mean(0) - turned[n:].mean(0)) / turned.std(0)
    second = 1 + offset[1:].argmax() if offset.max() > 1 else 1  # in which the instruments differ, if there is one
    xy, axes = turned[:, [0, second]], ("component 1", f"component {second + 1}")
    panels[f"{name} coordinates"] = (xy[:n][some], xy[n:][some], axes)
run.save_figure("modalities", figures.modalities_map(panels))

# %% [markdown]
# A number without a map: take the ten nearest neighbours of each point, its own star left out. How many belong to the other
# instrument? In a space where the instruments mix it is half of them.

# %%
mixed, star = {}, np.tile(np.arange(n), 2)
for name, both in spaces.items():
    distance = cdist(both, both)
    distance[star[:, None] == star] = np.inf
    near = distance.argpartition(10, axis=1)[:, :10]
    mixed[name] = ((near < n) != (np.arange(2 * n) < n)[:, None]).mean()
Markdown(
    f"{mixed['all']:.0%} of the neighbours are of the other instrument in all coordinates, {mixed['shared']:.0%} in the shared "
    "ones. "
    + (
        "So the order of the stars is common to both instruments, and what separates them is an offset that a search across "
        "instruments never sees. In a search for neighbours within *one* map it matters: take the shared coordinates there."
        if mixed["shared"] > mixed["all"] + 0.1
        else "Leaving out coordinates does not mix them here: this run has no coordinates of its own for each instrument, and "
        "what separates the two lies in the shared ones."
    )
)

# %% [markdown]
# ## Explore
#
# The same map, to click around in: hover over a point for the star and its labels, choose the colour from the menu, drag
# to zoom. It is also saved as a page of its own, `atlas.html`, which needs no Python.

# %%
counts = [len(run.embeddings(f"starclip/{name}").take("test")) for name in pairs["starclip"]]
modality = np.repeat(["NIRSpec", "APOGEE"], counts)[shown]
captions = [f"{star} ({name})" for star, name in zip(points["starclip"].star_id[shown], modality, strict=True)]
explorer = figures.explorer(umap_xy, labels[shown], captions, "UMAP")
page = run.save_page("atlas", explorer)
PicturedFigure(explorer, figures.maps(umap_xy, labels[shown], "UMAP", ("Fe",)), page)

# %% tags=["nbval-check-output"]
fractions = components["starclip"][1]
print(f"{len(fractions)} components, whose fractions sum to {fractions.sum():.4f}")
print("points drawn:", len(shown), "of", len(labels))

# %% [markdown]
# ## Exercises
#
# **1.** If all twenty directions of a space carried the same variance, which share would the first two components have?

# %%
answer = None
starclip.check("07.1", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# 2 / 20 = 0.1. Compare with the fractions above.
#
# </details>
#
# **2.** Two islands in a UMAP are twice as far apart as two others. So their stars differ twice as much. `True` or `False`?

# %%
answer = None
starclip.check("07.2", answer)

# %% [markdown]
# <details><summary>Solution</summary>
#
# `False`. Distances between groups mean nothing in a UMAP; run it with another seed and they change.
#
# </details>
#
# **3. (To code.)** The quantity that astronomers ask for is [X/Fe]. Probe it: from `given` and `true` make the labels [X/Fe] = [X/H]
# - [Fe/H] of the seventeen elements other than iron, fit the regression on `known.z`, and put the r² on the test stars into
# `yours`, in the order of `elements`. Which element does the space know best, beyond iron?

# %%
elements = [i for i in others if LABELS[i] not in ("Teff", "logg")]
yours = None  # seventeen numbers
if yours is not None:
    order = np.argsort(yours)[::-1]
    print("r² of [X/Fe]:", ", ".join(f"{LABELS[elements[i]]} {yours[i]:.2f}" for i in order))

# %% [markdown]
# <details><summary>Solution</summary>
#
# `learn, test = (x[:, elements] - x[:, [FE]] for x in (given, true))`,
# `found = LinearRegression().fit(known.z, learn).predict(judged.z)`, `yours = 1 - ((found - test) ** 2).mean(0) / test.var(0)`.
# An r² near 0 says: for this element the spectra, as this space sees them, tell nothing beyond what iron tells.
#
# </details>
#
# ## Questions
#
# 1. Which label follows the first component most closely, and which the second? Compute correlations to check.
# 2. Change `n_neighbours` to 5 and to 100. What changes in the UMAP, and what does not?
# 3. A colleague sees an isolated island in a UMAP and claims a new class of stars. What would you ask for?
#
# **Next:** [08 · Probing](08_probing.ipynb) turns the map into measurements.
