from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from starclip_lib.physics.emulator import FORMAT, Emulator, default_emulator
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import LABELS
from starclip_lib.physics.lsf import broadening
from starclip_lib.support.errors import DataError

OVER_IRON = {
    "C": 0.1,
    "N": 0.3,
    "O": 0.42,
    "Na": 0.11,
    "Mg": 0.35,
    "Al": 0.34,
    "Si": 0.3,
    "S": 0.3,
    "K": 0.2,
    "Ca": 0.15,
}
ARCTURUS = np.array([4286.0, 1.66] + [-0.52 + OVER_IRON.get(name, 0.0) for name in LABELS[2:]])


def formula(labels: np.ndarray, name: str) -> np.ndarray:
    """The formula as the file's documentation states it, in float64, one star and one unit at a time."""
    with (files("starclip_lib") / "physics" / "emulator.npz").open("rb") as stream:
        f = {key: value.astype(float) if value.dtype.kind == "f" else value for key, value in np.load(stream).items()}
    h = np.concatenate([(labels - f["label_center"]) / f["label_scale"], np.zeros(len(f["physics_width"]))])
    for k in (1, 2):
        h = np.array([sum(h * f[f"w{k}"][:, j]) + f[f"b{k}"][j] for j in range(f[f"w{k}"].shape[1])])
        h = h / (1 + np.exp(-h))
    c = h @ f["w3"] + f["b3"]
    first = len(f["apogee_basis"])
    if name == "apogee":
        return np.clip(f["apogee_mean"] + c[:first] @ f["apogee_basis"], 0, None)
    fine = f["fine_mean"] + c[first:] @ f["fine_basis"]
    fwhm = NIRSPEC.wavelength / 2700
    return np.clip(broadening(f["fine_wavelength"], float(f["fine_fwhm"]), NIRSPEC.wavelength, fwhm) @ fine, 0, None)


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_spectra_follow_the_documented_formula(instrument) -> None:
    flux = default_emulator()(np.stack([ARCTURUS, ARCTURUS + 0.01]), instrument)
    assert flux.dtype == np.float32
    np.testing.assert_allclose(flux[0], formula(ARCTURUS, instrument.name), atol=2e-6)
    np.testing.assert_allclose(flux[1], formula(ARCTURUS + 0.01, instrument.name), atol=2e-6)


@pytest.mark.parametrize("instrument", [APOGEE, NIRSPEC], ids=lambda i: i.name)
def test_gradient_equals_central_differences(instrument) -> None:
    gradient = default_emulator().gradient(ARCTURUS, instrument)
    for i, step in enumerate(np.where(np.arange(20) == 0, 2.0, 5e-3)):
        ahead, behind = ARCTURUS.copy(), ARCTURUS.copy()
        ahead[i], behind[i] = ahead[i] + step, behind[i] - step
        numeric = (formula(ahead, instrument.name) - formula(behind, instrument.name)) / (2 * step)
        assert np.abs(gradient[i] - numeric).max() < 2e-3 * np.abs(numeric).max(), LABELS[i]


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        (
            "Teff",
            5400.0,
            r"1 of 2 stars lie outside .*Teff must be between 3643 and 5165 K at logg 1.66 \(the first is",
        ),
        ("logg", 3.8, "logg must be between 0 and 3.7"),
        ("Fe", -2.5, r"\[Fe/H\] must be between"),
        ("Na", 0.5, r"\[Na/Fe\] must be between -0.6 and 0.6"),
        ("C", -0.14, r"\[C/O\]"),
        ("Mg", np.nan, r"\[Mg/Fe\]"),
    ],
)
def test_labels_outside_the_domain_are_refused_by_name(label: str, value: float, message: str) -> None:
    labels = np.stack([ARCTURUS, ARCTURUS])
    labels[:, LABELS.index("O")] = -0.4  # so that [C/O] can be exceeded within the box of [C/Fe]
    labels[1, LABELS.index(label)] = value
    with pytest.raises(DataError, match=message):
        default_emulator()(labels, NIRSPEC)
    assert default_emulator().inside_domain(labels).tolist() == [True, False]


def test_wrong_shape_and_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels must have shape \(n, 20\)"):
        default_emulator()(ARCTURUS, NIRSPEC)
    np.savez(tmp_path / "older.npz", label_names=np.array(LABELS))
    with pytest.raises(DataError, match="an emulator of another version"):
        Emulator(tmp_path / "older.npz")
    np.savez(tmp_path / "other.npz", format=np.array(FORMAT), label_names=np.array(["Teff", "logg"]))
    with pytest.raises(DataError, match="made for the labels"):
        Emulator(tmp_path / "other.npz")
