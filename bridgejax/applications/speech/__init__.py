"""Speech enhancement: a wave with noise in, a cleaner one out, by diffusions and bridges on its spectrogram.

    codec     waves to complex images with compressed magnitudes, and back      Codec
    process   noise about a centre (SGMSE+, StoRM): ouve, about_centre; a bridge from it: exploding, bridge_from
    train     from clean waves and noise, mixed anew in every batch             Settings, NetworkSize, train_enhancer
    use       any length, rate and number of channels                           enhance, save_enhancer, load_enhancer
    files     wav files of 8 to 32 bit                                          read_wav, write_wav
    measure   scale-invariant signal-to-distortion ratio                        si_sdr

(Richter, Welker, Lemercier, Lay & Gerkmann 2023, Speech enhancement and dereverberation with diffusion-based generative
models, arXiv 2208.05830; Lemercier, Richter, Welker & Gerkmann 2023, StoRM: a diffusion-based stochastic regeneration
model for speech enhancement and dereverberation, arXiv 2212.11851.)
"""

import lazy_loader

# the table of contents is __init__.pyi; a name is imported when it is first used
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
