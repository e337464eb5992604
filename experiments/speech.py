"""Speech enhancement: real prompts in babble and music, by a predictor, two diffusions and two bridges of one network.

    python experiments/speech.py --data FOLDER            all; results/speech.json
    python experiments/speech.py --only scores --data FOLDER --runs RUNS      the scores of enhancers that are there
    python experiments/speech.py --smoke                  seconds, synthetic voices, nothing written

FOLDER is where these Debian packages are unpacked (each by ``apt-get download NAME`` and ``dpkg-deb -x``):
asterisk-core-sounds-en-wav, -fr-wav, -it-wav, -ru-wav (prompts at 8 kHz, one speaker each) and
asterisk-moh-opsound-wav (music). Clean speech is the English speaker; the other three, six prompts at a time, are
babble. Silence, tones and doubles are left out, files are split before anything is cut from them (every eighth prompt
and every fifth of the other speakers' is held out), and so are tracks of music (the last fifth).

Every network is the same U-Net (``NetworkSize``, below); Adam, batches of 8 mixtures of half a second at -5 to 12 dB.
Scores are of held-out prompts of 2 seconds or more, each with babble or music at -3, 0, 3, 6 or 9 dB: narrow-band PESQ
(the whole signal, nothing padded), ESTOI and SI-SDR, mean and standard error over the files. What is compared is paired
by file. The published systems are a hundred times this size, at 16 kHz, trained for days.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from study import Study, Table, installed, record

STUDY = Study(
    "speech",
    topic="Applications",
    question="Does a diffusion or a bridge, in minutes on one core, make noisy speech better?",
    answer="A bridge does: with four evaluations or fewer its draws are better than the noisy sound by all three "
    "measures, and with one already better than those of SGMSE+ with thirty. The predictor of the same size is ahead "
    "of it; a bridge that starts at the predictor's estimate is, with two evaluations, ahead of the predictor in PESQ "
    "and a little behind in the others. SGMSE+ and StoRM, which start from noise, raise SI-SDR alone after so short a "
    "training, StoRM with six as much as SGMSE+ with fifteen. More steps make all of them worse here.",
    brief="A bridge does, with one evaluation more than SGMSE+ with thirty; a predictor of its size does too.",
    budget="30 minutes on one core, half of it training",
    source="StoRM, arXiv 2212.11851; published systems are at 16 kHz and of another size, none is quoted",
    tables=(
        Table(
            "gain in NB-PESQ",
            rows=("method", "against"),
            title="What is gained: NB-PESQ",
            text="Differences over the same files; evaluations of the network in brackets.",
            also=("s.e.", "n"),
        ),
        Table("gain in ESTOI", rows=("method", "against"), title="What is gained: ESTOI", also=("s.e.", "n")),
        Table("gain in SI-SDR", rows=("method", "against"), title="What is gained: SI-SDR, dB", also=("s.e.", "n")),
        Table("NB-PESQ", rows=("method", "evaluations"), title="Narrow-band PESQ", also=("s.e.", "n")),
        Table("ESTOI", rows=("method", "evaluations"), title="ESTOI", also=("s.e.", "n")),
        Table("SI-SDR", rows=("method", "evaluations"), title="SI-SDR, dB", also=("s.e.", "n")),
        Table(
            "processor time over that of the sound",
            rows=("method", "evaluations"),
            title="Processor seconds for a second of sound",
            text="Below 1 is faster than it is spoken; compilation not counted.",
        ),
        Table("training minutes", rows=("method",), title="Training, minutes of one core", also=("n",)),
    ),
    missed=(
        (
            {"method": "bridge (4)", "against": "predictor (1)"},
            "a network that must serve every noise level, after three minutes of training; the predictor serves one",
        ),
        ({"method": "bridge (16)"}, "more steps are worse after so short a training: four are better than sixteen"),
        ({"method": "sgmse (15)"}, "two minutes of training, from noise: more of the noise is left than in the bridge"),
        ({"method": "storm (16)"}, "three minutes of training, from noise; at fewer steps it is better"),
        ({"method": "bridge_storm (2)"}, "by a few thousandths of ESTOI; in PESQ it is ahead"),
        ({"method": "bridge_storm (5)"}, "more steps are worse after so short a training; see two"),
    ),
    timed=("part",),
)
RATE = 8000
PACKAGES = (*(f"asterisk-core-sounds-{code}-wav" for code in ("en", "fr", "it", "ru")), "asterisk-moh-opsound-wav")
VOICES = {"en": "en_US_f_Allison", "fr": "fr_CA_f_June", "it": "it_IT_m_Carlo", "ru": "ru_RU_f_IvrvoiceRU"}
TONES = ("beep", "tone", "confbridge", "silence", "ring")
SNRS = (-3, 0, 3, 6, 9)
SIZE: dict[str, Any] = {"width": 48, "multipliers": (1, 2, 2), "patch": (8, 2)}
UPDATES = {"predictor": 900, "bridge": 1200, "sgmse": 900, "storm": 600, "bridge_storm": 600}
STEPS = {"predictor": (1,), "bridge": (1, 4, 16), "sgmse": (5, 15, 30), "storm": (5, 15), "bridge_storm": (1, 4, 16)}
FILES = 20
METRICS = ("NB-PESQ", "ESTOI", "SI-SDR")


# data -----------------------------------------------------------------------------------------------------------------


def prompts(folder: pathlib.Path, voice: str) -> list[np.ndarray]:
    """A speaker's prompts in the order of their names, without silence, tones and doubles."""
    from bridgejax.applications.speech import read_wav

    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob(f"sounds/{voice}/**/*.wav")):
        named = str(path.relative_to(folder)).lower().split(voice.lower())[1]
        if any(word in named for word in TONES) or path.stat().st_size < 1000:  # one Russian prompt is empty
            continue
        wave, rate = read_wav(path)
        assert rate == RATE, path
        found.setdefault(hashlib.sha256(wave.tobytes()).hexdigest(), wave)
    if not found:
        raise FileNotFoundError(f"{folder} holds no prompts of {voice}: unpack {', '.join(PACKAGES)} there")
    return list(found.values())


