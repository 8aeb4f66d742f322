"""Networks that turn a spectrum into twenty labels, and those labels into a point on the unit sphere."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from starclip_lib.models.coordinates import Coordinates
from starclip_lib.physics.instruments import Instrument
from starclip_lib.physics.labels import N_LABELS
from starclip_lib.settings.training import EncoderParams


class InputScaling(nn.Module):
    """Subtract the mean training spectrum, divide by the overall standard deviation, pixels without data become 0.

    Flux near 1 is a badly conditioned input: what tells stars apart are the small differences from the mean spectrum.
    A pixel counts as without data if it holds exactly the instrument's `no_data` value.
    """

    def __init__(self, instrument: Instrument):
        super().__init__()
        self.no_data = instrument.no_data
        self.register_buffer("mean", torch.zeros(instrument.n_pix))
        self.register_buffer("std", torch.ones(()))

    def fit(self, flux: Tensor) -> None:
        """Take mean and standard deviation from training spectra.

        Parameters
        ----------
        flux : Tensor, shape (n, n_pix)
        """
        missing = flux == self.no_data
        counts = (~missing).sum(0)
        self.mean = flux.masked_fill(missing, 0).sum(0) / counts.clamp_min(1)
        squares = sum(
            ((block - self.mean).masked_fill(block == self.no_data, 0) ** 2).sum() for block in flux.split(512)
        )
        self.std = (squares / counts.sum().clamp_min(1)).sqrt().clamp_min(1e-6)

    def forward(self, flux: Tensor) -> Tensor:
        """Scaled spectra (n, n_pix)."""
        return ((flux - self.mean) / self.std).masked_fill(flux == self.no_data, 0)


class Encoder(nn.Module):
    """Spectrum to labels.

    `forward` returns (n, 20) Z-scored labels; `embed` a unit vector (n, dim), the labels lifted by a constant.

    Attributes
    ----------
    features : nn.Module
        The part MockStarCLIP freezes.
    head : nn.Module
        Its fully connected part.
    """

    features: nn.Module
    head: nn.Module

    def __init__(self, instrument: Instrument, settings: EncoderParams):
        super().__init__()
        self.instrument, self.settings = instrument, settings
        self.scaling = InputScaling(instrument) if settings.input_scaling == "standard" else nn.Identity()
        self.coordinates: Coordinates | None = None  # what is lifted to the sphere; None: the labels themselves

    @property
    def dim(self) -> int:
        """Number of coordinates of an embedding."""
        return N_LABELS + 2 * (self.coordinates is not None) + (self.settings.lift > 0)

    def fit_scaling(self, flux: Tensor) -> None:
        """Fit the input scaling, if there is one, to training spectra."""
        if isinstance(self.scaling, InputScaling):
            self.scaling.fit(flux)

    def freeze_features(self) -> None:
        """Leave only the head to be trained, as MockStarCLIP does with its encoder of extended mock spectra."""
        self.features.requires_grad_(False)

    def check_shape(self, flux: Tensor) -> None:
        """Raise ValueError unless spectra have as many pixels as the instrument."""
        if flux.shape[1:] != (self.instrument.n_pix,):
            raise ValueError(
                f"{self.instrument.title} spectra must have shape (n, {self.instrument.n_pix}), not {tuple(flux.shape)}"
            )

    def forward(self, flux: Tensor) -> Tensor:
        """Z-scored labels (n, 20) of spectra (n, n_pix)."""
        self.check_shape(flux)
        return self.head(self.features(self.scaling(flux)))

    def embed(self, flux: Tensor) -> Tensor:
        """Embeddings of unit length."""
        return self.to_sphere(self(flux))

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
