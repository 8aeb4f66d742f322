"""The paper's own files, in small: pandas writes them, and our readers, which run nothing in them, read them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from apogee_files import catalogue

from starclip_lib.data.spectra import PairedSpectra
from starclip_lib.lab.cli import main
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import TEFF
from starclip_lib.run import Run
from starclip_lib.support.errors import DataError
from starclip_lib.survey import original
from starclip_lib.survey.original import import_original
from starclip_lib.survey.pandas_files import read_frame_hdf, read_frame_pickle, restricted_load

N = 50  # NIRSpec spectra; the catalogue has one star more
UNPAIRED = 20


@pytest.fixture(autouse=True)
def _quiet() -> None:
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*track_times.*")
    warnings.filterwarnings("ignore", message=".*PerformanceWarning.*")


@pytest.fixture(params=["fixed", "table"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """The three files, with two rows of one star."""
    rng = np.random.default_rng(4)
    table = catalogue(N + 2).iloc[: N + 1]
    table.loc[31, "APOGEE_ID"] = table["APOGEE_ID"][30]
    paired = table.drop(index=UNPAIRED)
    names = [name for name in paired if name.endswith("_FE") and f"{name}_ERR" in paired]
    labels = pd.DataFrame({"Teff": paired["TEFF"] / 1000, "logg": paired["LOGG"]})
    order = ["C", "N", "O", "Na", "Mg", "Al", "Si", "S", "K", "Ca", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Ce"]
    assert len(names) == len(order) - 1
    for element in order:
        over_iron = paired[f"{element.upper()}_FE"] if element != "Fe" else 0.0
        labels[element] = over_iron + paired["FE_H"]
    paths = {
        key: tmp_path / name
        for key, name in (
            ("jwst", "JWST_APOGEE.h5"),
            ("allstar", "apogee_dr17.h5"),
            ("spectra", "apogee_spectra.pkl.gz"),
        )
    }
    form = request.param
    with pd.HDFStore(paths["jwst"], "w") as store:
        store.put("wavelength", pd.Series(NIRSPEC.wavelength), format=form)
        store.put("labels", labels, format=form)
        store.put("spectra", pd.DataFrame(rng.normal(0.9, 0.01, (N, NIRSPEC.n_pix))))
    with pd.HDFStore(paths["allstar"], "w") as store:
        store.put("allstar", table, format=form)
    flux = np.where(APOGEE.on_detector, rng.normal(0.9, 0.01, (N + 1, APOGEE.n_pix)), 0.0)
    flux[:, 0] = 0.0
    flux[:, 300] = np.arange(N + 1)  # tells the rows apart
    pd.DataFrame(flux).to_pickle(paths["spectra"])
    return paths


def read(files: dict[str, Path], **changes: object) -> PairedSpectra:
    return import_original(**{"unpaired_row": UNPAIRED, "callback": lambda line: None, **files, **changes})


def test_rows_are_paired_and_repeats_dropped(files: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    data = read(files, callback=said.append)
    kept = [row for row in range(N + 1) if row not in (UNPAIRED, 31)]
    assert data.apogee.flux[:, 300].tolist() == kept
    assert data.star_id.tolist() == catalogue(N + 2)["APOGEE_ID"].iloc[kept].tolist()
    np.testing.assert_allclose(data.labels[:, TEFF], catalogue(N + 2)["TEFF"].iloc[kept], rtol=1e-5)
    assert data.label_errors[0, 5] == pytest.approx(np.hypot(0.02, 0.01))
    assert said == ["50 rows, 1 of them repeat a star; 0 stars lack a label's error"]
    np.testing.assert_allclose(data.nirspec.flux[0], read_frame_hdf(files["jwst"], "spectra").to_numpy()[0], rtol=1e-6)
    data.write(tmp_path / "original.h5")
    assert PairedSpectra.read(tmp_path / "original.h5").source == "original"


def test_the_published_layout_is_read(files: dict[str, Path]) -> None:
    """As the paper's notebooks write them: the grid as a row, stars as index, float64 spectra without repeats."""
    expected = read(files)
    flux = read_frame_pickle(files["spectra"]).drop(index=[UNPAIRED, 31]).to_numpy(np.float64)
    published = pd.DataFrame(list(flux))
    published.columns = 10.0 ** np.arange(4.179, 4.179 + APOGEE.n_pix * 6e-6, 6e-6)[: APOGEE.n_pix]
    published.to_pickle(files["spectra"])
    with pd.HDFStore(files["jwst"], "a") as store:
        labels, spectra = store["labels"], store["spectra"]
        labels["Teff"] *= 1000
        labels.index = spectra.index = [f"star {row}" for row in range(N)]
        for key, frame in (
            ("wavelength", pd.DataFrame([NIRSPEC.wavelength] * 2)),
            ("labels", labels),
            ("spectra", spectra),
        ):
            store.put(key, frame)
    table = read_frame_hdf(files["allstar"], "allstar")
    table["APOGEE_ID"] = pd.Series([name.encode() for name in table["APOGEE_ID"]], dtype=object)
    table.to_hdf(files["allstar"], key="allstar", mode="w")
    found = read(files)
    assert found.star_id.tolist() == expected.star_id.tolist()
    np.testing.assert_allclose(found.labels, expected.labels, rtol=1e-6)
    np.testing.assert_array_equal(found.apogee.flux, expected.apogee.flux)
    np.testing.assert_array_equal(found.nirspec.flux, expected.nirspec.flux)