def babble(voices: list[list[np.ndarray]], count: int, seconds: float, seed: int) -> list[np.ndarray]:
    """Six prompts at a time, two of each speaker, one after another until the time is full."""
    random, out = np.random.default_rng(seed), []
    for _ in range(count):
        total = np.zeros(int(seconds * RATE), np.float32)
        for voice in voices * 2:
            line = np.concatenate([voice[i] for i in random.permutation(len(voice))[:60]])
            total += np.resize(line[random.integers(len(line) // 2) :], len(total)) / np.sqrt(np.mean(line**2))
        out.append(total)
    return out


def pieces(wave: np.ndarray, seconds: float) -> list[np.ndarray]:
    """A track in pieces, those with sound."""
    length = int(seconds * RATE)
    cut = [wave[k : k + length] for k in range(0, len(wave) - length + 1, length)]
    return [piece for piece in cut if np.sqrt(np.mean(piece**2)) > 1e-3]


def synthetic(count: int, seconds: float, seed: int) -> list[np.ndarray]:
    """Voiced sounds: harmonics of a gliding pitch, under syllables; for the smoke run."""
    random, t = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    out = []
    for _ in range(count):
        pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.3, 1) * t))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        voice = sum(np.sin(k * phase + random.uniform(0, 6)) / k for k in range(1, 12))
        out.append((0.1 * voice * np.maximum(np.sin(2 * np.pi * random.uniform(2, 4) * t), 0)).astype(np.float32))
    return out


