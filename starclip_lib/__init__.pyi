# What the front door offers, and where each thing lives; `lazy_loader` and type checkers read it.
from . import figures as figures
from .data.emulator import default_emulator as default_emulator
from .data.instruments import APOGEE as APOGEE
from .data.instruments import NIRSPEC as NIRSPEC
from .data.labels import ASPCAP_ERROR as ASPCAP_ERROR
from .data.labels import FE as FE
from .data.labels import LABELS as LABELS
from .data.labels import LOGG as LOGG
from .data.labels import PLAIN as PLAIN
from .data.labels import TEFF as TEFF
from .data.labels import UNITS as UNITS
from .data.labels import label_index as label_index
from .data.selection import mock_stars as mock_stars
from .data.spectra import PairedSpectra as PairedSpectra
from .data.spectra import SpectrumSet as SpectrumSet
from .data.spectra import Star as Star
from .errors import StarclipError as StarclipError
from .models.checkpoint import Model as Model
from .models.embeddings import predict_labels as predict_labels
from .models.embeddings import run_encoder as run_encoder
from .observed.files import read_spectra as read_spectra
from .run import Run as Run
from .run import open_run as open_run
from .seeds import seeded as seeded
from .settings.params import Params as Params
from .settings.params import load_params as load_params
from .surveys.simulate import simulate_survey as simulate_survey
from .teaching.exercises import check as check
from .transforms.views import MockTelescope as MockTelescope
from .transforms.views import extended_telescope as extended_telescope
from .transforms.views import mock_telescope as mock_telescope
from .widgets.corruption_explorer import CorruptionExplorer as CorruptionExplorer
from .widgets.similarity_browser import SimilarityBrowser as SimilarityBrowser
from .widgets.training_viewer import TrainingViewer as TrainingViewer

__version__: str
