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
# | `data.h5`, `embeddings.h5` (notebooks 01 and 06) | figures, `atlas.html` to explore | 75 seconds | 2026-11-27 |

# %%
# %matplotlib inline
import numpy as np

import starclip_lib as starclip
from starclip_lib import figures
from starclip_lib.metrics.atlas import principal_components, thin, umap_map
from starclip_lib.models.embeddings import join
from starclip_lib.widgets.base import Illustrated

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
# Colour the map by labels. Smooth gradients mean that the space is ordered by that label even though the contrastive
# loss was not told which labels exist (in StarCLIP the pretraining was, of course).

# %%
shown = thin(points["starclip"], run.params.atlas.max_points, run.params.seed)
labels = data.labels_of(points["starclip"].star_id)
xy = components["starclip"][0]
figure = figures.maps(xy[shown], labels[shown], "PC")
run.save_figure("pca_starclip", figure)
figure

# %%
few = thin(points["mockstarclip"], run.params.atlas.max_points, run.params.seed)
mock_labels = data.labels_of(points["mockstarclip"].star_id)
figure = figures.maps(components["mockstarclip"][0][few], mock_labels[few], "PC")
run.save_figure("pca_mockstarclip", figure)
figure

# %% [markdown]
# ## UMAP
#
# UMAP keeps neighbourhoods and gives up distances. Read it as a subway map: who is next to whom can be trusted, how far
# apart two groups are, or how large a group is, cannot. It repeats on one machine with the same seed, but not across
# machines. The first call compiles code and takes a while.

# %%
settings = run.params.atlas
z = points["starclip"].z[shown]
umap_xy = umap_map(z, settings.n_neighbours, settings.min_distance, run.params.seed)
figure = figures.maps(umap_xy, labels[shown], "UMAP")
run.save_figure("umap_starclip", figure)
figure

# %% [markdown]
# ## Do the instruments mix?
#
# If alignment worked, one cannot tell from the map which instrument a point came from. Areas of a single colour would
# be stars that one instrument places where the other has none.

# %%
counts = [len(run.embeddings(f"starclip/{name}").take("test")) for name in pairs["starclip"]]
modality = np.repeat(["NIRSpec", "APOGEE"], counts)
figure = figures.modalities_map(umap_xy, modality[shown], "UMAP")
run.save_figure("modalities", figure)
figure

# %% [markdown]
# ## Explore
#
# The same map, to click around in: hover over a point for the star and its labels, choose the colour from the menu, drag
# to zoom. It is also saved as a page of its own, `atlas.html`, which needs no Python.

# %%
captions = [f"{star} ({name})" for star, name in zip(points["starclip"].star_id[shown], modality[shown], strict=True)]
explorer = figures.explorer(umap_xy, labels[shown], captions, "UMAP")
page = run.save_page("atlas", explorer)
Illustrated(explorer, figures.maps(umap_xy, labels[shown], "UMAP", ("Fe",)), page)

# %% tags=["nbval-check-output"]
fractions = components["starclip"][1]
print("components:", len(fractions), "- fractions sum to", round(float(fractions.sum()), 6))
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