def sounds(options: Any) -> dict[str, Any] | None:
    """Clean and noise for training and for the test, split by file; None, with a sentence, without data."""
    from bridgejax.applications.speech import read_wav

    if options.smoke and options.data is None:
        clean, other = synthetic(6, 2.5, 0), [synthetic(4, 2.5, seed) for seed in (1, 2, 3)]
        noise = babble(other, 2, 5.0, 0)
        return {"clean": clean[2:], "noise": noise, "test": clean[:2], "babble": noise, "music": noise}
    if options.data is None or not options.data.is_dir():
        print(f"speech left out: unpack {', '.join(PACKAGES)} (apt-get download, dpkg-deb -x), give --data FOLDER")
        return None
    english = prompts(options.data, VOICES["en"])
    others = [prompts(options.data, VOICES[code]) for code in ("fr", "it", "ru")]
    tracks = [read_wav(path)[0] for path in sorted(options.data.rglob("moh/*.wav"))]
    begin = [int(0.8 * len(track)) for track in tracks]
    music = [p for track, b in zip(tracks, begin, strict=True) for p in pieces(track[:b], 15.0)]
    held = [p for track, b in zip(tracks, begin, strict=True) for p in pieces(track[b:], 15.0)]
    learnt = [[w for i, w in enumerate(voice) if i % 5] for voice in others]
    return {
        "clean": [w for i, w in enumerate(english) if i % 8],
        "noise": babble(learnt, len(music), 15.0, 1) + music,
        "test": [w for w in english[::8] if len(w) >= 2 * RATE],
        "babble": babble([voice[::5] for voice in others], 12, 15.0, 2),
        "music": held,
    }


