"""Networks that turn a spectrum into twenty labels, and labels into a point on the unit sphere."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from starclip_lib.inference.posterior import Population, Posterior
from starclip_lib.models.calibration import Coordinates
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import N_LABELS, LabelScaler
from starclip_lib.settings.training import EncoderParams, FitParams
from starclip_lib.support.seeds import seeded_weights


class InputScaling(nn.Module):
    """Subtract the mean training spectrum, divide by the overall standard deviation, pixels without data become 0.

    Flux near 1 is a badly conditioned input: what tells stars apart are the small differences from the mean spectrum.
    A pixel counts as without data if it holds exactly the instrument's `fill_value` value.
    """

    def __init__(self, instrument: Instrument):
        super().__init__()
        self.fill_value = instrument.fill_value
        self.register_buffer("mean", torch.zeros(instrument.n_pix))
        self.register_buffer("std", torch.ones(()))

    def fit(self, flux: Tensor) -> None:
        """Take mean and standard deviation from training spectra (n, n_pix)."""
        missing = flux == self.fill_value
        counts = (~missing).sum(0)
        self.mean = flux.masked_fill(missing, 0).sum(0) / counts.clamp_min(1)
        squares = sum(
            ((block - self.mean).masked_fill(block == self.fill_value, 0) ** 2).sum() for block in flux.split(512)
        )
        self.std = (squares / counts.sum().clamp_min(1)).sqrt().clamp_min(1e-6)

    def forward(self, flux: Tensor) -> Tensor:
        """Scaled spectra (n, n_pix)."""
        return ((flux - self.mean) / self.std).masked_fill(flux == self.fill_value, 0)


class Estimator(nn.Module):
    """What turns spectra into labels: a network, or a fit of the emulator.

    Calling it gives Z-scored labels (n, 20), `posterior` what is known about the labels, `embed` unit vectors (n, dim).
    """

    population_mean: Tensor
    population_root: Tensor

    fit_settings: FitParams | None = None  # of fits
    emulator_version = ""  # that a fit uses

    def __init__(self, instrument: Instrument, settings: EncoderParams):
        super().__init__()
        self.instrument, self.settings = instrument, settings
        self.coordinates: Coordinates | None = None  # what is lifted to the sphere; None: the labels themselves
        self.register_buffer("population_mean", torch.zeros(N_LABELS, dtype=torch.float64))
        self.register_buffer("population_root", torch.eye(N_LABELS, dtype=torch.float64))

    @property
    def dim(self) -> int:
        """Number of coordinates of an embedding."""
        return N_LABELS + 2 * (self.coordinates is not None) + (self.settings.lift > 0)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.population_mean.device

    @property
    def population(self) -> Population:
        """The population of labels that its posteriors assume."""
        return Population(self.population_mean.cpu().numpy(), self.population_root.cpu().numpy())

    def set_population(self, population: Population) -> None:
        """Take the population of the training stars."""
        self.population_mean = torch.from_numpy(population.mean).to(self.device)
        self.population_root = torch.from_numpy(population.root).to(self.device)

    def posterior(self, flux: Tensor) -> Posterior:
        """Posteriors of the labels of spectra (n, n_pix)."""
        raise NotImplementedError

    def look(self, flux: Tensor) -> tuple[Posterior, Tensor]:
        """`posterior` and `for_search` of the same spectra in one pass."""
        raise NotImplementedError

    def placed(self, found: Posterior) -> Tensor:
        """What `for_search` gives, from posteriors of any origin; of fits."""
        raise NotImplementedError

    def check_shape(self, flux: Tensor) -> None:
        """Raise ValueError unless spectra have as many pixels as the instrument."""
        if flux.shape[1:] != (self.instrument.n_pix,):
            raise ValueError(
                f"{self.instrument.title} spectra must have shape (n, {self.instrument.n_pix}), not {tuple(flux.shape)}"
            )

    def embed(self, flux: Tensor) -> Tensor:
        """Embeddings of unit length."""
        return self.to_sphere(self(flux))

    def for_search(self, flux: Tensor) -> Tensor:
        """What a search needs: embeddings and, where they rank better, packed posteriors after them."""
        return self.embed(flux)

    def to_sphere(self, labels: Tensor) -> Tensor:
        """Z-scored labels (n, 20) to unit vectors (n, dim).

        The paper normalises the labels themselves, which forgets their length.  With one more, constant coordinate
        the cosine falls with the distance between label vectors, and their length survives as latitude.
        """
        with torch.autocast(labels.device.type, enabled=False):  # mixed precision ends here: it would blur neighbours
            if self.coordinates is not None:
                labels = self.coordinates(labels)
            if self.settings.lift > 0:
                labels = torch.cat([labels, labels.new_full((len(labels), 1), self.settings.lift)], dim=1)
            return F.normalize(labels, dim=1)


class Encoder(Estimator):
    """A network: `features`, the part that MockStarCLIP freezes, and `head`, its fully connected part.

    Its posterior is a linear regression of the true labels on the predicted ones, with one covariance for all spectra.
    """

    features: nn.Module
    head: nn.Module
    readout: Tensor
    offset: Tensor
    error: Tensor

    def __init__(self, instrument: Instrument, settings: EncoderParams):
        super().__init__(instrument, settings)
        self.scaling = InputScaling(instrument) if settings.input_scaling == "standard" else nn.Identity()
        self.register_buffer("readout", torch.zeros(N_LABELS, N_LABELS, dtype=torch.float64))
        self.register_buffer("offset", torch.zeros(N_LABELS, dtype=torch.float64))
        self.register_buffer("error", torch.eye(N_LABELS, dtype=torch.float64))

    def fit_scaling(self, flux: Tensor) -> None:
        """Fit the input scaling, if there is one, to training spectra."""
        if isinstance(self.scaling, InputScaling):
            self.scaling.fit(flux)

    def freeze_features(self) -> None:
        """Leave only the head to be trained, as MockStarCLIP does with its encoder of extended mock spectra."""
        self.features.requires_grad_(False)

    def learn_errors(self, predicted: np.ndarray, labels: np.ndarray, scaler: LabelScaler) -> None:
        """Learn how predictions (n, 20) for stars outside the training follow their labels (n, 20) in K and dex.

        Of fewer than 43 predictions only the variances are taken, at most the population's.
        """
        n, fitted, population = len(labels), N_LABELS + 1, self.population
        true = population.whitened(labels.astype(np.float64))
        readout = np.linalg.solve(population.root, np.diag(scaler.std)).T
        offset = population.whitened(scaler.mean[None])[0]
        left = true - predicted @ readout - offset
        covariance = np.diag(np.clip((left**2).mean(axis=0), 1e-6, 1.0))
        if n > 2 * fitted:
            line = LinearRegression().fit(predicted.astype(np.float64), true)
            readout, offset = line.coef_.T, line.intercept_
            covariance = ledoit_wolf(true - line.predict(predicted), assume_centered=True)[0] * n / (n - fitted)
        for name, value in (("readout", readout), ("offset", offset), ("error", covariance)):
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(value)).to(self.device))

    def forward(self, flux: Tensor) -> Tensor:
        """Z-scored labels (n, 20) of spectra (n, n_pix)."""
        self.check_shape(flux)
        return self.head(self.features(self.scaling(flux)))

    @torch.no_grad()
    def posterior(self, flux: Tensor) -> Posterior:
        """Posteriors of the labels of spectra (n, n_pix)."""
        return self._read(self(flux))

    @torch.no_grad()
    def look(self, flux: Tensor) -> tuple[Posterior, Tensor]:
        """`posterior` and `for_search` of the same spectra in one pass."""
        labels = self(flux)
        return self._read(labels), self.to_sphere(labels)

    def _read(self, labels: Tensor) -> Posterior:
        mean = (labels.double() @ self.readout + self.offset).cpu().numpy()
        return Posterior.with_one_covariance(mean, self.error.cpu().numpy())


class _Convolutions(nn.Module):
    """The convolutional part of StarNet.

    Two-dimensional kernels one pixel high give the same numbers as Conv1d, but in PyTorch's channels-last layout, and
    batches in small pieces keep the allocator from returning memory to the system: three times faster on a CPU.
    """

    _PIECE = 32

    def __init__(self) -> None:
        super().__init__()
        layers = [
            nn.Conv2d(1, 4, (1, 8)),
            nn.ELU(),
            nn.Conv2d(4, 16, (1, 8)),
            nn.ELU(),
            nn.AvgPool2d((1, 4)),
            nn.Flatten(),
        ]
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def forward(self, flux: Tensor) -> Tensor:
        image = flux[:, None, None].contiguous(memory_format=torch.channels_last)
        if flux.device.type != "cpu":
            return self.layers(image)
        return torch.cat([self.layers(piece) for piece in image.split(self._PIECE)])


class StarNet(Encoder):
    """The paper's CNN (section 4.1.1, Table 1): 8,801,736 parameters for APOGEE and 8,408,520 for NIRSpec."""

    def __init__(self, instrument: Instrument, settings: EncoderParams):
        super().__init__(instrument, settings)
        self.features = _Convolutions()
        pooled = (instrument.n_pix - 14) // 4
        self.head = nn.Sequential(
            nn.Linear(16 * pooled, 256), nn.ELU(), nn.Linear(256, 128), nn.ELU(), nn.Linear(128, N_LABELS)
        )


class _ResidualBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


class ResidualMLP(Encoder):
    """One linear layer over the whole spectrum, then residual blocks: six times faster than StarNet on a CPU."""

    def __init__(self, instrument: Instrument, settings: EncoderParams):
        super().__init__(instrument, settings)
        width = settings.width
        self.features = nn.Linear(instrument.n_pix, width)
        blocks = [_ResidualBlock(width) for _ in range(settings.depth)]
        self.head = nn.Sequential(*blocks, nn.LayerNorm(width), nn.Linear(width, N_LABELS))


def make_encoder(instrument: Instrument, settings: EncoderParams, seed: int) -> Encoder:
    """A fresh encoder whose random weights depend on `seed` alone."""
    kinds = {"starnet": StarNet, "residual_mlp": ResidualMLP}
    with seeded_weights(seed):
        return kinds[settings.kind](instrument, settings)
