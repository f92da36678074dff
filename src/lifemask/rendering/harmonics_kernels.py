"""Real spherical harmonics in numba kernels, in the order of `geometry.lighting`."""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering.jit import kernel

C0 = 0.5 / np.sqrt(np.pi)
"""Factor of 1."""
C1 = np.sqrt(3 / (4 * np.pi))
"""Factor of y, z and x."""
C2 = np.sqrt(15 / (4 * np.pi))
"""Factor of xy, yz and xz."""
C20 = np.sqrt(5 / (16 * np.pi))
"""Factor of 3z² - 1."""
C22 = np.sqrt(15 / (16 * np.pi))
"""Factor of x² - y²."""


@kernel()
def fill_harmonics(x, y, z, basis):
    """Write the nine harmonics of a unit vector in light axes."""
    basis[0] = C0
    basis[1] = C1 * y
    basis[2] = C1 * z
    basis[3] = C1 * x
    basis[4] = C2 * x * y
    basis[5] = C2 * y * z
    basis[6] = C20 * (3 * z * z - 1)
    basis[7] = C2 * x * z
    basis[8] = C22 * (x * x - y * y)
