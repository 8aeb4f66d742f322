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
# **After this notebook you can** project embeddings with PCA and UMAP, and tell which features of such a map deserve
# trust.
#
# **Before this:** notebook 06.
#
# | needs | makes | time on 2 cores | last run |
# |---|---|---|---|
# | `data.h5`, `embeddings.h5` (notebooks 01 and 06) | figures, `atlas.html` to explore | 75 seconds | 2026-11-30 |

# %%
# %matplotlib inline
import numpy as np
from scipy.spatial.distance import cdist
from IPython.display import Markdown

import starclip_lib as starclip
from starclip_lib import figures
from starclip_lib.metrics.atlas import principal_components, thin, umap_map
from starclip_lib.models.embeddings import join
from starclip_lib.lab.widgets.base import Illustrated

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
# but this is no proof that it found them: the encoders were pretrained to predict exactly these.

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
    "ones. So the order of the stars is common to both instruments, and what separates them is an offset that a search across "
    "instruments never sees. In a search for neighbours within *one* map it matters: take the shared coordinates there."
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
Illustrated(explorer, figures.maps(umap_xy, labels[shown], "UMAP", ("Fe",)), page)

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
# ## Questions
#
# 1. Which label follows the first component most closely, and which the second? Compute correlations to check.
# 2. Change `n_neighbours` to 5 and to 100. What changes in the UMAP, and what does not?
# 3. A colleague sees an isolated island in a UMAP and claims a new class of stars. What would you ask for?
#
# **Next:** [08 · Probing](08_probing.ipynb) turns the map into measurements.
