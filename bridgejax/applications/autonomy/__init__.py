"""Shared autonomy: a copilot that has seen demonstrations corrects the actions of a pilot who alone knows the goal.

    demonstrations   states without the goal, actions            Demonstrations, demonstrate
    train            diffusion over rows (state, action)         train_copilot
    assist           noise the pilot's action up to gamma,       Copilot
                     denoise it given the state
    use              a wrapper of gymnasium's environments       SharedAutonomy, VectorSharedAutonomy
    measure          pilots that err in known ways, episodes     pilots, fly, lunar

(Yoneda, Sun, Yang, Stadie & Walter 2023, To the Noise and Back: diffusion for shared autonomy, arXiv 2302.12244.)
"""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
