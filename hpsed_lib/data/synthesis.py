"""Parametric sound models of the 17 classes of DCASE 2017 Task 4, after the physics of each source.

Conventions
-----------
- Waveforms ``y`` are (samples,), mono; ``sr`` and frequencies are in Hz, times and durations in seconds, speeds in m/s,
  distances in m. Inside this module they are float64 and of any level; `synthesize` returns float32 with its peak at
  1: the mixer sets the level.
- A model draws all its parameters, evenly over the ranges that its docstring states, from the generator that it is
  given: the same seed gives the same waveform.
- A model is told the length it has to fill, so that it can place whole blasts, beeps or gear changes in it. What
  repeats may start anywhere in its cycle, but sounds from the first moment on.
- No partial and no resonance lies above 0.45 ``sr``, and no pulse is sharp enough to reach there; noise rolls off.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, signal

from hpsed_lib.errors import ParameterError

Array = NDArray[np.float64]
Span = tuple[float, float]  # from, to: of a time, or of what is drawn
Mode = tuple[float, float, float]  # a resonance; see `_resonate` and `_ring`

SPEED_OF_SOUND = 343.0  # m/s
PASSBAND = 0.45  # share of the sample rate that may sound
FADE = 0.01  # seconds, at either end of an event


# Building blocks: noise, oscillators, filters, envelopes, impacts, space


def _shaped_noise(n_samples: int, gain: Callable[[Array], Array], rng: np.random.Generator) -> Array:
    """Gaussian noise of unit RMS, its magnitude spectrum shaped by ``gain`` of the frequency in cycles per sample."""
    length = fft.next_fast_len(n_samples, real=True)
    frequency = np.arange(1, length // 2 + 1) / length
    bins = rng.standard_normal(2 * frequency.size, dtype=np.float32).view(np.complex64)
    shape = gain(frequency)
    spectrum = np.concatenate([[0.0], bins * (shape / shape.max())]).astype(np.complex64)
    y = fft.irfft(spectrum, n=length)[:n_samples].astype(np.float64)
    return y / math.sqrt(np.mean(y**2))


def colored_noise(n_samples: int, *, exponent: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise whose power spectrum falls as a power of the frequency.

    Parameters
    ----------
    n_samples : int
        Length, in samples; 2 at least.
    exponent : float
        0 is white, 1 pink, 2 brown noise.
    rng : np.random.Generator
        Source of every draw.

    Returns
    -------
    np.ndarray, shape (n_samples,), float32
        Noise with power spectrum ``1 / f ** exponent`` and unit RMS.

    Raises
    ------
    ParameterError
        Fewer than two samples, or an exponent that is not finite.

    Examples
    --------
    >>> y = colored_noise(16000, exponent=1.0, rng=np.random.default_rng(0))
    >>> y.shape, y.dtype, round(float(np.sqrt(np.mean(y**2))), 3)
    ((16000,), dtype('float32'), 1.0)
    """
    if n_samples < 2:
        raise ParameterError(f"n_samples must be 2 or more; got {n_samples}")
    if not math.isfinite(exponent):
        raise ParameterError(f"exponent must be finite; got {exponent}")
    return _shaped_noise(n_samples, lambda f: f ** (-exponent / 2), rng).astype(np.float32)


def _noise(
    n_samples: int, sr: int, rng: np.random.Generator, low: float, high: float, *, exponent: float = 0.0
) -> Array:
    """Noise of unit RMS between two frequencies (Hz; 12 dB per octave beyond), coloured in between."""
    low, high = low / sr, min(high / sr, PASSBAND)

    def gain(f: Array) -> Array:
        band = 1 / np.sqrt((1 + np.square(np.square(low / f))) * (1 + np.square(np.square(f / high))))
        return band * f ** (-exponent / 2) if exponent else band

    return _shaped_noise(n_samples, gain, rng)


def _wander(n_samples: int, sr: int, rng: np.random.Generator, rate: float) -> Array:
    """Random walk-about of standard deviation 1 that turns ``rate`` times a second."""
    knots = rng.standard_normal(math.ceil(n_samples / sr * rate) + 2)
    return np.interp(np.arange(n_samples) / sr * rate, np.arange(knots.size), knots)


def _tone(
    frequency: Array,
    sr: int,
    *,
    n_partials: int = 16,
    tilt: float = 1.0,
    even: float = 1.0,
    brightness: Array | float = 1.0,
    start: float = 0.0,
) -> Array:
    """Harmonic tone along an instantaneous frequency; partial k has amplitude ``k ** -tilt * brightness ** (k - 1)``.

    The even partials are further scaled by ``even`` (0 gives a square wave's spectrum); ``start`` is a phase in cycles.
    """
    cycles = 2 * np.pi * ((np.cumsum(frequency) / sr + start) % 1.0).astype(np.float32)
    partial = np.cos(cycles) + 1j * np.sin(cycles)  # its powers are the partials: far cheaper than a sine for each
    step = partial * np.asarray(brightness, dtype=np.float32)
    top, lowest, highest = PASSBAND * sr, frequency.min(), frequency.max()
    y = np.zeros(frequency.size)
    for k in range(1, n_partials + 1):
        if k * lowest > top:
            break
        amplitude = k**-tilt * (even if k % 2 == 0 else 1.0)
        leaves = k * highest > 0.9 * top  # the partial may leave the pass band on its way: fade it out
        y += amplitude * (np.clip((top - k * frequency) / (0.1 * top), 0, 1) if leaves else 1.0) * partial.imag
        partial = partial * step
    return y


def _pulses(phase: Array, places: ArrayLike, strengths: ArrayLike, sr: int, *, width: float) -> Array:
    """Smooth pulses, ``width`` seconds across, one for each of ``places`` in every cycle of ``phase`` (in cycles)."""
    frequency = np.maximum(np.gradient(phase) * sr, 1e-3)
    deviation = max(width / 2, 1.1 / sr)  # narrower ones would alias
    sharpness = np.maximum((2 * np.pi * deviation * frequency) ** -2.0, 0.5).astype(np.float32)
    y = np.zeros(phase.size)
    for place, strength in np.broadcast(places, strengths):
        y += strength * np.exp(sharpness * (np.cos(2 * np.pi * ((phase - place) % 1.0).astype(np.float32)) - 1))
    return y


