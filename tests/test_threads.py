"""Threads sleep while they wait, so that a busy machine does not make small networks many times slower."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from starclip_lib.support.threads import side_by_side


@pytest.mark.parametrize(("given", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_importing_the_package_makes_threads_sleep_unless_told_otherwise(given: str | None, wanted: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    code = "import os, sys, starclip_lib; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == wanted


def test_pieces_keep_their_order_and_results_do_not_depend_on_threads(monkeypatch, rng) -> None:
    matrices = [rng.normal(size=(60, 60)) for _ in range(9)]
    found = {}
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found[threads] = side_by_side(np.linalg.inv, matrices)
    for one, three, matrix in zip(found["1"], found["3"], matrices, strict=True):
        assert np.array_equal(one, three)
        assert np.allclose(one @ matrix, np.eye(60))


def test_an_error_in_a_piece_is_an_error(monkeypatch) -> None:
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda n: 1 / n, [1, 0])
