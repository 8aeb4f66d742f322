"""Constants of nature in the units of this package: cgs, temperatures in K, wavelengths in Angstrom, energies in eV."""

import numpy as np
from scipy import constants as si

BOLTZMANN = si.k * 1e7  # erg/K
BOLTZMANN_EV = si.k / si.e  # eV/K
PLANCK = si.h * 1e7  # erg s
LIGHT = si.c * 100  # cm/s
ELECTRON_MASS = si.m_e * 1000  # g
ATOMIC_MASS = si.atomic_mass * 1000  # g
SECOND_RADIATION = si.h * si.c / si.k * 1e10  # h c / k, K Angstrom
HC_EV = si.h * si.c / si.e * 1e10  # eV Angstrom
# pi e^2 / (m c): the integrated cross-section of a classical oscillator, cm^2 Hz
OSCILLATOR = float(si.e**2 / (4 * si.epsilon_0 * si.m_e * si.c)) * 1e4
HYDROGEN_EV = 13.5984  # ionisation energy of hydrogen
LN10 = float(np.log(10))
