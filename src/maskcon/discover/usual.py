"""What is usual: the prior of `sameness`, from made sets and digits (benchmarks/discovery.py)."""

import numpy as np

from maskcon.discover.sameness import Prior

USUAL = Prior(
    mean=np.array((1.868, -0.971, -0.033, -0.813, -0.589, -2.024, -0.977, -0.031, 1.948)),
    std=np.array((0.860, 0.536, 0.234, 1.079, 0.339, 0.831, 0.481, 0.131, 0.793)),
    slope=np.array((0.098, -0.115, -0.073, -0.801, 1.473, 0.696, 0.118, 0.245, 0.722)),
    intercept=-3.503,
)