def _draw(rng: np.random.Generator, *modes: tuple[float, float, float, float]) -> list[Mode]:
    """Resonances (frequency, width or decay, gain), each frequency drawn between the first two of its four numbers."""
    return [(rng.uniform(low, high), extent, gain) for low, high, extent, gain in modes]


def _resonate(y: Array, sr: int, modes: Sequence[Mode], *, dry: float = 0.0) -> Array:
    """Parallel resonators (frequency and bandwidth in Hz, gain), beside ``dry`` times the input."""
    wet = dry * y
    for frequency, bandwidth, gain in modes:
        if frequency < PASSBAND * sr:
            b, a = signal.iirpeak(frequency, frequency / bandwidth, fs=sr)
            wet = wet + gain * signal.lfilter(b, a, y)
    return wet


def _gate(t: Array, spans: Sequence[Span], *, attack: float, release: float) -> Array:
    """Envelope that rises to 1 after each onset and is back at 0 at each offset, with raised-cosine edges (seconds)."""
    level = np.zeros(t.size)
    for onset, offset in spans:
        inside = slice(*np.searchsorted(t, [onset, offset]))
        ramp = np.minimum((t[inside] - onset) / attack, (offset - t[inside]) / release)
        level[inside] = 0.5 - 0.5 * np.cos(np.pi * np.clip(ramp, 0, 1))
    return level


def _alternate(duration: float, rng: np.random.Generator, on: Span, off: Span) -> list[Span]:
    """Spans of sound that fill a duration: each lasts within ``on``, the pauses between them within ``off`` seconds."""
    spans: list[Span] = []
    onset = 0.0
    while onset < duration:
        offset = onset + rng.uniform(*on)
        pause = rng.uniform(*off)
        if offset + pause + on[0] > duration:  # no room for another: hold this one to the end
            offset = duration
        spans.append((onset, offset))
        onset = offset + pause
    return spans


def _beat(duration: float, rate: float, duty: float) -> list[Span]:
    """Spans of sound that begin ``rate`` times a second and last the share ``duty`` of that."""
    return [(k / rate, (k + duty) / rate) for k in range(math.ceil(duration * rate))]


def _sweep(cycle: Array, low: Array | float, high: Array | float, *, rise: Array | float, bend: float = 2.5) -> Array:
    """Frequency that rises from low to high in the share ``rise`` of each cycle and falls back, as a capacitor does."""
    u = cycle % 1.0
    rising = u < rise
    charge = np.expm1(-bend * np.where(rising, u / rise, (u - rise) / (1 - rise))) / math.expm1(-bend)
    return low * np.exp(np.log(high / low) * np.where(rising, charge, 1 - charge))


def _ring(sr: int, rng: np.random.Generator, modes: Sequence[Mode], *, click: float = 0.0) -> Array:
    """Impulse response of a struck body: modes (frequency in Hz, decay time in s, amplitude), and a click of noise."""
    t = np.arange(math.ceil(5 * max(decay for _, decay, _ in modes) * sr)) / sr
    y = click * np.exp(-t / 0.004) * _noise(t.size, sr, rng, 400, 5000)
    for frequency, decay, amplitude in modes:
        if frequency < PASSBAND * sr:
            y += amplitude * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t)
    return y


def _strike(n_samples: int, sr: int, times: ArrayLike, strengths: ArrayLike, body: Array) -> Array:
    """The body's impulse response, once for each time (s), at the strength given."""
    place = np.rint(np.asarray(times) * sr).astype(int)
    strengths = np.broadcast_to(np.asarray(strengths, dtype=float), place.shape)
    inside = (place >= 0) & (place < n_samples)
    impulses = np.zeros(n_samples)
    np.add.at(impulses, place[inside], strengths[inside])
    return np.asarray(signal.oaconvolve(impulses, body)[:n_samples])


def _passage(t: Array, *, speed: float, distance: float, closest: float) -> tuple[Array, Array]:
    """When what is heard at ``t`` was emitted, and how far off, by a source that passes at ``distance`` at ``closest``.

    Solves ``t = s + sqrt(distance ** 2 + (speed * s) ** 2) / c`` for the emission ``s``, both counted from ``closest``.
    """
    c, heard = SPEED_OF_SOUND, t - closest
    root = np.sqrt((c * speed * heard) ** 2 + (c**2 - speed**2) * distance**2)
    emitted = (c**2 * heard - root) / (c**2 - speed**2)
    return emitted + closest, c * (heard - emitted)


