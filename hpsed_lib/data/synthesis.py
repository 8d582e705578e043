"""Parametric sound models of the 17 classes of DCASE 2017 Task 4, after the physics of each source.

Conventions: waveforms ``y`` are (samples,), mono, between the functions float64 of any level; frequencies are in Hz,
times in seconds, speeds in m/s, distances in m, rates in cycles per second, intervals in semitones. A model draws its
parameters evenly over the ranges that stand in it, from the generator of its `Take`. What repeats may start anywhere in
its cycle, but sounds from the first moment on. No partial and no resonance lies above 0.45 ``sr``, and no pulse is
sharp enough to reach there; noise rolls off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage, signal

from hpsed_lib.errors import ParameterError

Array = NDArray[np.float64]
Span = tuple[float, float]  # from, to: of a time, or of what is drawn
Mode = tuple[float, float, float]  # a resonance: frequency, bandwidth or decay, gain
DrawnMode = tuple[float, float, float, float]  # one whose frequency is drawn between the first two numbers

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
    """Noise of unit RMS with the power spectrum ``1 / f ** exponent``: 0 is white, 1 pink, 2 brown."""
    return _shaped_noise(n_samples, lambda f: f ** (-exponent / 2), rng).astype(np.float32)


@dataclass(frozen=True)
class Take:
    """What an event is made from: a length in samples, a sample rate in Hz, and the source of every draw."""

    n_samples: int
    sr: int
    rng: np.random.Generator

    @cached_property
    def t(self) -> Array:
        """Time of each sample."""
        return np.arange(self.n_samples) / self.sr

    @property
    def duration(self) -> float:
        return self.n_samples / self.sr

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return self.rng.uniform(low, high)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def modes(self, *drawn: DrawnMode) -> list[Mode]:
        return [(self.uniform(low, high), extent, gain) for low, high, extent, gain in drawn]

    def noise(self, low: float, high: float, *, exponent: float = 0.0) -> Array:
        """Noise of unit RMS between two frequencies (12 dB per octave beyond), coloured in between."""
        low, high = low / self.sr, min(high / self.sr, PASSBAND)

        def gain(f: Array) -> Array:
            band = 1 / np.sqrt((1 + np.square(np.square(low / f))) * (1 + np.square(np.square(f / high))))
            return band * f ** (-exponent / 2) if exponent else band

        return _shaped_noise(self.n_samples, gain, self.rng)

    def wander(self, rate: float) -> Array:
        """Random walk-about of standard deviation 1 that turns ``rate`` times a second."""
        knots = self.rng.standard_normal(math.ceil(self.duration * rate) + 2)
        return np.interp(self.t * rate, np.arange(knots.size), knots)

    def resonate(self, y: Array, *drawn: DrawnMode, dry: float) -> Array:
        """Parallel resonators (the third number of each is a bandwidth), beside ``dry`` times the input."""
        wet = dry * y
        for frequency, bandwidth, gain in self.modes(*drawn):
            if frequency < PASSBAND * self.sr:
                b, a = signal.iirpeak(frequency, frequency / bandwidth, fs=self.sr)
                wet = wet + gain * signal.lfilter(b, a, y)
        return wet

    def gate(self, spans: Sequence[Span], attack: float, release: float) -> Array:
        """Envelope that rises to 1 after each onset and is back at 0 at each offset, with raised-cosine edges."""
        level = np.zeros(self.n_samples)
        for onset, offset in spans:
            inside = slice(*np.searchsorted(self.t, [onset, offset]))
            ramp = np.minimum((self.t[inside] - onset) / attack, (offset - self.t[inside]) / release)
            level[inside] = 0.5 - 0.5 * np.cos(np.pi * np.clip(ramp, 0, 1))
        return level

    def alternate(self, duration: float, on: Span, off: Span) -> list[Span]:
        """Spans of sound that fill a duration: each lasts within ``on``, the pauses between them within ``off``."""
        spans: list[Span] = []
        onset = 0.0
        while onset < duration:
            offset = onset + self.uniform(*on)
            pause = self.uniform(*off)
            if offset + pause + on[0] > duration:  # no room for another: hold this one to the end
                offset = duration
            spans.append((onset, offset))
            onset = offset + pause
        return spans

    def beat(self, rate: float, duty: float) -> list[Span]:
        """Spans of sound that begin ``rate`` times a second and last the share ``duty`` of that."""
        return [(k / rate, (k + duty) / rate) for k in range(math.ceil(self.duration * rate))]

    def tone(
        self, frequency: Array, n: int, *, tilt: float = 1, even: float = 1, bright: ArrayLike = 1, start: float = 0
    ) -> Array:
        """Tone of n partials along a frequency, of which the kth has amplitude ``k ** -tilt * bright ** (k - 1)``.

        The even partials are further scaled by ``even`` (0: a square wave's spectrum); ``start`` is a phase in cycles.
        """
        cycles = 2 * np.pi * ((np.cumsum(frequency) / self.sr + start) % 1.0).astype(np.float32)
        partial = np.cos(cycles) + 1j * np.sin(cycles)  # its powers are the partials: far cheaper than a sine for each
        step = partial * np.asarray(bright, dtype=np.float32)
        top = PASSBAND * self.sr
        y = np.zeros(frequency.size)
        for k in range(1, n + 1):
            if k * frequency.min() > top:
                break
            amplitude = k**-tilt * (even if k % 2 == 0 else 1.0)
            leaves = k * frequency.max() > 0.9 * top  # the partial may leave the pass band on its way: fade it out
            y += amplitude * (np.clip((top - k * frequency) / (0.1 * top), 0, 1) if leaves else 1.0) * partial.imag
            partial = partial * step
        return y

    def pulses(self, phase: Array, places: ArrayLike, strengths: ArrayLike, *, width: float) -> Array:
        """Smooth pulses, ``width`` seconds across, one for each of ``places`` in every cycle of ``phase``."""
        frequency = np.maximum(np.gradient(phase) * self.sr, 1e-3)
        deviation = max(width / 2, 1.1 / self.sr)  # narrower ones would alias
        sharpness = np.maximum((2 * np.pi * deviation * frequency) ** -2.0, 0.5).astype(np.float32)
        y = np.zeros(phase.size)
        for place, strength in np.broadcast(places, strengths):
            y += strength * np.exp(sharpness * (np.cos(2 * np.pi * ((phase - place) % 1.0).astype(np.float32)) - 1))
        return y

    def ring(self, modes: Sequence[Mode], *, click: float = 0.0) -> Array:
        """Impulse response of a struck body: modes (the second number is a decay time), and a click of noise."""
        n_samples = math.ceil(5 * max(decay for _, decay, _ in modes) * self.sr)
        ringing = Take(n_samples, self.sr, self.rng)
        y = click * np.exp(-ringing.t / 0.004) * ringing.noise(400, 5000)
        for frequency, decay, amplitude in modes:
            if frequency < PASSBAND * self.sr:
                y += amplitude * np.exp(-ringing.t / decay) * np.sin(2 * np.pi * frequency * ringing.t)
        return y

    def strike(self, times: ArrayLike, strengths: ArrayLike, body: Array) -> Array:
        """The body's impulse response, once for each time, at the strength given."""
        place = np.rint(np.asarray(times) * self.sr).astype(int)
        strengths = np.broadcast_to(np.asarray(strengths, dtype=float), place.shape)
        inside = (place >= 0) & (place < self.n_samples)
        impulses = np.zeros(self.n_samples)
        np.add.at(impulses, place[inside], strengths[inside])
        return np.asarray(signal.oaconvolve(impulses, body)[: self.n_samples])


def _sweep(cycle: Array, low: Array | float, high: Array | float, *, rise: Array | float, bend: float = 2.5) -> Array:
    """Frequency that rises from low to high in the share ``rise`` of each cycle and falls back, as a capacitor does."""
    u = cycle % 1.0
    rising = u < rise
    charge = np.expm1(-bend * np.where(rising, u / rise, (u - rise) / (1 - rise))) / math.expm1(-bend)
    return low * np.exp(np.log(high / low) * np.where(rising, charge, 1 - charge))


def _passage(t: Array, *, speed: float, distance: float, closest: float) -> tuple[Array, Array]:
    """When what is heard at ``t`` was emitted, and how far off, by a source that passes at ``distance`` at ``closest``.

    Solves ``t = s + sqrt(distance ** 2 + (speed * s) ** 2) / c`` for the emission ``s``, both counted from ``closest``.
    """
    c, heard = SPEED_OF_SOUND, t - closest
    root = np.sqrt((c * speed * heard) ** 2 + (c**2 - speed**2) * distance**2)
    emitted = (c**2 * heard - root) / (c**2 - speed**2)
    return emitted + closest, c * (heard - emitted)


def _drive_by(take: Take) -> tuple[Array, Array]:
    """Doppler factor and relative level of a siren: half stand still, half pass."""
    moving = take.chance(0.5)
    speed, distance, closest = take.uniform(8, 22), take.uniform(8, 25), take.uniform(-0.2, 1.2) * take.t[-1]
    if not moving:
        return np.ones(take.n_samples), np.ones(take.n_samples)
    emitted, path = _passage(take.t, speed=speed, distance=distance, closest=closest)
    return np.gradient(emitted) * take.sr, np.sqrt(path.min() / path)  # milder than 1 / r: it has to stay audible


def _outdoors(take: Take, y: Array) -> Array:
    """Open-air reverberation: a tail 30 to 18 dB below the direct sound that dies away by 60 dB in ``decay``."""
    decay, level = take.uniform(0.5, 1.5), 10 ** (take.uniform(-30, -18) / 20)
    dying = Take(int(0.5 * decay * take.sr), take.sr, take.rng)
    tail = dying.noise(150, 3000) * 10 ** (-3 * dying.t / decay)
    tail[: int(0.01 * take.sr)] = 0.0
    tail *= level / np.linalg.norm(tail)
    tail[0] = 1.0
    return np.asarray(signal.oaconvolve(y, tail)[: y.size])


# Sirens


def _electronic_siren(take: Take, frequency: Array) -> Array:
    """Square-like wave through a horn loudspeaker."""
    y = take.tone(frequency, 12, tilt=take.uniform(0.8, 1.2), even=take.uniform(0.15, 0.5))
    return take.resonate(y, (900, 1300, 700, 1.0), (2100, 3000, 900, 0.8), dry=0.15)


def ambulance(take: Take) -> Array:
    """An electronic siren that may drive past: hi-lo with 8 ms glides, or a wail as long up as down."""
    doppler, level = _drive_by(take)
    if take.chance(0.7):
        low, interval, rate = take.uniform(400, 600), take.uniform(3, 7), take.uniform(0.7, 1.2)
        square = np.clip(np.sin(2 * np.pi * (rate * take.t + take.uniform())) / (np.pi * rate * 0.008), -1, 1)
        frequency = low * 2 ** (interval / 12 * (square + 1) / 2)
    else:
        cycle = take.uniform(0.3, 0.5) * take.t + take.uniform()
        frequency = _sweep(cycle, take.uniform(550, 750), take.uniform(1200, 1500), rise=0.5, bend=0.5)
    return level * _electronic_siren(take, frequency * doppler)


def police_car(take: Take) -> Array:
    """An electronic siren that may drive past, at yelp, or switched from wail to yelp."""
    doppler, level = _drive_by(take)
    low, high = take.uniform(600, 750), take.uniform(1300, 1600)
    frequency = _sweep(take.uniform(3, 5) * take.t + take.uniform(), low, high, rise=take.uniform(0.4, 0.6))
    if take.chance(1 / 3):
        until = int(take.uniform(0.2, 0.5) * take.n_samples)
        frequency[:until] = _sweep(take.uniform(0.2, 0.35) * take.t[:until] + take.uniform(), low, high, rise=0.7)
    return level * _electronic_siren(take, frequency * doppler)


def fire_engine(take: Take) -> Array:
    """A mechanical siren, wound up and coasting down, louder as it turns faster; air-horn blasts over it (6 in 10)."""
    doppler, level = _drive_by(take)
    low, high = take.uniform(250, 400), take.uniform(800, 1100)
    cycle = take.uniform(0.1, 0.2) * take.t + take.uniform(0.03, 0.45)
    rotor = _sweep(cycle, low, high, rise=take.uniform(0.35, 0.5)) * (1 + 0.002 * take.wander(9.0))
    siren = take.tone(rotor * doppler, 20, tilt=0.7, even=take.uniform(0.7, 1.0))
    siren = take.resonate(siren, (700, 1000, 900, 1.0), (1800, 2600, 1200, 0.7), dry=0.25)
    siren = rotor / high * (siren + 0.05 * take.noise(600, 4000))
    if take.chance(0.6):
        pause = take.uniform(0.0, 0.3) * take.t[-1]
        blasts = [(pause + on, pause + off) for on, off in take.alternate(take.t[-1], (0.4, 1.2), (0.3, 1.5))]
        root = take.uniform(230, 330)
        notes = [root, root * 2 ** (take.uniform(3.5, 4.5) / 12)]
        horn = _horn(take, notes, blasts, edges=(0.03, 0.08), brightness=0.85)
        siren += take.uniform(0.8, 1.4) * np.std(siren) / np.std(horn) * horn
    return level * siren


def civil_defense(take: Take) -> Array:
    """A rotor with two rows of ports, wound up and held (half) or wailing; its head turns, distance takes highs."""
    if take.chance(0.5):
        speed = 1 - take.uniform(0.3, 0.5) * np.exp(-take.t / take.uniform(0.8, 1.5))
    else:
        cycle = take.t / take.uniform(7, 11) + take.uniform(0, 0.3)
        speed = _sweep(cycle, take.uniform(0.55, 0.7), 1.0, rise=0.45, bend=1.5)
    upper = take.uniform(480, 720) * speed * (1 + 0.001 * take.wander(3.0))
    lower = (8 / 10, 9 / 12, 10 / 12)[take.rng.integers(3)] * upper
    rows = sum(take.tone(f, 12, tilt=1.1, even=0.8, start=take.uniform()) for f in (upper, lower))
    turning = np.sin(2 * np.pi * (take.t / take.uniform(4, 9) + take.uniform()))
    b, a = signal.butter(1, take.uniform(1200, 2500), fs=take.sr)
    return speed * 10 ** (take.uniform(1.5, 4) * turning / 20) * signal.lfilter(b, a, rows)


# Horns, alarms, beeps


def _horn(
    take: Take, notes: Sequence[float], blasts: Sequence[Span], *, edges: Span, brightness: float, scoop: float = 0.02
) -> Array:
    """Air-driven horns, one for each note: pitch (by ``scoop``) and brightness follow the pressure; some breath."""
    attack, release = edges
    y = 0.04 * take.noise(800, 5000) * take.gate(blasts, attack / 2, release)
    for note in notes:
        pressure = take.gate(blasts, attack * take.uniform(0.8, 1.3), release * take.uniform(0.8, 1.2))
        detune = 1 + 0.004 * take.rng.standard_normal() + 0.001 * take.wander(6.0)
        frequency = note * detune * (1 - scoop * (1 - pressure))
        bright = brightness * (0.75 + 0.25 * pressure)
        tone = take.tone(frequency, 24, tilt=0.3, bright=bright, start=take.uniform())
        y += pressure / len(notes) * tone
    return y


def train_horn(take: Take) -> Array:
    """A chord of 3 to 5 chimes, each detuned, with a slow attack in which the pitch rises by 3 %."""
    lowest, n_chimes = take.uniform(260, 330), take.rng.integers(3, 6)
    sixths = ((0, 3, 5, 8, 12), (0, 3, 7, 9, 12), (0, 4, 7, 9, 12))  # B major, minor, major; in semitones
    chord = sixths[take.rng.integers(3)][:n_chimes]
    notes = [lowest * 2 ** (step / 12) for step in chord]
    blasts = take.alternate(take.duration, (0.8, 3.0), (0.3, 0.7))
    edges = take.uniform(0.08, 0.18), take.uniform(0.2, 0.35)
    y = _horn(take, notes, blasts, edges=edges, brightness=take.uniform(0.7, 0.82), scoop=0.03)
    return take.resonate(y, (700, 1000, 600, 0.8), (1700, 2400, 1000, 0.6), dry=0.5)


def air_horn(take: Take) -> Array:
    """Air horn, truck horn: one or two (7 in 10) low, brassy notes with a sharp attack."""
    root = take.uniform(140, 250)
    notes = [root, root * 2 ** (take.uniform(3, 5) / 12)][: 2 if take.chance(0.7) else 1]
    blasts = take.alternate(take.duration, (0.3, 1.6), (0.1, 0.4))
    edges = take.uniform(0.01, 0.03), take.uniform(0.04, 0.09)
    y = _horn(take, notes, blasts, edges=edges, brightness=take.uniform(0.88, 0.95))
    return take.resonate(y, (500, 800, 500, 0.8), (1400, 2200, 800, 0.8), dry=0.4)


def car_alarm(take: Take) -> Array:
    """The horn honked on and off (4 in 10), or short siren patterns in drawn order, with a silence after each."""
    if take.chance(0.4):
        root = take.uniform(370, 440)
        notes = [root, root * 2 ** (take.uniform(3, 5) / 12)]
        honks = take.beat(take.uniform(1.4, 2.4), take.uniform(0.45, 0.6))
        y = _horn(take, notes, honks, edges=(0.012, 0.03), brightness=0.9)
        return take.resonate(y, (1800, 2600, 1200, 1.0), dry=0.4)
    low, high = take.uniform(900, 1300), take.uniform(1900, 2700)
    length, pause = take.uniform(0.8, 1.6), take.uniform(0, 0.15)
    patterns = take.rng.permutation(
        [  # rate, low, high, share of the cycle that rises
            (take.uniform(5, 9), low, high, 0.95),  # chirps up
            (take.uniform(5, 9), low, high, 0.05),  # chirps down
            (take.uniform(4, 7), low, 0.8 * high, -1.0),  # no rise: two tones
            (take.uniform(1, 2), low, high, 0.9),  # slow rises
            (take.uniform(10, 14), 0.8 * high, high, 0.5),  # a trill
        ]
    )
    turn = (take.t // (length + pause)).astype(int)
    rate, low_now, high_now, rise = patterns[turn % len(patterns)].T
    sweep = _sweep(rate * take.t, low_now, high_now, rise=np.maximum(rise, 0.5 * (rise < 0)), bend=0.5)
    two_tone = np.where(rate * take.t % 1.0 < 0.5, low_now, high_now)
    y = take.tone(np.where(rise < 0, two_tone, sweep), 6, even=0.4)
    y = take.resonate(y, (2200, 3000, 1200, 1.0), dry=0.4)
    spans = take.beat(1 / (length + pause), length / (length + pause))
    return y * take.gate(spans, 0.005, 0.005)


def reversing_beeps(take: Take) -> Array:
    """A piezo tone on and off, its third harmonic 19 to 33 dB below; half of the vehicles idle audibly behind it."""
    beeps = take.beat(take.uniform(0.8, 1.3), take.uniform(0.4, 0.55))
    pitch = np.full(take.n_samples, take.uniform(1000, 1300))
    tone = take.tone(pitch, 5, tilt=take.uniform(2, 3.5), even=0.02)
    idle = take.uniform(0.01, 0.05) if take.chance(0.5) else 0.0
    return take.gate(beeps, 0.005, 0.005) * tone + idle * take.noise(50, 300, exponent=1.0)


# Engines


class Engine(NamedTuple):
    """How a four-stroke engine is built; what is a `Span` is drawn for each instance."""

    firing: tuple[float, ...]  # each cylinder's place in the cycle of two revolutions
    width: Span  # of an exhaust pulse, in ms
    unevenness: float  # standard deviation of the cylinders' strengths
    roughness: float  # standard deviation of the combustion's jitter
    hiss: Span  # level of the exhaust's noise, to the pulses' 1
    knock: Span  # level of the knocks, or of the valve gear
    pipes: tuple[DrawnMode, ...]  # resonances, with a bandwidth


SIX_CYLINDERS = tuple(k / 6 for k in range(6))
CAR_PIPES = ((80, 140, 80, 1.0), (220, 380, 150, 0.8), (500, 800, 300, 0.6))
BUS_PIPES = ((45, 75, 40, 1.0), (110, 180, 70, 0.9), (280, 420, 150, 0.5))
TRUCK_PIPES = ((60, 100, 50, 1.0), (150, 250, 90, 0.9), (450, 700, 250, 0.7))
MOTORCYCLE_PIPES = ((110, 180, 70, 1.0), (350, 550, 150, 1.0), (900, 1400, 400, 0.9), (2000, 2600, 700, 0.7))

CAR = Engine((0.0, 0.25, 0.5, 0.75), (0.9, 1.4), 0.06, 0.04, (0.15, 0.3), (0.1, 0.2), CAR_PIPES)
BUS = Engine(SIX_CYLINDERS, (1.6, 2.4), 0.15, 0.06, (0.1, 0.2), (0.2, 0.4), BUS_PIPES)
TRUCK = Engine(SIX_CYLINDERS, (1.0, 1.6), 0.12, 0.08, (0.3, 0.5), (0.6, 1.0), TRUCK_PIPES)
MOTORCYCLE = Engine((0.0,), (0.5, 0.8), 0.2, 0.05, (0.5, 0.9), (0.0, 0.2), MOTORCYCLE_PIPES)


def _run(take: Take, engine: Engine, rpm: Array, load: Array | float) -> Array:
    """An engine's sound: exhaust pulses through its pipes, noise and knock modulated by them; load brightens it."""
    width = take.uniform(*engine.width) / 1000
    jitter = 1 + 0.3 * engine.roughness * take.wander(12.0)
    strengths = 1 + engine.unevenness * take.rng.standard_normal(len(engine.firing))
    phase = np.cumsum(rpm / 120 * jitter) / take.sr + take.uniform()
    flow = take.pulses(phase, engine.firing, strengths, width=width)
    flow *= 1 + engine.roughness * take.wander(25.0)
    slope = np.gradient(flow) * take.sr * width
    source = (1 - 0.7 * load) * (flow - flow.mean()) + (0.2 + load) * slope
    exhaust = take.resonate(source, *engine.pipes, dry=0.3)
    beat = np.abs(flow) / (np.abs(flow).max() + 1e-12)
    hiss = take.uniform(*engine.hiss) * (0.3 + load) * (0.3 + beat) * take.noise(250, 3500, exponent=1.0)
    knock = take.uniform(*engine.knock) * beat * take.noise(1200, 4500)
    return (0.4 + 0.6 * load) * (exhaust / (np.std(exhaust) + 1e-12) + hiss + knock)


def _profile(take: Take, times: Sequence[float], values: Sequence[float], *, smooth: float) -> Array:
    """Values joined by straight lines, rounded off over ``smooth`` seconds."""
    lines = np.interp(take.t, times, values)
    return np.asarray(ndimage.uniform_filter1d(lines, int(smooth * take.sr), mode="nearest"))


def car(take: Take) -> Array:
    """A smooth engine that idles, then pulls away (half) or is revved once; tyre noise grows with the speed."""
    idle, top, pulls_away = take.uniform(700, 950), take.uniform(2200, 4200), take.chance(0.5)
    shares = (0.0, take.uniform(0.05, 0.3), take.uniform(0.35, 0.75), 1.0)
    speeds = (idle, idle, top, 0.8 * top if pulls_away else idle)
    rpm = _profile(take, [share * take.n_samples / take.sr for share in shares], speeds, smooth=0.2)
    load = np.clip((rpm - idle) / (4200 - idle), 0, 1)
    rolling = 0.3 * pulls_away * np.cumsum(load) / max(np.sum(load), 1e-9)
    return _run(take, CAR, rpm, load) + rolling * take.noise(300, 2500, exponent=1.0)


def car_passing_by(take: Take) -> Array:
    """Tyres, wind and engine along a straight road, with Doppler shift, 1/r and the road's reflection.

    The source is 0.3 m, the microphone 1.5 m high; the car is closest at 35 to 65 % of the event.
    """
    speed, distance = take.uniform(10, 28), take.uniform(3, 10)
    closest = take.uniform(0.35, 0.65) * take.n_samples / take.sr
    direct, reflected = (
        _passage(take.t, speed=speed, distance=math.hypot(distance, climb), closest=closest)
        for climb in (1.5 - 0.3, 1.5 + 0.3)
    )
    start = reflected[0][0]
    road = Take(math.ceil((direct[0][-1] - start) * take.sr) + 2, take.sr, take.rng)

    tyres = road.resonate(road.noise(500, 1400, exponent=0.5), (600, 1100, 500, 1.2), dry=0.6)
    wind = road.noise(80, 600, exponent=1.0)
    engine = _run(road, CAR, np.full(road.n_samples, road.uniform(1800, 3200)), 0.5)
    source = tyres + 0.4 * wind + 10 ** (road.uniform(-14, -6) / 20) * engine / np.std(engine)

    y = np.zeros(take.n_samples)
    for (emitted, path), share in ((direct, 1.0), (reflected, 0.4)):
        y += share / path * ndimage.map_coordinates(source, [(emitted - start) * take.sr], order=3, mode="nearest")
    return y


def bus(take: Take) -> Array:
    """A low diesel that pulls out or comes to a stop, and 1 to 3 hisses of its air brakes while it stands."""
    idle, top, turn, stops = take.uniform(550, 700), take.uniform(1300, 1800), take.uniform(0.3, 0.6), take.chance(0.5)
    speeds = (top, idle, idle) if stops else (idle, idle, top)
    rpm = _profile(take, [0, turn * take.n_samples / take.sr, take.duration], speeds, smooth=0.5)
    diesel = _run(take, BUS, rpm, 0.2 + 0.6 * np.clip((rpm - idle) / (1800 - idle), 0, 1))
    valve = np.zeros(take.n_samples)
    for share in take.rng.uniform(turn if stops else 0.02, 0.95 if stops else turn, take.rng.integers(1, 4)):
        since = take.t[int(share * take.n_samples) :] - share * take.n_samples / take.sr
        valve[-since.size :] += take.uniform(0.5, 1) * np.exp(-since / take.uniform(0.12, 0.4)) * (since > 0)
    opening = ndimage.uniform_filter1d(valve, int(0.01 * take.sr))
    hiss = np.minimum(valve, opening) * take.noise(1800, 8000)
    return diesel / np.std(diesel) + take.uniform(1.5, 2.5) * hiss


def truck(take: Take) -> Array:
    """A heavy diesel that works through its gears, knocks, and whistles with its turbo, higher as it is boosted."""
    low, top = take.uniform(700, 1000), take.uniform(1700, 2200)
    times, speeds = [0.0], [take.uniform(low, 0.5 * (low + top))]
    while times[-1] < take.duration:
        times += list(times[-1] + np.cumsum([take.uniform(1.2, 2.5), take.uniform(0.3, 0.5)]))  # in gear, changing
        speeds += [top, low * take.uniform(1.0, 1.2)]
    rpm = _profile(take, times, speeds, smooth=0.1)
    accelerates = np.where(np.gradient(rpm) > 0, 1.0, 0.0)
    pulling = ndimage.uniform_filter1d(accelerates, int(0.12 * take.sr), mode="nearest")
    diesel = _run(take, TRUCK, rpm, 0.15 + 0.75 * pulling)
    inertia = 1 / (0.4 * take.sr)
    boost = signal.lfilter([inertia], [1, inertia - 1], pulling * rpm / top)
    whistle = take.tone(take.uniform(1600, 2200) * (1 + 0.45 * boost), 1)
    return diesel / np.std(diesel) + take.uniform(0.06, 0.15) * boost * whistle


def motorcycle(take: Take) -> Array:
    """A single, a V-twin or a parallel twin: strong uneven pulses, blipped from idle to high revs."""
    idle, times = take.uniform(900, 1400), [0.0]
    speeds = [idle]
    while times[-1] < take.duration:
        steps = [take.uniform(0.1, 0.6), take.uniform(0.15, 0.5), take.uniform(0.3, 0.9)]  # idling, up, down
        times += list(times[-1] + np.cumsum(steps))
        speeds += [idle * take.uniform(1, 1.2), take.uniform(3500, 7500), idle * take.uniform(1, 1.5)]
    rpm = _profile(take, times, speeds, smooth=0.06)
    firing = ((0.0,), (0.0, take.uniform(0.38, 0.45)), (0.0, 0.5))[take.rng.integers(3)]
    load = np.clip(0.25 + 0.75 * (rpm - idle) / (5000 - idle), 0, 1)
    y = _run(take, MOTORCYCLE._replace(firing=firing), rpm, load)
    return np.tanh(0.7 * y / np.std(y))


# Rail, voice, wheels


def train(take: Take) -> Array:
    """Each axle of each bogie knocks at the rail joint before us, fainter at the next ones; rumble, flange squeal."""
    speed, joint, car_length = take.uniform(9, 22), take.uniform(12, 25), take.uniform(18, 25)
    bogies, axles_apart = [0, car_length * take.uniform(0.65, 0.72)], [0, take.uniform(2.2, 2.8)]
    cars = np.arange(-3, take.duration * speed / car_length + 2) * car_length
    axles = np.add.outer(cars, np.add.outer(bogies, axles_apart)).ravel() + take.uniform(0, car_length)
    rail = take.ring(take.modes((70, 120, 0.05, 1.0), (250, 450, 0.025, 0.9), (900, 1600, 0.012, 0.6)), click=0.4)
    y = np.zeros(take.n_samples)
    for place, level in ((0.0, 1.0), (joint, 0.25), (-joint, 0.25)):
        y += take.strike((axles + place) / speed, level * take.rng.uniform(0.7, 1.0, axles.size), rail)
    near = take.strike(axles / speed - 0.25, 1.0, np.hanning(int(0.5 * take.sr)))  # loudest as axles pass
    y += (0.12 + 0.05 * near) * take.noise(30, 220, exponent=1.0)
    y += (0.05 + 0.04 * near) * take.noise(400, 2200, exponent=1.0)
    if take.chance(0.5):
        pitch = take.uniform(2200, 3200) * (1 + 0.01 * take.wander(5.0))
        bouts = take.gate(take.alternate(take.duration, (0.4, 1.5), (0.5, 2.0)), 0.15, 0.2)
        y += 0.1 * bouts * (1 + 0.4 * take.wander(30.0)) * take.tone(pitch, 2, tilt=1.5)
    return y


def screaming(take: Take) -> Array:
    """A rough glottal source with jitter and vibrato, gliding up and falling off, through an open vowel's formants."""
    screams = take.alternate(take.duration, (0.5, 1.8), (0.12, 0.35))
    pitch = np.full(take.n_samples, take.uniform(450, 1100))
    for onset, offset in screams:
        now = slice(*np.searchsorted(take.t, (onset, offset)))
        peak, fall = take.uniform(0.15, 0.5), take.rng.uniform(0.15, 0.45, 2)
        u = (take.t[now] - onset) / (offset - onset) - peak
        glide = np.where(u < 0, 1 - fall[0] * (u / peak) ** 2, 1 - fall[1] * (u / (1 - peak)) ** 2)
        pitch[now] *= take.uniform(0.85, 1.15) * glide
    vibrato = take.uniform(0, 0.03) * np.sin(2 * np.pi * take.uniform(5, 8) * take.t)
    pitch *= 1 + vibrato + take.uniform(0.01, 0.03) * take.wander(40.0)
    voice = take.tone(pitch, 20, tilt=take.uniform(0.5, 0.9), bright=0.92)
    roughness = np.cumsum(take.uniform(30, 120) * (1 + 0.15 * take.wander(20.0))) / take.sr  # in cycles
    voice *= 1 + take.uniform(0.2, 0.7) * np.sin(2 * np.pi * roughness)
    voice += 0.15 * take.noise(1500, 6000)
    vowel = ((900, 1200, 220, 1.0), (1400, 1900, 260, 1.0), (2700, 3300, 400, 0.8), (3700, 4300, 500, 0.6))
    return take.gate(screams, 0.06, 0.12) * take.resonate(voice, *vowel, dry=0.1)


def bicycle(take: Take) -> Array:
    """Freewheel ticks while coasting, the chain while pedalling, soft tyres, and a bell rung twice (6 in 10)."""
    coasting = take.gate(take.alternate(take.duration, (0.6, 1.6), (0.4, 1.2)), 0.05, 0.05)
    turns = take.uniform(3, 7) / 2.1  # a second, of a wheel 2.1 m around
    rate = turns * take.rng.integers(18, 31) * (1 - 0.15 * take.t / take.duration)
    phase = np.cumsum(rate * (1 + 0.01 * take.wander(3.0))) / take.sr
    ticks = np.flatnonzero(np.diff(np.floor(phase), prepend=-1.0))
    pawl = take.ring(take.modes((1900, 2600, 0.001, 1.0), (2900, 3400, 0.001, 1.0), (4000, 6000, 0.001, 1.0)))
    y = take.strike(ticks / take.sr, coasting[ticks] * take.rng.uniform(0.5, 1.0, ticks.size), pawl)
    stroke = 0.6 + 0.4 * np.sin(2 * np.pi * take.uniform(2, 3.2) * take.t)  # two to a turn of the pedals
    links = 0.3 + take.pulses(take.uniform(40, 70) * take.t, 0.0, 1.0, width=0.004)
    y += 0.15 * (1 - coasting) * stroke * links * take.noise(1200, 5000)
    y += 0.04 * take.noise(200, 2500, exponent=1.0)
    if take.chance(0.6):
        first = take.uniform(0.02, 0.3) * min(take.duration, 2.0)
        pairs = np.cumsum([first, *take.rng.uniform(1, 2, math.ceil(take.duration))])
        strokes = np.add.outer(pairs, [0, take.uniform(0.12, 0.25)]).ravel()
        lowest, decay = take.uniform(1700, 2500), take.uniform(0.25, 0.6)
        partials = ((1.0, 1.0, 1.0), (1.004, 1.0, 0.8), (1.53, 0.6, 0.5), (2.41, 0.4, 0.5), (3.62, 0.25, 0.3))
        bell = take.ring([(lowest * ratio, decay * share, level) for ratio, share, level in partials])
        y += take.uniform(0.8, 1.6) * take.strike(strokes, take.rng.uniform(0.7, 1.0, strokes.size), bell)
    return y


def skateboard(take: Take) -> Array:
    """Hard wheels on pavement, a double clack at each seam, and ollies (7 in 10): pop, flight, landing."""
    flights: list[Span] = []
    onset = take.uniform(0.1, 0.4) * min(take.duration, 3.0) if take.chance(0.7) else math.inf
    while onset < take.duration:
        flights.append((onset, onset + take.uniform(0.25, 0.45)))
        onset = flights[-1][1] + take.uniform(1.2, 3.0)
    pops, landings = np.reshape(flights, (-1, 2)).T
    ground = 1 - take.gate(flights, 0.01, 0.004)

    rolling = take.noise(120, 2500, exponent=0.8) * np.exp(0.35 * take.wander(12.0))
    y = 0.25 * ground * take.resonate(rolling, (250, 450, 150, 1.5), (800, 1300, 400, 1.0), dry=0.5)  # deck, wheels
    speed, slab, trucks = take.uniform(2.5, 5.5), take.uniform(1.2, 1.8), [0, take.uniform(0.4, 0.5)]
    seams = np.add.outer(np.arange(0, take.duration * speed, slab), trucks).ravel() / speed
    strengths = np.interp(seams, take.t, ground) * take.rng.uniform(0.4, 0.9, seams.size)
    wood = take.ring(take.modes((180, 280, 0.025, 1.0), (500, 800, 0.015, 1.0), (1400, 2200, 0.006, 0.8)), click=0.5)
    y += take.strike(seams, strengths, wood)
    pop = take.ring(take.modes((700, 1000, 0.008, 1.2), (2200, 3000, 0.004, 1.2)), click=1.0)
    y += take.strike(pops, 1.2, pop)
    return y + take.strike(np.add.outer(landings, [0, 0.025]).ravel(), 1.5, wood)


# The registry, and the way in


SOUND_MODELS: dict[str, tuple[Callable[[Take], Array], Span, str | None]] = {
    "Train horn": (train_horn, (1.5, 6.0), "Train"),
    "Air horn, truck horn": (air_horn, (0.8, 4.0), "Truck"),
    "Car alarm": (car_alarm, (3.0, 10.0), "Car passing by"),
    "Reversing beeps": (reversing_beeps, (3.0, 10.0), "Truck"),
    "Bicycle": (bicycle, (1.5, 6.0), "Car passing by"),
    "Skateboard": (skateboard, (1.5, 6.0), "Screaming"),
    "Ambulance (siren)": (ambulance, (3.0, 10.0), "Car passing by"),
    "Fire engine, fire truck (siren)": (fire_engine, (4.0, 10.0), "Truck"),
    "Civil defense siren": (civil_defense, (5.0, 10.0), None),
    "Police car (siren)": (police_car, (3.0, 10.0), "Car passing by"),
    "Screaming": (screaming, (0.6, 3.5), None),
    "Car": (car, (2.0, 8.0), "Car passing by"),
    "Car passing by": (car_passing_by, (3.0, 8.0), "Car"),
    "Bus": (bus, (3.0, 10.0), "Car passing by"),
    "Truck": (truck, (3.0, 10.0), "Reversing beeps"),
    "Motorcycle": (motorcycle, (2.0, 8.0), "Car passing by"),
    "Train": (train, (4.0, 10.0), "Train horn"),
}
"""Of each class, by its DCASE label: its sound model, its typical shortest and longest event (s), what it may bring."""

CLASSES: tuple[str, ...] = tuple(SOUND_MODELS)
"""The 17 labels of DCASE 2017 Task 4: nine warning sounds and screaming, then seven vehicles."""


def synthesize(event_label: str, *, duration: float, sr: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """One event of a class, in the open air, between two fades of 10 ms, which `duration` has to hold.

    Returns
    -------
    np.ndarray, shape (round(duration * sr),), float32
        Without offset, its peak at 1: the mixer sets the level.
    """
    if not (math.isfinite(duration) and duration >= 2 * FADE):
        raise ParameterError(f"duration must be {2 * FADE} s or more, and finite; got {duration}")
    model, *_ = SOUND_MODELS[event_label]
    take = Take(round(duration * sr), sr, rng)
    y = _outdoors(take, model(take))
    y = np.asarray(signal.sosfilt(signal.butter(2, 25, "highpass", fs=sr, output="sos"), y))
    fade = take.gate([(0.0, take.duration)], FADE, FADE)
    y = fade * (y - np.average(y, weights=fade))  # the faded sum, not the plain one, is what has to vanish
    return (y / np.abs(y).max()).astype(np.float32)
