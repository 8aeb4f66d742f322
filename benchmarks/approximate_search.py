"""Does an approximate index pay?  Its time, memory and recall against the exact search of a store.

    pip install faiss-cpu
    python benchmarks/approximate_search.py STORE runs/quick [--queries 100]

STORE holds embeddings of the run's model.  The queries are giants of the atlas, observed anew with SNR 50.  First the
exact search, of all in one pass over the disk and of ten one by one, then indices in memory, one query at a time.
Recall is the share of the ten nearest that an index finds, by the cosines of the exact search.  One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import faiss  # type: ignore[import-not-found]
import numpy as np
import scale

from starclip_lib.models.encoding import encode
from starclip_lib.models.similarity import unit_vectors
from starclip_lib.survey.formats import vectors
from starclip_lib.survey.searching import search
from starclip_lib.survey.store import Store

K = 10
ELSEWHERE = 10**9  # where nobody has drawn noise yet


def indices(dim: int, n: int) -> dict[str, Callable[[], faiss.Index]]:
    """Indices by name, with the settings that their documentation suggests for so many vectors."""
    cells = int(4 * np.sqrt(n))

    def inverted(probes: int) -> faiss.Index:
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = probes
        return index

    def graph(effort: int) -> faiss.Index:
        index = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efSearch = effort
        return index

    found: dict[str, Callable[[], faiss.Index]] = {"flat (exact)": lambda: faiss.IndexFlatIP(dim)}
    found |= {f"IVF, {probes} of {cells} cells": lambda probes=probes: inverted(probes) for probes in (8, 64)}
    return found | {f"HNSW, effort {effort}": lambda effort=effort: graph(effort) for effort in (64, 256)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    store, encoder = Store(options.store), scale.model(str(options.run / "starclip.ckpt")).encoders["nirspec"]
    asked = encode(encoder, scale.spectra(ELSEWHERE, ELSEWHERE + options.queries))
    print(f"{len(store):,} embeddings of {store.about.dim} numbers, {options.queries} queries, k = {K}")

    began = time.perf_counter()
    _, cosine = search(store, asked, K)
    print(f"exact, from disk, all at once: {time.perf_counter() - began:.2f} s")
    began = time.perf_counter()
    for query in asked[:10]:
        search(store, query[None], K)
    print(f"exact, from disk, one at a time: {(time.perf_counter() - began) / 10:.3f} s a query", flush=True)

    z = np.concatenate([vectors(table) for _, table in store.blocks(["embedding"])])
    z, unit = unit_vectors(z, np.float32), unit_vectors(asked, np.float32)
    for name, make in indices(z.shape[1], len(z)).items():
        index, began = make(), time.perf_counter()
        if not index.is_trained:
            index.train(z[:: max(1, len(z) // 200_000)])
        index.add(z)
        built, took, hits = time.perf_counter() - began, [], []
        for query, nearest in zip(unit, cosine, strict=True):
            began = time.perf_counter()
            found, _ = index.search(query[None], K)
            took.append(time.perf_counter() - began)
            hits.append((found[0] >= nearest[-1] - 1e-6).mean())
        size = len(faiss.serialize_index(index)) / 1e6
        print(f"{name}: built in {built:.1f} s, {size:.0f} MB, {1e3 * np.median(took):.2f} ms a query, "
              f"recall {np.mean(hits):.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