def _drive_by(t: Array, sr: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Doppler factor and relative level of a siren: half stand still, half pass at 8 to 22 m/s, 8 to 25 m away."""
    moving = rng.random() < 0.5
    speed, distance, closest = rng.uniform(8, 22), rng.uniform(8, 25), rng.uniform(-0.2, 1.2) * t[-1]
    if not moving:
        return np.ones(t.size), np.ones(t.size)
    emitted, path = _passage(t, speed=speed, distance=distance, closest=closest)
    return np.gradient(emitted) * sr, np.sqrt(path.min() / path)  # milder than 1 / r: it has to stay audible


def _outdoors(y: Array, sr: int, rng: np.random.Generator) -> Array:
    """Open-air reverberation: a tail 30 to 18 dB below the direct sound, dying away (by 60 dB) in 0.5 to 1.5 s."""
    decay, level = rng.uniform(0.5, 1.5), 10 ** (rng.uniform(-30, -18) / 20)
    t = np.arange(int(0.5 * decay * sr)) / sr
    tail = _noise(t.size, sr, rng, 150, 3000) * 10 ** (-3 * t / decay)
    tail[: int(0.01 * sr)] = 0.0
    tail *= level / np.linalg.norm(tail)
    tail[0] = 1.0
    return np.asarray(signal.oaconvolve(y, tail)[: y.size])


# Sirens


def _electronic_siren(frequency: Array, sr: int, rng: np.random.Generator) -> Array:
    """Square-like wave through a horn loudspeaker: resonances at 0.9 to 1.3 and 2.1 to 3 kHz."""
    y = _tone(frequency, sr, n_partials=12, tilt=rng.uniform(0.8, 1.2), even=rng.uniform(0.15, 0.5))
    return _resonate(y, sr, _draw(rng, (900, 1300, 700, 1.0), (2100, 3000, 900, 0.8)), dry=0.15)


def ambulance(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Ambulance: an electronic siren that may drive past, hi-lo (7 in 10) or a smooth wail.

    Hi-lo: lower note 400 to 600 Hz, upper one 3 to 7 semitones above, 0.7 to 1.2 cycles a second, 8 ms glides. Wail:
    550 to 750 up to 1200 to 1500 Hz and back, as long up as down, 0.3 to 0.5 cycles a second.
    """
    t = np.arange(n_samples) / sr
    doppler, level = _drive_by(t, sr, rng)
    if rng.random() < 0.7:
        low, interval, rate = rng.uniform(400, 600), rng.uniform(3, 7), rng.uniform(0.7, 1.2)
        square = np.clip(np.sin(2 * np.pi * (rate * t + rng.random())) / (np.pi * rate * 0.008), -1, 1)
        frequency = low * 2 ** (interval / 12 * (square + 1) / 2)
    else:
        cycle = rng.uniform(0.3, 0.5) * t + rng.random()
        frequency = _sweep(cycle, rng.uniform(550, 750), rng.uniform(1200, 1500), rise=0.5, bend=0.5)
    return level * _electronic_siren(frequency * doppler, sr, rng)


def police_car(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Police car: an electronic siren that may drive past, at yelp or (1 in 3) switched from wail to yelp.

    Yelp: 600 to 750 up to 1300 to 1600 Hz, 3 to 5 cycles a second. Wail: the same range, 0.2 to 0.35 cycles a second,
    70 % of the time up, for the first 20 to 50 % of the event.
    """
    t = np.arange(n_samples) / sr
    doppler, level = _drive_by(t, sr, rng)
    low, high = rng.uniform(600, 750), rng.uniform(1300, 1600)
    frequency = _sweep(rng.uniform(3, 5) * t + rng.random(), low, high, rise=rng.uniform(0.4, 0.6))
    if rng.random() < 1 / 3:
        until = int(rng.uniform(0.2, 0.5) * n_samples)
        frequency[:until] = _sweep(rng.uniform(0.2, 0.35) * t[:until] + rng.random(), low, high, rise=0.7)
    return level * _electronic_siren(frequency * doppler, sr, rng)


def fire_engine(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Fire engine: a mechanical siren wound up and coasting down, with air-horn blasts over it (6 in 10).

    Rotor: 250 to 400 up to 800 to 1100 Hz, 0.1 to 0.2 cycles a second, 35 to 50 % of it up; louder as it turns faster.
    Horn: two notes, 230 to 330 Hz and 3.5 to 4.5 semitones above, blasts of 0.4 to 1.2 s, 0.3 to 1.5 s apart.
    """
    t = np.arange(n_samples) / sr
    doppler, level = _drive_by(t, sr, rng)
    low, high = rng.uniform(250, 400), rng.uniform(800, 1100)
    cycle = rng.uniform(0.1, 0.2) * t + rng.uniform(0.03, 0.45)
    rotor = _sweep(cycle, low, high, rise=rng.uniform(0.35, 0.5)) * (1 + 0.002 * _wander(n_samples, sr, rng, 9.0))
    siren = _tone(rotor * doppler, sr, n_partials=20, tilt=0.7, even=rng.uniform(0.7, 1.0))
    siren = _resonate(siren, sr, _draw(rng, (700, 1000, 900, 1.0), (1800, 2600, 1200, 0.7)), dry=0.25)
    siren = rotor / high * (siren + 0.05 * _noise(n_samples, sr, rng, 600, 4000))
    if rng.random() < 0.6:
        pause = rng.uniform(0.0, 0.3) * t[-1]
        blasts = [(pause + on, pause + off) for on, off in _alternate(t[-1], rng, (0.4, 1.2), (0.3, 1.5))]
        root = rng.uniform(230, 330)
        notes = [root, root * 2 ** (rng.uniform(3.5, 4.5) / 12)]
        horn = _horn(t, sr, rng, notes, blasts, attack=0.03, release=0.08, brightness=0.85)
        siren += rng.uniform(0.8, 1.4) * np.std(siren) / np.std(horn) * horn
    return level * siren


def civil_defense(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Civil defence: a rotor with two rows of ports sounds a chord, wound up and then held (half) or wailing slowly.

    Ports 8:10, 9:12 or 10:12; upper row 480 to 720 Hz at full speed. Held: winds up from 50 to 70 % of it with a time
    constant of 0.8 to 1.5 s. Wail: between 55 to 70 % and full speed, a cycle in 7 to 11 s. The head turns once in 4 to
    9 s, 3 to 8 dB up and down; distance takes the highs, above 1.2 to 2.5 kHz.
    """
    t = np.arange(n_samples) / sr
    if rng.random() < 0.5:
        speed = 1 - rng.uniform(0.3, 0.5) * np.exp(-t / rng.uniform(0.8, 1.5))
    else:
        speed = _sweep(t / rng.uniform(7, 11) + rng.uniform(0, 0.3), rng.uniform(0.55, 0.7), 1.0, rise=0.45, bend=1.5)
    upper = rng.uniform(480, 720) * speed * (1 + 0.001 * _wander(n_samples, sr, rng, 3.0))
    lower = (8 / 10, 9 / 12, 10 / 12)[rng.integers(3)] * upper
    rows = sum(_tone(f, sr, n_partials=12, tilt=1.1, even=0.8, start=rng.random()) for f in (upper, lower))
    turning = np.sin(2 * np.pi * (t / rng.uniform(4, 9) + rng.random()))
    b, a = signal.butter(1, rng.uniform(1200, 2500), fs=sr)
    return speed * 10 ** (rng.uniform(1.5, 4) * turning / 20) * signal.lfilter(b, a, rows)


# Horns, alarms, beeps


def _horn(
    t: Array,
    sr: int,
    rng: np.random.Generator,
    notes: Sequence[float],
    blasts: Sequence[Span],
    *,
    attack: float,
    release: float,
    brightness: float,
    scoop: float = 0.02,
) -> Array:
    """Air-driven horns, one for each note: pitch (by ``scoop``) and brightness follow the pressure; some breath."""
    y = 0.04 * _noise(t.size, sr, rng, 800, 5000) * _gate(t, blasts, attack=attack / 2, release=release)
    for note in notes:
        pressure = _gate(t, blasts, attack=attack * rng.uniform(0.8, 1.3), release=release * rng.uniform(0.8, 1.2))
        detune = 1 + 0.004 * rng.standard_normal() + 0.001 * _wander(t.size, sr, rng, 6.0)
        frequency = note * detune * (1 - scoop * (1 - pressure))
        bright = brightness * (0.75 + 0.25 * pressure)
        tone = _tone(frequency, sr, n_partials=24, tilt=0.3, brightness=bright, start=rng.random())
        y += pressure / len(notes) * tone
    return y


TRAIN_HORN_CHORDS = ((0, 3, 5, 8, 12), (0, 3, 7, 9, 12), (0, 4, 7, 9, 12))
"""Five-chime train horns, in semitones above the lowest chime: a B major sixth, a minor and a major sixth."""


def train_horn(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Train horn: a chord of 3 to 5 chimes with a slow attack.

    Lowest chime 260 to 330 Hz, each detuned (standard deviation 7 cents); blasts of 0.8 to 3 s, 0.3 to 0.7 s apart;
    attack 80 to 180 ms, in which the pitch rises by 3 %, release 200 to 350 ms; resonances at 700 to 1000 and 1700 to
    2400 Hz.
    """
    t = np.arange(n_samples) / sr
    lowest, n_chimes = rng.uniform(260, 330), rng.integers(3, 6)
    chord = TRAIN_HORN_CHORDS[rng.integers(len(TRAIN_HORN_CHORDS))][:n_chimes]
    notes = [lowest * 2 ** (step / 12) for step in chord]
    blasts = _alternate(n_samples / sr, rng, (0.8, 3.0), (0.3, 0.7))
    attack, release = rng.uniform(0.08, 0.18), rng.uniform(0.2, 0.35)
    y = _horn(t, sr, rng, notes, blasts, attack=attack, release=release, brightness=rng.uniform(0.7, 0.82), scoop=0.03)
    return _resonate(y, sr, _draw(rng, (700, 1000, 600, 0.8), (1700, 2400, 1000, 0.6)), dry=0.5)


def air_horn(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Air horn, truck horn: one or two low, brassy notes with a sharp attack.

    Root 140 to 250 Hz, second note (7 in 10) 3 to 5 semitones above; blasts of 0.3 to 1.6 s, 0.1 to 0.4 s apart; attack
    10 to 30 ms, release 40 to 90 ms; resonances at 500 to 800 and 1400 to 2200 Hz.
    """
    t = np.arange(n_samples) / sr
    root = rng.uniform(140, 250)
    notes = [root, root * 2 ** (rng.uniform(3, 5) / 12)][: 2 if rng.random() < 0.7 else 1]
    blasts = _alternate(n_samples / sr, rng, (0.3, 1.6), (0.1, 0.4))
    attack, release = rng.uniform(0.01, 0.03), rng.uniform(0.04, 0.09)
    y = _horn(t, sr, rng, notes, blasts, attack=attack, release=release, brightness=rng.uniform(0.88, 0.95))
    return _resonate(y, sr, _draw(rng, (500, 800, 500, 0.8), (1400, 2200, 800, 0.8)), dry=0.4)


def car_alarm(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Car alarm: the horn honked on and off (4 in 10), or short siren patterns one after the other.

    Honks: two notes, 370 to 440 Hz and 3 to 5 semitones above, 1.4 to 2.4 a second, 45 to 60 % on. Patterns, in drawn
    order, 0.8 to 1.6 s each, then 0 to 0.15 s of silence: chirps up, chirps down (5 to 9 a second), two tones (4 to 7),
    slow rises (1 to 2), a trill (10 to 14); from 900 to 1300 up to 1900 to 2700 Hz.
    """
    t = np.arange(n_samples) / sr
    if rng.random() < 0.4:
        root = rng.uniform(370, 440)
        notes = [root, root * 2 ** (rng.uniform(3, 5) / 12)]
        honks = _beat(n_samples / sr, rng.uniform(1.4, 2.4), rng.uniform(0.45, 0.6))
        y = _horn(t, sr, rng, notes, honks, attack=0.012, release=0.03, brightness=0.9)
        return _resonate(y, sr, _draw(rng, (1800, 2600, 1200, 1.0)), dry=0.4)
    low, high = rng.uniform(900, 1300), rng.uniform(1900, 2700)
    length, pause = rng.uniform(0.8, 1.6), rng.uniform(0, 0.15)
    patterns = rng.permutation(
        [  # cycles a second, low, high, share of the cycle that rises
            (rng.uniform(5, 9), low, high, 0.95),
            (rng.uniform(5, 9), low, high, 0.05),
            (rng.uniform(4, 7), low, 0.8 * high, -1.0),  # no rise: a two-tone
            (rng.uniform(1, 2), low, high, 0.9),
            (rng.uniform(10, 14), 0.8 * high, high, 0.5),
        ]
    )
    turn = (t // (length + pause)).astype(int)
    rate, low_now, high_now, rise = patterns[turn % len(patterns)].T
    sweep = _sweep(rate * t, low_now, high_now, rise=np.maximum(rise, 0.5 * (rise < 0)), bend=0.5)
    two_tone = np.where(rate * t % 1.0 < 0.5, low_now, high_now)
    y = _tone(np.where(rise < 0, two_tone, sweep), sr, n_partials=6, tilt=1.0, even=0.4)
    y = _resonate(y, sr, _draw(rng, (2200, 3000, 1200, 1.0)), dry=0.4)
    spans = _beat(n_samples / sr, 1 / (length + pause), length / (length + pause))
    return y * _gate(t, spans, attack=0.005, release=0.005)


def reversing_beeps(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Reversing beeps: a piezo tone of 1 to 1.3 kHz, 0.8 to 1.3 times a second, 40 to 55 % on, edges of 5 ms.

    Third harmonic 19 to 33 dB below; half of the vehicles idle audibly behind it.
    """
    t = np.arange(n_samples) / sr
    beeps = _beat(n_samples / sr, rng.uniform(0.8, 1.3), rng.uniform(0.4, 0.55))
    tone = _tone(np.full(n_samples, rng.uniform(1000, 1300)), sr, n_partials=5, tilt=rng.uniform(2, 3.5), even=0.02)
    idle = rng.uniform(0.01, 0.05) if rng.random() < 0.5 else 0.0
    beep = _gate(t, beeps, attack=0.005, release=0.005) * tone
    return beep + idle * _noise(n_samples, sr, rng, 50, 300, exponent=1.0)


# Engines


class Engine(NamedTuple):
    """How a four-stroke engine is built; what is a `Span` is drawn for each instance."""

    firing: tuple[float, ...]  # each cylinder's place in the cycle of two revolutions
    width: Span  # of an exhaust pulse, in ms
    pipes: tuple[tuple[float, float, float, float], ...]  # resonances: frequency from, to, bandwidth (Hz), gain
    unevenness: float  # standard deviation of the cylinders' strengths
    roughness: float  # standard deviation of the combustion's jitter
    hiss: Span  # level of the exhaust's noise, to the pulses' 1
    knock: Span  # level of the knocks, or of the valve gear


CAR = Engine(
    firing=(0.0, 0.25, 0.5, 0.75),
    width=(0.9, 1.4),
    pipes=((80, 140, 80, 1.0), (220, 380, 150, 0.8), (500, 800, 300, 0.6)),
    unevenness=0.06,
    roughness=0.04,
    hiss=(0.15, 0.3),
    knock=(0.1, 0.2),
)
BUS = Engine(
    firing=tuple(k / 6 for k in range(6)),
    width=(1.6, 2.4),
    pipes=((45, 75, 40, 1.0), (110, 180, 70, 0.9), (280, 420, 150, 0.5)),
    unevenness=0.15,
    roughness=0.06,
    hiss=(0.1, 0.2),
    knock=(0.2, 0.4),
)
TRUCK = Engine(
    firing=BUS.firing,
    width=(1.0, 1.6),
    pipes=((60, 100, 50, 1.0), (150, 250, 90, 0.9), (450, 700, 250, 0.7)),
    unevenness=0.12,
    roughness=0.08,
    hiss=(0.3, 0.5),
    knock=(0.6, 1.0),
)
MOTORCYCLE = Engine(
    firing=(0.0,),
    width=(0.5, 0.8),
    pipes=((110, 180, 70, 1.0), (350, 550, 150, 1.0), (900, 1400, 400, 0.9), (2000, 2600, 700, 0.7)),
    unevenness=0.2,
    roughness=0.05,
    hiss=(0.5, 0.9),
    knock=(0.0, 0.2),
)


def _run(engine: Engine, rpm: Array, load: Array, sr: int, rng: np.random.Generator) -> Array:
    """An engine's sound: exhaust pulses through its pipes, noise and knock modulated by them; load brightens it."""
    n_samples, width = rpm.size, rng.uniform(*engine.width) / 1000
    jitter = 1 + 0.3 * engine.roughness * _wander(n_samples, sr, rng, 12.0)
    strengths = 1 + engine.unevenness * rng.standard_normal(len(engine.firing))
    flow = _pulses(np.cumsum(rpm / 120 * jitter) / sr + rng.random(), engine.firing, strengths, sr, width=width)
    flow *= 1 + engine.roughness * _wander(n_samples, sr, rng, 25.0)
    slope = np.gradient(flow) * sr * width
    source = (1 - 0.7 * load) * (flow - flow.mean()) + (0.2 + load) * slope
    exhaust = _resonate(source, sr, _draw(rng, *engine.pipes), dry=0.3)
    beat = np.abs(flow) / (np.abs(flow).max() + 1e-12)
    hiss = rng.uniform(*engine.hiss) * (0.3 + load) * (0.3 + beat) * _noise(n_samples, sr, rng, 250, 3500, exponent=1.0)
    knock = rng.uniform(*engine.knock) * beat * _noise(n_samples, sr, rng, 1200, 4500)
    return (0.4 + 0.6 * load) * (exhaust / (np.std(exhaust) + 1e-12) + hiss + knock)


def _profile(t: Array, times: Sequence[float], values: Sequence[float], sr: int, *, smooth: float) -> Array:
    """Values joined by straight lines, rounded off over ``smooth`` seconds."""
    return np.asarray(ndimage.uniform_filter1d(np.interp(t, times, values), int(smooth * sr), mode="nearest"))


def car(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Car: a smooth four-cylinder engine that idles, then pulls away (half) or is revved once.

    Idle 700 to 950 rpm until 5 to 30 % of the event, top 2200 to 4200 rpm at 35 to 75 % of it; engine as in ``CAR``;
    tyre noise grows with the speed.
    """
    t = np.arange(n_samples) / sr
    idle, top, pulls_away = rng.uniform(700, 950), rng.uniform(2200, 4200), rng.random() < 0.5
    shares = (0.0, rng.uniform(0.05, 0.3), rng.uniform(0.35, 0.75), 1.0)
    speeds = (idle, idle, top, 0.8 * top if pulls_away else idle)
    rpm = _profile(t, [share * n_samples / sr for share in shares], speeds, sr, smooth=0.2)
    load = np.clip((rpm - idle) / (4200 - idle), 0, 1)
    rolling = 0.3 * pulls_away * np.cumsum(load) / max(np.sum(load), 1e-9)
    return _run(CAR, rpm, load, sr, rng) + rolling * _noise(n_samples, sr, rng, 300, 2500, exponent=1.0)


def car_passing_by(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Car passing by: tyres, wind and engine along a straight road, with Doppler shift, 1/r and the road's reflection.

    Speed 10 to 28 m/s, closest distance 3 to 10 m, at 35 to 65 % of the event; source 0.3 m and microphone 1.5 m high;
    tyre noise peaks at 600 to 1100 Hz; engine as in ``CAR`` at 1800 to 3200 rpm, 14 to 6 dB below.
    """
    t = np.arange(n_samples) / sr
    speed, distance, closest = rng.uniform(10, 28), rng.uniform(3, 10), rng.uniform(0.35, 0.65) * n_samples / sr
    direct, reflected = (
        _passage(t, speed=speed, distance=math.hypot(distance, climb), closest=closest)
        for climb in (1.5 - 0.3, 1.5 + 0.3)
    )
    start = reflected[0][0]
    n_source = math.ceil((direct[0][-1] - start) * sr) + 2

    tyres = _resonate(
        _noise(n_source, sr, rng, 500, 1400, exponent=0.5), sr, _draw(rng, (600, 1100, 500, 1.2)), dry=0.6
    )
    wind = _noise(n_source, sr, rng, 80, 600, exponent=1.0)
    engine = _run(CAR, np.full(n_source, rng.uniform(1800, 3200)), np.full(n_source, 0.5), sr, rng)
    source = tyres + 0.4 * wind + 10 ** (rng.uniform(-14, -6) / 20) * engine / np.std(engine)

    y = np.zeros(n_samples)
    for (emitted, path), share in ((direct, 1.0), (reflected, 0.4)):
        y += share / path * ndimage.map_coordinates(source, [(emitted - start) * sr], order=3, mode="nearest")
    return y


def bus(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Bus: a low diesel that pulls out or comes to a stop, and the hiss of its air brakes.

    Six cylinders as in ``BUS``, 550 to 700 rpm idling, up to 1300 to 1800 rpm; the change at 30 to 60 % of the event.
    Hiss: 1 to 3 bursts above 1.8 kHz while it stands, each decaying in 0.12 to 0.4 s.
    """
    t = np.arange(n_samples) / sr
    idle, top, turn, stops = rng.uniform(550, 700), rng.uniform(1300, 1800), rng.uniform(0.3, 0.6), rng.random() < 0.5
    speeds = (top, idle, idle) if stops else (idle, idle, top)
    rpm = _profile(t, [0, turn * n_samples / sr, n_samples / sr], speeds, sr, smooth=0.5)
    diesel = _run(BUS, rpm, 0.2 + 0.6 * np.clip((rpm - idle) / (1800 - idle), 0, 1), sr, rng)
    valve = np.zeros(n_samples)
    for share in rng.uniform(turn if stops else 0.02, 0.95 if stops else turn, rng.integers(1, 4)):
        since = t[int(share * n_samples) :] - share * n_samples / sr
        valve[-since.size :] += rng.uniform(0.5, 1) * np.exp(-since / rng.uniform(0.12, 0.4)) * (since > 0)
    hiss = np.minimum(valve, ndimage.uniform_filter1d(valve, int(0.01 * sr))) * _noise(n_samples, sr, rng, 1800, 8000)
    return diesel / np.std(diesel) + rng.uniform(1.5, 2.5) * hiss


def truck(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Truck: a heavy diesel that works through its gears, knocks, and whistles with its turbo.

    Six cylinders as in ``TRUCK``, 700 to 1000 up to 1700 to 2200 rpm in each gear, which lasts 1.2 to 2.5 s, the change
    0.3 to 0.5 s; turbo at 1.6 to 2.2 kHz and up to 45 % above, as it is boosted.
    """
    t = np.arange(n_samples) / sr
    low, top = rng.uniform(700, 1000), rng.uniform(1700, 2200)
    times, speeds = [0.0], [rng.uniform(low, 0.5 * (low + top))]
    while times[-1] < n_samples / sr:
        times += list(times[-1] + np.cumsum([rng.uniform(1.2, 2.5), rng.uniform(0.3, 0.5)]))
        speeds += [top, low * rng.uniform(1.0, 1.2)]
    rpm = _profile(t, times, speeds, sr, smooth=0.1)
    accelerates = np.where(np.gradient(rpm) > 0, 1.0, 0.0)
    pulling = ndimage.uniform_filter1d(accelerates, int(0.12 * sr), mode="nearest")
    diesel = _run(TRUCK, rpm, 0.15 + 0.75 * pulling, sr, rng)
    inertia = 1 / (0.4 * sr)
    boost = signal.lfilter([inertia], [1, inertia - 1], pulling * rpm / top)
    whistle = _tone(rng.uniform(1600, 2200) * (1 + 0.45 * boost), sr, n_partials=1)
    return diesel / np.std(diesel) + rng.uniform(0.06, 0.15) * boost * whistle


def motorcycle(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Motorcycle: one or two cylinders as in ``MOTORCYCLE``, strong uneven pulses, fast revs.

    Single, V-twin (second cylinder at 0.38 to 0.45 of the cycle) or parallel twin (0.5); idle 900 to 1400 rpm, blipped
    every 0.1 to 0.6 s to 3500 to 7500 rpm, up in 0.15 to 0.5 s and down in 0.3 to 0.9 s.
    """
    t = np.arange(n_samples) / sr
    idle, times = rng.uniform(900, 1400), [0.0]
    speeds = [idle]
    while times[-1] < n_samples / sr:
        times += list(times[-1] + np.cumsum([rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.5), rng.uniform(0.3, 0.9)]))
        speeds += [idle * rng.uniform(1, 1.2), rng.uniform(3500, 7500), idle * rng.uniform(1, 1.5)]
    rpm = _profile(t, times, speeds, sr, smooth=0.06)
    firing = ((0.0,), (0.0, rng.uniform(0.38, 0.45)), (0.0, 0.5))[rng.integers(3)]
    load = np.clip(0.25 + 0.75 * (rpm - idle) / (5000 - idle), 0, 1)
    y = _run(MOTORCYCLE._replace(firing=firing), rpm, load, sr, rng)
    return np.tanh(0.7 * y / np.std(y))


# Rail, voice, wheels


def train(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Train: each axle of each bogie knocks at the rail joint before us, fainter at the next ones; rumble and squeal.

    Speed 9 to 22 m/s, joints 12 to 25 m apart, cars of 18 to 25 m with bogies 65 to 72 % of that apart and axles 2.2 to
    2.8 m apart. A knock has 70 to 120 Hz (decay 50 ms), 250 to 450 Hz (25 ms), 900 to 1600 Hz (12 ms) and a click.
    Flange squeal (half) at 2.2 to 3.2 kHz, in bouts of 0.4 to 1.5 s.
    """
    t = np.arange(n_samples) / sr
    speed, joint, car_length = rng.uniform(9, 22), rng.uniform(12, 25), rng.uniform(18, 25)
    within = np.add.outer([0, car_length * rng.uniform(0.65, 0.72)], [0, rng.uniform(2.2, 2.8)])  # (bogies, axles), m
    cars = np.arange(-3, n_samples / sr * speed / car_length + 2) * car_length
    axles = np.add.outer(cars, within).ravel() + rng.uniform(0, car_length)
    modes = _draw(rng, (70, 120, 0.05, 1.0), (250, 450, 0.025, 0.9), (900, 1600, 0.012, 0.6))
    rail = _ring(sr, rng, modes, click=0.4)
    y = np.zeros(n_samples)
    for place, level in ((0.0, 1.0), (joint, 0.25), (-joint, 0.25)):
        y += _strike(n_samples, sr, (axles + place) / speed, level * rng.uniform(0.7, 1.0, axles.size), rail)
    near = _strike(n_samples, sr, axles / speed - 0.25, 1.0, np.hanning(int(0.5 * sr)))  # loudest as axles pass
    y += (0.12 + 0.05 * near) * _noise(n_samples, sr, rng, 30, 220, exponent=1.0)
    y += (0.05 + 0.04 * near) * _noise(n_samples, sr, rng, 400, 2200, exponent=1.0)
    if rng.random() < 0.5:
        pitch = rng.uniform(2200, 3200) * (1 + 0.01 * _wander(n_samples, sr, rng, 5.0))
        bouts = _gate(t, _alternate(n_samples / sr, rng, (0.4, 1.5), (0.5, 2.0)), attack=0.15, release=0.2)
        y += 0.1 * bouts * (1 + 0.4 * _wander(n_samples, sr, rng, 30.0)) * _tone(pitch, sr, n_partials=2, tilt=1.5)
    return y


def screaming(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Screaming: a rough glottal source, gliding up and falling off, through the formants of an open vowel.

    Pitch 450 to 1100 Hz, 15 to 45 % lower at either end, jitter 1 to 3 %, vibrato 0 to 3 % at 5 to 8 Hz; roughness 30
    to 120 Hz, 20 to 70 % deep; each scream 0.5 to 1.8 s, 0.12 to 0.35 s apart; formants at 900 to 1200, 1400 to 1900,
    2700 to 3300 and 3700 to 4300 Hz.
    """
    t = np.arange(n_samples) / sr
    screams = _alternate(n_samples / sr, rng, (0.5, 1.8), (0.12, 0.35))
    pitch = np.full(n_samples, rng.uniform(450, 1100))
    for onset, offset in screams:
        now = slice(*np.searchsorted(t, (onset, offset)))
        peak, fall = rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45, 2)
        u = (t[now] - onset) / (offset - onset) - peak
        pitch[now] *= rng.uniform(0.85, 1.15) * np.where(
            u < 0, 1 - fall[0] * (u / peak) ** 2, 1 - fall[1] * (u / (1 - peak)) ** 2
        )
    vibrato = rng.uniform(0, 0.03) * np.sin(2 * np.pi * rng.uniform(5, 8) * t)
    pitch *= 1 + vibrato + rng.uniform(0.01, 0.03) * _wander(n_samples, sr, rng, 40.0)
    voice = _tone(pitch, sr, n_partials=20, tilt=rng.uniform(0.5, 0.9), brightness=0.92)
    beating = np.cumsum(rng.uniform(30, 120) * (1 + 0.15 * _wander(n_samples, sr, rng, 20.0))) / sr
    voice *= 1 + rng.uniform(0.2, 0.7) * np.sin(2 * np.pi * beating)
    voice += 0.15 * _noise(n_samples, sr, rng, 1500, 6000)
    vowel = ((900, 1200, 220, 1.0), (1400, 1900, 260, 1.0), (2700, 3300, 400, 0.8), (3700, 4300, 500, 0.6))
    return _gate(t, screams, attack=0.06, release=0.12) * _resonate(voice, sr, _draw(rng, *vowel), dry=0.1)


def bicycle(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Bicycle: freewheel ticks while coasting, the chain while pedalling, soft tyres, and a bell rung twice (6 in 10).

    Speed 3 to 7 m/s, wheel 2.1 m around, 18 to 30 ticks a turn, each of 1.9 to 2.6, 2.9 to 3.4 and 4 to 6 kHz (1 ms);
    coasting for 0.6 to 1.6 s, pedalling for 0.4 to 1.2 s at 1 to 1.6 turns a second. Bell: lowest partial 1.7 to 2.5
    kHz, a doublet; decays in 0.25 to 0.6 s; strokes 0.12 to 0.25 s apart, a pair every 1 to 2 s.
    """
    t = np.arange(n_samples) / sr
    duration = n_samples / sr
    coasting = _gate(t, _alternate(duration, rng, (0.6, 1.6), (0.4, 1.2)), attack=0.05, release=0.05)
    rate = rng.uniform(3, 7) / 2.1 * rng.integers(18, 31) * (1 - 0.15 * t / duration)
    phase = np.cumsum(rate * (1 + 0.01 * _wander(n_samples, sr, rng, 3.0))) / sr
    ticks = np.flatnonzero(np.diff(np.floor(phase), prepend=-1.0))
    pawl = _ring(sr, rng, _draw(rng, (1900, 2600, 0.001, 1.0), (2900, 3400, 0.001, 1.0), (4000, 6000, 0.001, 1.0)))
    y = _strike(n_samples, sr, ticks / sr, coasting[ticks] * rng.uniform(0.5, 1.0, ticks.size), pawl)
    stroke = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(2, 3.2) * t)  # two to a turn of the pedals
    links = 0.3 + _pulses(rng.uniform(40, 70) * t, 0.0, 1.0, sr, width=0.004)
    y += 0.15 * (1 - coasting) * stroke * links * _noise(n_samples, sr, rng, 1200, 5000)
    y += 0.04 * _noise(n_samples, sr, rng, 200, 2500, exponent=1.0)
    if rng.random() < 0.6:
        pairs = np.cumsum([rng.uniform(0.02, 0.3) * min(duration, 2.0), *rng.uniform(1, 2, math.ceil(duration))])
        strokes = np.add.outer(pairs, [0, rng.uniform(0.12, 0.25)]).ravel()
        lowest, decay = rng.uniform(1700, 2500), rng.uniform(0.25, 0.6)
        partials = ((1.0, 1.0, 1.0), (1.004, 1.0, 0.8), (1.53, 0.6, 0.5), (2.41, 0.4, 0.5), (3.62, 0.25, 0.3))
        bell = _ring(sr, rng, [(lowest * ratio, decay * share, level) for ratio, share, level in partials])
        y += rng.uniform(0.8, 1.6) * _strike(n_samples, sr, strokes, rng.uniform(0.7, 1.0, strokes.size), bell)
    return y


def skateboard(n_samples: int, sr: int, rng: np.random.Generator) -> Array:
    """Skateboard: hard wheels on pavement, a double clack at each seam, and ollies (7 in 10): pop, flight, landing.

    Speed 2.5 to 5.5 m/s, slabs of 1.2 to 1.8 m, trucks 0.4 to 0.5 m apart; rolling resonates at 250 to 450 (deck) and
    800 to 1300 Hz (wheels); 0.25 to 0.45 s in the air, 1.2 to 3 s between; clacks of 180 to 280, 500 to 800 and 1400 to
    2200 Hz, decaying in 25, 15 and 6 ms, with a click.
    """
    t = np.arange(n_samples) / sr
    duration = n_samples / sr
    flights: list[Span] = []
    onset = rng.uniform(0.1, 0.4) * min(duration, 3.0) if rng.random() < 0.7 else math.inf
    while onset < duration:
        flights.append((onset, onset + rng.uniform(0.25, 0.45)))
        onset = flights[-1][1] + rng.uniform(1.2, 3.0)
    pops, landings = np.reshape(flights, (-1, 2)).T
    ground = 1 - _gate(t, flights, attack=0.01, release=0.004)

    rolling = _noise(n_samples, sr, rng, 120, 2500, exponent=0.8) * np.exp(0.35 * _wander(n_samples, sr, rng, 12.0))
    y = 0.25 * ground * _resonate(rolling, sr, _draw(rng, (250, 450, 150, 1.5), (800, 1300, 400, 1.0)), dry=0.5)
    speed, slab, trucks = rng.uniform(2.5, 5.5), rng.uniform(1.2, 1.8), [0, rng.uniform(0.4, 0.5)]
    seams = np.add.outer(np.arange(0, duration * speed, slab), trucks).ravel() / speed
    strengths = np.interp(seams, t, ground) * rng.uniform(0.4, 0.9, seams.size)
    clack = _draw(rng, (180, 280, 0.025, 1.0), (500, 800, 0.015, 1.0), (1400, 2200, 0.006, 0.8))
    wood = _ring(sr, rng, clack, click=0.5)
    y += _strike(n_samples, sr, seams, strengths, wood)
    pop = _ring(sr, rng, _draw(rng, (700, 1000, 0.008, 1.2), (2200, 3000, 0.004, 1.2)), click=1.0)
    y += _strike(n_samples, sr, pops, 1.2, pop)
    return y + _strike(n_samples, sr, np.add.outer(landings, [0, 0.025]).ravel(), 1.5, wood)


# The registry, and the way in


class SoundModel(NamedTuple):
    """How a class sounds, ``(n_samples, sr, rng) -> y``, and how long: its typical shortest and longest event (s)."""

    synthesize: Callable[[int, int, np.random.Generator], Array]
    duration: tuple[float, float]


SOUND_MODELS: dict[str, SoundModel] = {
    "Train horn": SoundModel(train_horn, (1.5, 6.0)),
    "Air horn, truck horn": SoundModel(air_horn, (0.8, 4.0)),
    "Car alarm": SoundModel(car_alarm, (3.0, 10.0)),
    "Reversing beeps": SoundModel(reversing_beeps, (3.0, 10.0)),
    "Bicycle": SoundModel(bicycle, (1.5, 6.0)),
    "Skateboard": SoundModel(skateboard, (1.5, 6.0)),
    "Ambulance (siren)": SoundModel(ambulance, (3.0, 10.0)),
    "Fire engine, fire truck (siren)": SoundModel(fire_engine, (4.0, 10.0)),
    "Civil defense siren": SoundModel(civil_defense, (5.0, 10.0)),
    "Police car (siren)": SoundModel(police_car, (3.0, 10.0)),
    "Screaming": SoundModel(screaming, (0.6, 3.5)),
    "Car": SoundModel(car, (2.0, 8.0)),
    "Car passing by": SoundModel(car_passing_by, (3.0, 8.0)),
    "Bus": SoundModel(bus, (3.0, 10.0)),
    "Truck": SoundModel(truck, (3.0, 10.0)),
    "Motorcycle": SoundModel(motorcycle, (2.0, 8.0)),
    "Train": SoundModel(train, (4.0, 10.0)),
}
"""The sound model of each class, by its DCASE label."""

CLASSES: tuple[str, ...] = tuple(SOUND_MODELS)
"""The 17 labels of DCASE 2017 Task 4: nine warning sounds and screaming, then seven vehicles."""


def synthesize(event_label: str, *, duration: float, sr: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One event of a class.

    Parameters
    ----------
    event_label : str
        One of `CLASSES`.
    duration : float
        Length, in seconds; 0.02 at least, for the two fades.
    sr : int
        Sample rate, in Hz; 8000 at least.
    rng : np.random.Generator
        Source of every draw.

    Returns
    -------
    np.ndarray, shape (round(duration * sr),), float32
        The event in the open air, between fades of 10 ms, without offset, its peak at 1.

    Raises
    ------
    ParameterError
        Unknown label, or a duration or sample rate out of range.

    Examples
    --------
    >>> y = synthesize("Reversing beeps", duration=2.5, sr=16000, rng=np.random.default_rng(0))
    >>> y.shape, y.dtype, float(abs(y).max())
    ((40000,), dtype('float32'), 1.0)
    """
    if event_label not in SOUND_MODELS:
        nearest = difflib.get_close_matches(event_label, CLASSES, n=1, cutoff=0.0)
        raise ParameterError(f"unknown event_label {event_label!r}; the nearest known one is {nearest[0]!r}")
    if not (math.isfinite(duration) and duration >= 2 * FADE):
        raise ParameterError(f"duration must be {2 * FADE} s or more, and finite; got {duration}")
    if sr < 8000:
        raise ParameterError(f"sr must be 8000 Hz or more; got {sr}")

    n_samples = round(duration * sr)
    y = _outdoors(SOUND_MODELS[event_label].synthesize(n_samples, sr, rng), sr, rng)
    y = np.asarray(signal.sosfilt(signal.butter(2, 25, "highpass", fs=sr, output="sos"), y))
    fade = _gate(np.arange(n_samples) / sr, [(0.0, n_samples / sr)], attack=FADE, release=FADE)
    y = fade * (y - np.average(y, weights=fade))  # the faded sum, not the plain one, is what has to vanish
    return (y / np.abs(y).max()).astype(np.float32)
