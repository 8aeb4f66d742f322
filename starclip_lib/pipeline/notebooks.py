"""The notebooks in their order: what each reads from the parameters and from other stages, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Notebook:
    """What a notebook reads from the parameters and from other stages, and what it leaves."""

    sections: tuple[str, ...]
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


_MODELS = ("starclip.ckpt", "mockstarclip.ckpt")


NOTEBOOKS = {
    "00_tour": Notebook(("seed",)),
    "contrastive_from_scratch": Notebook(("seed",)),
    "01_data": Notebook(("seed", "data"), makes=("data.h5",), metrics=("data",)),
    "02_corruptions": Notebook(("seed", "corruption"), ("data.h5",)),
    "03_encoders": Notebook(
        ("seed", "pretrain", "supervised", "corruption", "device", "precision"),
        ("data.h5",),
        ("apogee.ckpt", "nirspec.ckpt", "supervised.ckpt"),
        ("encoders",),
    ),
    "04_starclip": Notebook(
        ("seed", "starclip", "corruption", "device", "precision"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt"),
        ("starclip.ckpt",),
    ),
    "05_mockstarclip": Notebook(
        ("seed", "mockstarclip", "supervised", "corruption", "device", "precision"),
        ("data.h5", "starclip.ckpt", "supervised.ckpt"),
        ("mockstarclip.ckpt", "supervised_extended.ckpt"),
    ),
    "06_retrieval": Notebook(
        ("seed", "corruption", "mockstarclip", "retrieval", "device"),
        ("data.h5", *_MODELS),
        ("embeddings.h5",),
        ("retrieval",),
    ),
    "07_atlas": Notebook(("seed", "atlas"), ("data.h5", "embeddings.h5"), metrics=("pca",)),
    "08_probing": Notebook(
        ("seed", "corruption", "limits", "mockstarclip", "device"),
        ("data.h5", "embeddings.h5", "supervised.ckpt", "supervised_extended.ckpt"),
        metrics=("probing", "limits"),
    ),
    "09_similarity_browser": Notebook(
        ("seed", "corruption", "observed", "atlas"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt", "embeddings.h5", *_MODELS),
    ),
    "10_observed_nirspec": Notebook(
        ("seed", "data", "corruption", "pretrain", "observed", "device"), ("data.h5", "embeddings.h5", "starclip.ckpt")
    ),
    "12_limits": Notebook(
        ("seed", "corruption", "limits"), ("data.h5", "embeddings.h5", "supervised.ckpt"), metrics=("baselines",)
    ),
}


_EVALUATED = ("seed", "corruption", "evaluation", "device")


EVALUATION = {  # `starclip evaluate`: notebooks that judge a finished run, each on its own
    "11_benchmark": Notebook(
        _EVALUATED,
        ("data.h5", "apogee.ckpt", "nirspec.ckpt", "embeddings.h5"),
        metrics=("evaluation.benchmark",),
    ),
    "13_decoders": Notebook(
        _EVALUATED, ("data.h5", "embeddings.h5", "starclip.ckpt"), metrics=("evaluation.decoders",)
    ),
    "14_densities": Notebook(_EVALUATED, ("data.h5", "embeddings.h5"), metrics=("evaluation.densities",)),
    "15_transfer": Notebook(
        (*_EVALUATED, "starclip", "pretrain"),
        ("data.h5", "apogee.ckpt", "nirspec.ckpt"),
        metrics=("evaluation.transfer",),
    ),
}


def every_notebook() -> dict[str, Notebook]:
    """The notebooks of `starclip run`, then those of `starclip evaluate`."""
    return {**NOTEBOOKS, **EVALUATION}