def mixtures(data: dict[str, Any], count: int) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """``(noise, SNR, clean, noisy)`` of held-out files, the SNR that of the whole file."""
    random, out = np.random.default_rng(7), []
    for i in range(count):
        clean, kind = data["test"][i % len(data["test"])], ("babble", "music")[i % 2]
        snr, noise = SNRS[(i // 2) % len(SNRS)], data[kind][random.integers(len(data[kind]))]
        start = random.integers(max(len(noise) - len(clean), 1))
        noise = np.resize(noise[start:], len(clean))
        gain = np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
        noisy = clean + gain * noise
        level = min(0.9 / np.max(np.abs(noisy)), 1.0)
        out.append((kind, snr, level * clean, level * noisy))
    return out


# parts ----------------------------------------------------------------------------------------------------------------


def taught(options: Any) -> Iterator[dict[str, Any]]:
    """Train every method; what is in ``--runs`` already is left as it is."""
    import jax

    from bridgejax.applications.speech import NetworkSize, Settings, load_enhancer, save_enhancer, train_enhancer

    data = sounds(options)
    if data is None:
        return
    size = NetworkSize(width=8, multipliers=(1, 2), patch=(8, 2)) if options.smoke else NetworkSize(**SIZE)
    predictor = None
    for name, updates in UPDATES.items():
        folder = options.runs / name
        if (folder / "enhancer.json").exists():
            predictor = load_enhancer(folder) if name == "predictor" else predictor
            continue
        began, spent = time.perf_counter(), time.process_time()
        guide = predictor if name in ("storm", "bridge_storm") else None
        enhancer = train_enhancer(
            data["clean"],
            data["noise"],
            jax.random.key(0),
            settings=Settings(name, size=size),
            steps=2 if options.smoke else updates,
            snr=(-5.0, 12.0),
            predictor=guide,
            rate=1.5e-3,
            callbacks=(lambda info: print(info.step, round(info.metrics["loss"], 4), flush=True),),
        )
        save_enhancer(folder, enhancer)
        predictor = enhancer if name == "predictor" else predictor
        yield record(
            "training minutes",
            (time.process_time() - spent) / 60,
            {"method": name},
            n=2 if options.smoke else updates,
            began=began,
        )


def measured(clean: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """NB-PESQ, ESTOI, SI-SDR; the clean one comes first in all three."""
    from pesq import pesq
    from pystoi import stoi

    from bridgejax.applications.speech import si_sdr

    return float(pesq(RATE, clean, found, "nb")), float(stoi(clean, found, RATE, extended=True)), si_sdr(clean, found)


def scored(name: str, evaluations: int, rows: list[tuple[float, ...]], began: float) -> Iterator[dict[str, Any]]:
    """A record of each metric, with every file's value."""
    for metric, values in zip(METRICS, np.transpose(rows), strict=True):
        error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
        case = {"method": name, "evaluations": evaluations}
        spread = [round(float(v), 4) for v in values]
        yield record(metric, np.mean(values), case, spread=spread, n=len(values), began=began, **{"s.e.": error})


def scores(options: Any) -> Iterator[dict[str, Any]]:
    """Held-out mixtures through every enhancer that is there, and as they are."""
    from bridgejax.applications.speech import enhance, load_enhancer

    data = sounds(options)
    if data is None or not installed("scores", "pip install pesq pystoi", "pesq", "pystoi"):
        return
    mixed = mixtures(data, 2 if options.smoke else FILES)
    if not options.methods or "noisy" in options.methods:
        yield from scored("noisy", 0, [measured(clean, noisy) for *_, clean, noisy in mixed], time.perf_counter())
    for name, counts in STEPS.items():
        if (options.methods and name not in options.methods) or not (options.runs / name / "enhancer.json").exists():
            continue
        enhancer = load_enhancer(options.runs / name)
        for steps in counts[:1] if options.smoke else counts:
            began, rows = time.perf_counter(), []
            for *_, clean, noisy in mixed:
                rows.append(measured(clean, enhance(enhancer, noisy, RATE, steps=steps)))
            yield from scored(name, steps + (enhancer.predictor is not None), rows, began)


def speed(options: Any) -> Iterator[dict[str, Any]]:
    """Processor seconds for a second of sound, the least of three runs over ten seconds, after one that compiles."""
    from bridgejax.applications.speech import enhance, load_enhancer

    wave = np.concatenate(synthetic(4, 2.5, 0))
    for name, counts in STEPS.items():
        if not (options.runs / name / "enhancer.json").exists():
            continue
        enhancer = load_enhancer(options.runs / name)
        for steps in counts[:1] if options.smoke else counts:
            took = []
            for _ in range(2 if options.smoke else 4):
                began = time.process_time()
                enhance(enhancer, wave, RATE, steps=steps)
                took.append((time.process_time() - began) * RATE / len(wave))
            evaluations, least = steps + (enhancer.predictor is not None), min(took[1:])
            bar = {"bar": "below 1", "met": least < 1.0} if evaluations in (4, 5) else {}
            yield record(
                "processor time over that of the sound", least, {"method": name, "evaluations": evaluations}, **bar
            )


def verdicts(options: Any) -> Iterator[dict[str, Any]]:
    """The bars: differences over the same files, and their standard errors."""
    kept = [r for r in options.kept if r["part"] == "scores"]
    found = {(r["case"]["method"], r["case"]["evaluations"], r["metric"]): np.array(r["spread"]) for r in kept}
    plans = [("bridge", n, "noisy", 0, "above 0") for n in (1, 4, 16)]
    plans += [("bridge", 4, "predictor", 1, "not below"), ("bridge_storm", 5, "noisy", 0, "above 0")]
    plans += [("bridge_storm", n, "predictor", 1, "not below") for n in (2, 5)]
    plans += [("sgmse", 15, "noisy", 0, "above 0"), ("storm", 16, "noisy", 0, "above 0")]
    plans += [("storm", 16, "predictor", 1, "not below"), ("storm", 6, "sgmse", 15, "not below")]
    plans += [("storm", 16, "sgmse", 30, "not below"), *(("bridge", n, "sgmse", 30, "not below") for n in (1, 4))]
    for one, n, other, m, wanted in plans:
        for metric in METRICS:
            if (one, n, metric) not in found or (other, m, metric) not in found:
                continue
            gap = found[one, n, metric] - found[other, m, metric]
            mean, error = float(np.mean(gap)), float(np.std(gap, ddof=1) / np.sqrt(len(gap)))
            judged = not (other == "predictor" and metric == "SI-SDR")  # the bar is on PESQ and ESTOI
            met = mean > 0.0 if wanted == "above 0" else mean > -2.0 * error
            bar = "above 0" if wanted == "above 0" else "not below 0 by 2 s.e."
            judgement = {"bar": bar, "met": met} if judged else {}
            case = {"method": f"{one} ({n})", "against": f"{other} ({m})"}
            yield record(f"gain in {metric}", mean, case, n=len(gap), **judgement, **{"s.e.": error})


def folders(parser: argparse.ArgumentParser) -> None:
    """The script's own options."""
    parser.add_argument("--data", type=pathlib.Path, help="where the packages are unpacked")
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/speech"), help="trained enhancers")
    parser.add_argument("--methods", nargs="+", choices=("noisy", *UPDATES), help="score these only")


if __name__ == "__main__":
    parts = {"training": taught, "scores": scores, "speed": speed, "verdicts": verdicts}
    STUDY.run(__doc__, parts, folders)
