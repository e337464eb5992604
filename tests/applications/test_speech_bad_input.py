"""Bad input to speech enhancement: an error of one sentence that names the argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bad_input import COUNT, FUNCTION, POINTS, POSITIVE, arguments, refuse_wrong

from bridgejax.applications.speech import (
    Codec,
    Enhancer,
    NetworkSize,
    Settings,
    about_centre,
    bridge_from,
    enhance,
    exploding,
    ouve,
    save_enhancer,
    si_sdr,
    train_enhancer,
    write_wav,
)
from bridgejax.applications.speech._enhancer import Spread
from bridgejax.applications.speech._network import network

SETTINGS = Settings("predictor", 1000, Codec(32, 8), NetworkSize(4, (1,), patch=(1, 2)), 16)
ENHANCER = Enhancer(SETTINGS, network(SETTINGS.size, 1, 17, 16).params, Spread(*[jnp.ones(())] * 5))
WAVE = np.sin(np.arange(200) / 5.0).astype(np.float32)


def train(clean, noise, **options):
    return train_enhancer([clean], [noise], **{"key": jax.random.key(0), "settings": SETTINGS, "crop": 4, **options})


TABLE = {
    "Codec": (
        Codec,
        dict(size=32, hop=8, exponent=0.5, factor=0.3),
        {"size": COUNT, "hop": COUNT, "exponent": POSITIVE, "factor": POSITIVE},
    ),
    "Codec.encode": (Codec(32, 8).encode, dict(wave=WAVE), {"wave": ("none", "text", "objects", "complex")}),
    "Codec.decode": (
        Codec(32, 8).decode,
        dict(image=np.zeros((17, 26, 2)), num=200),
        {"image": ("none", "text", "objects", "complex", "missing axis"), "num": COUNT},
    ),
    "NetworkSize": (
        NetworkSize,
        dict(width=4, multipliers=(1,), blocks=1, attention=0),
        {"width": COUNT, "multipliers": ("none", "text"), "blocks": COUNT, "attention": ("none", "text", "count")},
    ),
    "Settings": (
        Settings,
        dict(method="bridge", rate=8000, frames=128),
        {"method": ("word",), "rate": COUNT, "frames": COUNT},
    ),
    "ouve": (
        ouve,
        dict(gamma=1.5, sigma_min=0.05, sigma_max=0.5),
        {"gamma": POSITIVE, "sigma_min": POSITIVE, "sigma_max": POSITIVE},
    ),
    "exploding": (exploding, dict(c=0.4, k=2.6), {"c": POSITIVE, "k": POSITIVE}),
    "about_centre": (
        about_centre,
        dict(schedule=ouve(), denoiser=lambda t, x, args: x, steps=3, sampler="sde"),
        {"schedule": ("other",), "denoiser": FUNCTION, "steps": COUNT, "sampler": ("word",)},
    ),
    "bridge_from": (
        bridge_from,
        dict(schedule=exploding(), denoiser=lambda t, x, args: x, steps=3),
        {"schedule": ("other",), "denoiser": FUNCTION, "steps": COUNT},
    ),
    "enhance": (
        enhance,
        dict(enhancer=ENHANCER, waveform=WAVE, rate=1000, steps=1, sampler="sde", seed=0),
        {
            "enhancer": ("other",),
            "waveform": POINTS,
            "rate": ("none", "text", "count", "zero count"),
            "steps": ("text", "count", "zero count"),
            "sampler": ("word",),
            "seed": ("none", "text", "count"),
        },
    ),
    "train_enhancer": (
        train,
        dict(clean=WAVE, noise=WAVE, steps=1, batch_size=1, rate=1e-3, snr=(0.0, 5.0)),
        {"clean": POINTS, "noise": POINTS, "snr": ("none", "text")},
    ),
    "si_sdr": (si_sdr, dict(clean=WAVE, estimate=WAVE), {"clean": POINTS, "estimate": POINTS}),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_right_call_is_right(name):
    function, right, _ = TABLE[name]
    function(**right)


@pytest.mark.parametrize(("name", "argument"), arguments(TABLE))
def test_wrong_arguments_cost_one_sentence(name, argument):
    refuse_wrong(TABLE[name], argument)


def test_waves_that_are_empty_or_whole_numbers():
    for wave, said in (
        (np.zeros(0), r"^waveform is empty; give at least one sample$"),
        (np.zeros((5, 0)), r"^waveform is empty"),
        (np.zeros(5, np.int16), r"^waveform holds whole numbers \(int16\); divide by its full scale"),
        (np.zeros((2, 2, 2)), r"^waveform must be an array \(n,\) or \(n, channels\)"),
    ):
        with pytest.raises(ValueError, match=said):
            enhance(ENHANCER, wave, 1000)
    with pytest.raises(ValueError, match=r"^bits must be 16 or 24, got 8$"):
        write_wav("never.wav", WAVE, 8000, bits=8)
    with pytest.raises(ValueError, match=r"^enhancer must be an Enhancer"):
        save_enhancer("never", 3)
    with pytest.raises(ValueError, match=r"^patch \(4, 2\) must divide the 129 bins and 128 frames"):
        Settings(codec=Codec(256, 64))
