"""How close a wave is to the clean one."""

from __future__ import annotations

import numpy as np

from bridgejax.applications.speech._waves import check_wave


def si_sdr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio, in decibels.

        10 log10( |a x|^2 / |x_hat - a x|^2 ),      a = <x_hat, x> / |x|^2

    Means are not taken out. (Le Roux, Wisdom, Erdogan & Hershey 2019, SDR: half-baked or well done?, arXiv 1811.02508.)

    Args:
        clean: (n,), the reference x.
        estimate: (n,), x_hat.

    Returns:
        Decibels; inf for a multiple of x, -inf for what is orthogonal to it or silent.

    Raises:
        ValueError: waves of different lengths, or a silent reference.

    Example:
        >>> import numpy as np
        >>> from bridgejax.applications.speech import si_sdr
        >>> print(round(si_sdr(np.array([1.0, 0.0]), np.array([3.0, 0.3])), 6))          # 10 log10(100)
        20.0
    """
    x, y = (check_wave(w, n, channels=False).astype(np.float64) for w, n in ((clean, "clean"), (estimate, "estimate")))
    if len(x) != len(y):
        raise ValueError(f"clean and estimate must have one length, got {len(x)} and {len(y)} samples")
    if not np.any(x):
        raise ValueError("clean is silent: nothing to compare with")
    aligned = (x @ y) / (x @ x) * x
    signal, error = float(aligned @ aligned), float((y - aligned) @ (y - aligned))
    if signal == 0.0:
        return -np.inf
    return np.inf if error == 0.0 else float(10.0 * np.log10(signal / error))
