"""bridgejax: diffusion models and diffusion bridges in JAX.

One noun, the SDE, written as pure functions f(t, x, args); four verbs, and one way to learn.

    make    parameters -> SDE           noising(schedule), SDE(drift, diffusion)
    bend    SDE -> SDE                  reverse, probability_flow, pin, guide, constrain, doob, control, clamp, ...
    run     SDE, key, x0 -> x_T         simulate, simulate_path, simulate_batch, sample
    weigh   path, two kernels -> number path_log_ratio, log_weights, weights, log_prob
    learn   Method -> Process           fit, methods, load

A call sees one sample; ``vmap`` (or ``simulate_batch``) makes many. This file is the table of contents.
"""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
