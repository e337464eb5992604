"""Evolutionary multi-objective search in pymoo: where better populations lie, learnt from runs of evolution.

    runs of any algorithm, as populations that correspond       record, Evolution
    problems whose optima have moved, exact fronts              problems
    train a diffusion of each variable, given what an           train_evolver, Evolver
    evaluated population tells of it
    use      minimize(problem, EmoDM(evolver), ("n_eval", 300))  EmoDM

(After Yan & Jin 2024, EmoDM: a diffusion model for evolutionary multi-objective optimization, arXiv 2401.15931, whose
own form is ``train_evolver(form="entropy")``; conditions on the evaluated population are ours.)
"""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
