"""The notebooks in their order: what each reads, and what it leaves.

Which files a notebook makes, from what and with which settings, stands in the plan of the run (`stages.STAGES`); here
is what it looks at besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starclip_lib.lab.widgets.spaces import NEEDED as BROWSED
from starclip_lib.stages import STAGES


@dataclass(frozen=True)
class Notebook:
    """One notebook."""

    name: str  # of its file
    sections: tuple[str, ...] = ()  # settings and files that it reads besides what its own stages do
    needs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()  # sections of metrics.json that it leaves
    long: bool = False  # takes longer than others that wait for the same files, and begins before them

    @property
    def makes(self) -> tuple[str, ...]:
        """The files of a run that it makes."""
        return tuple(file for file, stage in STAGES.items() if stage.notebook == self.name)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The files of a run that it needs from other notebooks."""
        wanted = dict.fromkeys([*(name for file in self.makes for name in STAGES[file].inputs), *self.needs])
        return tuple(file for file in wanted if file not in self.makes)

    @property
    def settings(self) -> set[str]:
        """The sections of the settings that it depends on."""
        return {"seed", *self.sections, *(section for file in self.makes for section in STAGES[file].sections)}


_LAST_RUN = re.compile(r"\| \d{4}-\d{2}-\d{2} \|$", re.MULTILINE)  # the last column of the table in the first cell


def dated(text: str, day: str) -> str:
    """The text of a notebook, or of its first cell, with the day of its last run put in."""
    return _LAST_RUN.sub(f"| {day} |", text, count=1)


def _by_name(*notebooks: Notebook) -> dict[str, Notebook]:
    return {notebook.name: notebook for notebook in notebooks}


_DATA, _EMBEDDED = ("data.h5",), ("data.h5", "embeddings.h5")
NOTEBOOKS = _by_name(
    Notebook("00_tour"),
    Notebook("00b_contrastive_from_scratch"),
    Notebook("01_data", metrics=("data",)),
    Notebook("02_corruptions", ("corruption",), _DATA),
    Notebook("03_encoders", ("device",), metrics=("encoders",)),
    Notebook("04_starclip", ("device",)),
    Notebook("05_mockstarclip", ("device",)),
    Notebook("06_retrieval", ("retrieval", "limits", "device"), metrics=("retrieval",)),
    Notebook("07_atlas", ("atlas",), _EMBEDDED, ("pca",)),
    Notebook(
        "08_probing",
        ("corruption", "limits", "mockstarclip", "device"),
        (*_EMBEDDED, "supervised.ckpt", "supervised_extended.ckpt"),
        ("probing", "limits"),
    ),
    Notebook(
        "08b_physics_instead_of_a_network",
        ("corruption",),
        (*_EMBEDDED, "fit.h5"),
        ("fit",),
    ),
    Notebook("09_similarity_browser", ("corruption", "observed", "atlas"), BROWSED),
    Notebook(
        "10_observed_nirspec",
        ("data", "corruption", "pretrain", "observed", "device"),
        (*_EMBEDDED, "starclip.ckpt"),
    ),
)
_EVALUATED = ("corruption", "evaluation", "device")
EVALUATION = _by_name(  # `starclip evaluate`: notebooks that judge a finished run, each on its own
    Notebook("11_limits", ("corruption", "limits"), _DATA),
    Notebook("11b_from_atoms_to_spectrum"),
    Notebook(
        "12_baselines",
        ("corruption", "limits", "mockstarclip"),
        (*_EMBEDDED, "fit.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt", "supervised.ckpt"),
        ("methods", "information", "baselines"),
        long=True,
    ),
    Notebook(
        "13_benchmark",
        _EVALUATED,
        (*_EMBEDDED, "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt"),
        ("evaluation.benchmark",),
    ),
    Notebook(
        "13b_contest",
        ("corruption", "limits", "starclip", "mockstarclip", "device"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt", "starclip.ckpt", "mockstarclip.ckpt", "fit.ckpt"),
        ("contest",),
        long=True,
    ),
    Notebook("14_decoders", _EVALUATED, (*_EMBEDDED, "starclip.ckpt"), ("evaluation.decoders",)),
    Notebook("15_densities", _EVALUATED, _EMBEDDED, ("evaluation.densities",)),
    Notebook(
        "16_transfer",
        (*_EVALUATED, "starclip", "pretrain"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt"),
        ("evaluation.transfer",),
    ),
)


def every_notebook() -> dict[str, Notebook]:
    """The notebooks of `starclip run`, then those of `starclip evaluate`."""
    return {**NOTEBOOKS, **EVALUATION}