def test_a_pointer_of_git_lfs_is_named(files: dict[str, Path]) -> None:
    files["spectra"].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:d63e\nsize 458637488\n")
    with pytest.raises(DataError, match=r"apogee_spectra\.pkl\.gz is a Git LFS pointer, .* `git lfs pull`"):
        read(files)


def test_the_published_counts_are_checked(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert original.KNOWN_COUNTS == {19_799: 19_001}
    assert original.UNPAIRED_ROW == 11_215
    monkeypatch.setattr(original, "KNOWN_COUNTS", {N: N - 1})
    assert read(files).n_stars == N - 1
    monkeypatch.setattr(original, "KNOWN_COUNTS", {N: N - 2})
    with pytest.raises(DataError, match="50 rows hold 49 different stars, the paper's hold 48"):
        read(files)


def test_wrong_pairing_is_noticed(files: dict[str, Path]) -> None:
    with pytest.raises(DataError, match=r"of the two files agrees in only \d+% of the rows"):
        read(files, unpaired_row=3)


def test_spectra_from_hdf5_and_lying_on_their_side(files: dict[str, Path], tmp_path: Path) -> None:
    flux = read_frame_pickle(files["spectra"])
    other = tmp_path / "spectra.h5"
    flux.T.to_hdf(other, key="spectra")
    np.testing.assert_array_equal(read(files, spectra=other).apogee.flux, read(files).apogee.flux)


class Hostile:
    """Makes a file when it is unpickled the usual way."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "owned"
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [Hostile(target), Hostile(target)]}, dtype=object)
    path = tmp_path / "apogee_spectra.pkl.gz"
    path.write_bytes(gzip.compress(pickle.dumps(frame, protocol=protocol)))
    with pytest.raises(DataError, match=r"apogee_spectra\.pkl\.gz: refused, it asks for posix\.system"):
        read_frame_pickle(path)
    assert not target.exists()
    pd.read_pickle(path)  # the usual way, to see that the file is what it claims to be
    assert target.exists()


@pytest.mark.parametrize(
    "callable_",
    ["builtins eval", "builtins getattr", "numpy.testing._private.utils runstring", "pandas eval", "pandas read_pickle",
     "numpy load", "functools partial", "pandas.core.frame DataFrame.eval", "operator attrgetter"],
)  # fmt: skip
def test_nothing_but_constructors_is_admitted(callable_: str) -> None:
    module, name = callable_.split()
    wanted = pickle.PROTO + b"\x04" + b"".join(
        pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode() for text in (module, name)
    ) + pickle.STACK_GLOBAL + pickle.STOP  # fmt: skip
    with pytest.raises(DataError, match="refused, it asks for"):
        restricted_load(io.BytesIO(wanted), "file")
    with pytest.raises(DataError, match="refused, it asks for the codec zip"):
        restricted_load(io.BytesIO(b"c_codecs\nencode\n(Vx\nVzip\ntR."), "file")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "int16"])
def test_honest_pickles_are_read_as_pandas_does(tmp_path: Path, protocol: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    with pd.option_context("mode.string_storage", "python"):
        frame = pd.DataFrame(rng.normal(0, 9, (5, 7)).astype(dtype), index=list("abcde")).rename(columns={0: "name"})
    path = tmp_path / "frame.pkl"
    frame.to_pickle(path, protocol=protocol)
    pd.testing.assert_frame_equal(read_frame_pickle(path), frame, check_dtype=False)  # the byte order may change
    array = frame.to_numpy()
    path.write_bytes(pickle.dumps(array, protocol=protocol))
    np.testing.assert_array_equal(read_frame_pickle(path), array)


def test_text_kept_by_arrow_is_refused_since_its_buffers_could_lie_about_their_size(tmp_path: Path) -> None:
    with pd.option_context("mode.string_storage", "pyarrow"):
        pd.DataFrame({"id": pd.array(["a", "b"], dtype="str")}).to_pickle(tmp_path / "frame.pkl")
    with pytest.raises(DataError, match="ask for the data as HDF5 instead"):
        read_frame_pickle(tmp_path / "frame.pkl")


@pytest.mark.parametrize("form", ["fixed", "table"])
def test_hdf_frames_are_read_as_pandas_does(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"id": ["α", "bb", "c"], "x": [1.5, np.nan, 3], "n": [1, 2, 3], "y": np.float32([4, 5, 6])})
    frame["other"] = ["d", "e", "f"]
    for name in ("old", "older"):  # as pandas before version 3 kept text
        frame[name] = pd.Series(["g", "h", "i"], dtype=object)
    frame.to_hdf(tmp_path / "frame.h5", key="frame", format=form)
    ours = read_frame_hdf(tmp_path / "frame.h5", "frame")
    theirs = pd.read_hdf(tmp_path / "frame.h5", "frame")
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_array_equal(ours[name].to_numpy(), theirs[name].to_numpy())


def test_hostile_strings_inside_hdf5_are_refused(tmp_path: Path) -> None:
    """pandas pickles text in its fixed format, and unpickles it without a look."""
    path, target = tmp_path / "apogee_dr17.h5", tmp_path / "owned"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pd.DataFrame({"APOGEE_ID": pd.Series([Hostile(target), "b"], dtype=object)}).to_hdf(path, key="allstar")
    with pytest.raises(DataError, match=r"apogee_dr17\.h5, key 'allstar': refused, it asks for posix\.system"):
        read_frame_hdf(path, "allstar")
    assert not target.exists()


def test_files_that_cannot_be_used(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"apogee_dr17\.h5: no key 'wavelength'; it has allstar"):
        read(files, jwst=files["allstar"])
    few = tmp_path / "few.pkl"
    read_frame_pickle(files["spectra"]).iloc[:30].to_pickle(few)
    with pytest.raises(DataError, match=r"few\.pkl: 30 rows for 50 NIRSpec spectra"):
        read(files, spectra=few)
    narrow = tmp_path / "narrow.pkl"
    read_frame_pickle(files["spectra"]).iloc[:, :5000].to_pickle(narrow)
    with pytest.raises(DataError, match=r"narrow\.pkl: shape \(51, 5000\), expected 8575 pixels"):
        read(files, spectra=narrow)
    dictionary = tmp_path / "dictionary.pkl"
    dictionary.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match=r"dictionary\.pkl: holds a dict"):
        read(files, spectra=dictionary)
    with pd.HDFStore(files["jwst"], "a") as store:
        store.put("wavelength", pd.Series(NIRSPEC.wavelength / 10))
    with pytest.raises(DataError, match=r"key 'wavelength': the wavelength grid differs"):
        read(files)


def test_the_command(
    files: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(run.root)
    command = [f"--{key}={path}" for key, path in files.items()]
    assert main(["import-original", *command]) == 1  # the real files' unpaired row does not exist in these
    assert "rows for 50 NIRSpec spectra" in capsys.readouterr().err
    read_frame_pickle(files["spectra"]).drop(index=UNPAIRED).to_pickle(files["spectra"])
    table = read_frame_hdf(files["allstar"], "allstar").drop(index=UNPAIRED)
    table.to_hdf(files["allstar"], key="allstar", mode="w", format="table")
    assert main(["import-original", *command]) == 0
    assert "archive/original/original.h5 is ready, 49 stars" in capsys.readouterr().out
    assert PairedSpectra.read(run.root / "archive" / "original" / "original.h5").n_stars == N - 1
