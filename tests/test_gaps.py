from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.stats import gaussian_kde, ks_2samp

from starclip_lib.settings.training import GapParams
from starclip_lib.support.errors import DataError
from starclip_lib.support.seeds import seeded
from starclip_lib.transforms.gaps import GapModel, Gaps, detect_gaps, draw_traces, read_gaps, read_trace_image


def edges(gaps: Gaps) -> np.ndarray:
    return np.stack([gaps.start, gaps.start + gaps.width, 18000 - gaps.cutoff_width])


def test_the_packaged_image_is_the_drawing_of_the_packaged_table() -> None:
    assert (read_trace_image() == draw_traces(read_gaps())).all()


def test_detection_recovers_the_drawn_gaps_to_a_pixel() -> None:
    table, found = read_gaps(), detect_gaps(read_trace_image())
    assert len(found) == len(table) == 84
    assert np.abs(edges(found) - edges(table)).max() <= 10.0  # 10 Angstrom a pixel


@pytest.mark.parametrize("scale", [4.0, 25.0])
def test_detection_works_at_other_scales(scale: float, rng: np.random.Generator) -> None:
    start = rng.uniform(10000, 14000, 30)
    drawn = Gaps(start, rng.uniform(200, 400, 30), rng.uniform(150, 3000, 30))
    found = detect_gaps(draw_traces(drawn, angstrom_per_pixel=scale, seed=1))
    assert np.abs(edges(found) - edges(drawn)).max() <= scale


def test_images_without_broken_traces_are_refused() -> None:
    with pytest.raises(DataError, match="found no trace with a gap"):
        detect_gaps(np.full((100, 200), 240, np.uint8))
    with pytest.raises(DataError, match="expected a grey-scale image"):
        detect_gaps(np.zeros((100, 200, 3), np.uint8))
    whole = np.full((40, 400), 240, np.uint8)
    cv2.line(whole, (0, 20), (399, 20), 50, thickness=5)
    with pytest.raises(DataError, match="found no trace with a gap"):
        detect_gaps(whole)


def test_the_table_is_checked(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"bad.csv: expected a CSV table with the columns gap_start_angstrom"):
        read_gaps(tmp_path / "bad.csv")


def test_independent_draws_follow_scipys_density_clipped_at_zero() -> None:
    table = read_gaps()
    drawn = GapModel.measured(GapParams(model="independent")).sample(4000, seeded("cpu", 1))
    start, width = drawn.start.numpy(), (drawn.stop - drawn.start).numpy()
    cutoff = 18000 - drawn.cutoff.numpy()
    for values, measured in ((start, table.start), (width, table.width), (cutoff, table.cutoff_width)):
        expected = np.maximum(gaussian_kde(measured).resample(4000, np.random.default_rng(2))[0], 0)
        assert ks_2samp(values, expected).pvalue > 1e-3
        assert values.min() > -1e-2
    assert abs(np.corrcoef(start, cutoff)[0, 1]) < 5 / np.sqrt(4000)
    assert (drawn.blue == 9000).all()


def test_detector_draws_are_spectra_that_nirspec_can_make() -> None:
    settings = GapParams(model="detector", width=374.0, detector_length=4810.0, blue_edge=9700.0)
    blue, start, stop, cutoff = (edge.numpy() for edge in GapModel.measured(settings).sample(2000, seeded("cpu", 1)))
    np.testing.assert_allclose(stop - start, 374, atol=1e-2)
    np.testing.assert_allclose(cutoff, np.minimum(stop + 4810, 18000), atol=1e-2)
    np.testing.assert_allclose(blue, np.maximum(start - 4810, 9700), atol=1e-2)
    expected = gaussian_kde(read_gaps().start).resample(2000, np.random.default_rng(2))[0]
    assert ks_2samp(start, expected).pvalue > 1e-3


def test_a_distribution_needs_measurements() -> None:
    few = Gaps(*np.ones((3, 2)))
    with pytest.raises(DataError, match="at least 3 measured gaps, 2 given"):
        GapModel(few, GapParams())
