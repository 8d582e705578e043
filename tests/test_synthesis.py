"""The sound models: what every event must be, and that each source obeys its own physics."""

import librosa
import numpy as np
import pytest
from scipy import optimize, signal

from hpsed_lib.data import synthesis
from hpsed_lib.data.synthesis import CLASSES, Take, colored_noise, synthesize
from hpsed_lib.errors import ParameterError

SR = 16000


def event(label: str, seed: int, *, duration: float = 3.0, sr: int = SR) -> np.ndarray:
    return synthesize(label, duration=duration, sr=sr, rng=np.random.default_rng(seed))


def spectral_peaks(y: np.ndarray, low: float, high: float, *, floor_db: float, sr: int = SR) -> np.ndarray:
    """Frequencies of the peaks between two frequencies that stand within ``floor_db`` of the strongest one."""
    level = 20 * np.log10(np.abs(np.fft.rfft(y * np.hanning(y.size))) + 1e-9)
    frequency = np.fft.rfftfreq(y.size, 1 / sr)
    level[(frequency < low) | (frequency > high)] = -300
    peaks, _ = signal.find_peaks(level, height=level.max() - floor_db, distance=max(int(15 * y.size / sr), 1))
    return frequency[peaks]


def main_rate(track: np.ndarray, frame_rate: float) -> float:
    """Strongest frequency (Hz) in a track's fluctuation."""
    spectrum = np.abs(np.fft.rfft((track - track.mean()) * np.hanning(track.size), n=8 * track.size))
    return float(np.argmax(spectrum) * frame_rate / (8 * track.size))


@pytest.mark.parametrize(("sr", "duration"), [(8000, 0.5), (16000, 2.0), (22050, 1.234), (44100, 0.02), (48000, 0.3)])
@pytest.mark.parametrize("label", CLASSES)
def test_event_has_its_length_level_and_type(label, sr, duration):
    for seed in range(2):
        y = event(label, seed, duration=duration, sr=sr)
        assert (y.shape, y.dtype, np.abs(y).max()) == ((round(duration * sr),), np.float32, 1)  # 1: and all finite
        assert abs(y.mean(dtype=np.float64)) < 1e-6
        assert abs(y[0]) < 1e-3
        assert abs(y[-1]) < 1e-2


@pytest.mark.parametrize("label", CLASSES)
def test_event_sounds_most_of_the_time(label):
    active = []
    for seed in range(4):
        frames = event(label, seed).reshape(-1, SR // 20)  # (frames, samples of 50 ms)
        rms = np.sqrt(np.mean(frames**2, axis=1))
        active.append(np.mean(rms > rms.max() / 100))
        assert np.flatnonzero(rms > rms.max() / 100)[0] <= 4  # an onset label that is off by 0.2 s would be wrong
    assert np.mean(active) > 0.6
    assert min(active) > 0.4


@pytest.mark.parametrize("duration", [0.0, -1.0, 0.01, float("nan"), float("inf")])
def test_an_event_that_does_not_hold_its_fades_is_refused(duration):
    with pytest.raises(ParameterError, match=r"duration must be 0.02 s or more, and finite; got"):
        event("Car", 0, duration=duration)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
def test_noise_has_its_colour(exponent):
    for n_samples in (2, 3, 7919, 2**17):
        y = colored_noise(n_samples, exponent=exponent, rng=np.random.default_rng(1))
        assert (y.shape, y.dtype, np.isfinite(y).all()) == ((n_samples,), np.float32, True)
    assert np.sqrt(np.mean(y.astype(float) ** 2)) == pytest.approx(1, abs=1e-5)
    frequency, power = signal.welch(y.astype(float), nperseg=4096)
    band = (frequency > 0.005) & (frequency < 0.45)
    slope, _ = np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)
    assert slope == pytest.approx(-exponent, abs=0.06)


@pytest.mark.parametrize("seed", range(6))
def test_reversing_beeps_keep_their_pitch_and_rate(seed):
    y = event("Reversing beeps", seed, duration=8.0)
    [pitch] = spectral_peaks(y, 500, 2000, floor_db=20)
    assert 990 < pitch < 1310
    assert 0.75 < main_rate(np.abs(signal.hilbert(y))[:: SR // 100], 100) < 1.35


def test_partials_beyond_the_pass_band_do_not_fold_back():
    sr = 8000
    take = Take(4 * sr, sr, np.random.default_rng(0))
    steady = take.tone(np.full(sr, 1100.0), 20, tilt=0.3)
    np.testing.assert_allclose(spectral_peaks(steady, 20, 4000, floor_db=80, sr=sr), [1100, 2200, 3300], atol=1)
    gliding = take.tone(np.linspace(200, 1500, 4 * sr), 20, tilt=0.3)
    _, power = signal.welch(gliding, nperseg=512)
    frequency, times, level = signal.spectrogram(gliding, sr, window="hann", nperseg=512, detrend=False)
    below_the_tone = frequency[:, None] < 0.5 * np.interp(times, [0, 4], [200, 1500])
    assert 10 * np.log10(level[below_the_tone].max() / level.max()) < -45
    assert 10 * np.log10(power[-24:].max() / power.max()) < -45  # above 0.45 sr


def test_police_yelps_faster_than_the_ambulance_and_the_fire_engine_wail():
    def rate(label: str, seed: int) -> float:
        """Rate (Hz) at which the pitch of the second half of a siren goes up and down."""
        y = event(label, seed, duration=10.0)[5 * SR :]
        pitch = librosa.yin(y, fmin=200, fmax=2000, sr=SR, frame_length=512, hop_length=160)
        return main_rate(signal.medfilt(np.log(pitch), 5), SR / 160)

    sirens = ("Police car (siren)", "Ambulance (siren)", "Fire engine, fire truck (siren)")
    police, ambulance, fire = ([rate(label, seed) for seed in range(7)] for label in sirens)
    assert 2.8 < min(police) < max(police) < 5.2
    assert 0.2 < min(ambulance) < max(ambulance) < 1.4
    assert np.median(fire) < np.median(ambulance)


@pytest.mark.parametrize(("engine", "cylinders"), [("CAR", 4), ("BUS", 6), ("MOTORCYCLE", 1)])
def test_engines_fire_once_per_cylinder_in_two_revolutions(engine, cylinders):
    rpm = 2400.0
    build = getattr(synthesis, engine)._replace(unevenness=0.0, roughness=0.0, hiss=(0.0, 0.0), knock=(0.0, 0.0))
    y = synthesis._run(Take(SR, SR, np.random.default_rng(0)), build, np.full(SR, rpm), 0.5)
    firing_rate = rpm / 60 * cylinders / 2
    peaks = spectral_peaks(y, 15, 1500, floor_db=30)
    np.testing.assert_allclose(peaks / firing_rate, np.rint(peaks / firing_rate), atol=0.03)
    assert np.diff(peaks).min() == pytest.approx(firing_rate, rel=0.05)


def test_passage_solves_the_path_of_sound():
    geometry = {"speed": 25.0, "distance": 6.0, "closest": 2.0}
    t = np.linspace(0, 5, 11)
    emitted, path = synthesis._passage(t, **geometry)

    def distance_at(time: float) -> float:
        return float(np.hypot(geometry["distance"], geometry["speed"] * (time - geometry["closest"])))

    expected = [optimize.brentq(lambda s, heard=heard: s + distance_at(s) / 343.0 - heard, -5, 6) for heard in t]
    np.testing.assert_allclose(emitted, expected, atol=1e-9)
    np.testing.assert_allclose(path, [distance_at(s) for s in expected], atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_passing_car_is_loudest_half_way(seed):
    frames = event("Car passing by", seed, duration=5.0).reshape(-1, SR // 4)
    rms = np.sqrt(np.mean(frames**2, axis=1))
    assert 0.3 < (np.argmax(rms) + 0.5) / len(rms) < 0.7
    assert rms.max() > 2 * max(rms[0], rms[-1])


def statistics(y: np.ndarray) -> np.ndarray:
    """Mean, spread and mean change of the first 20 cepstral coefficients."""
    mfcc = librosa.feature.mfcc(y=y, sr=SR, n_mfcc=20, n_fft=1024, hop_length=320, n_mels=40)
    return np.concatenate([mfcc.mean(1), mfcc.std(1), np.abs(np.diff(mfcc)).mean(1)])


def test_classes_are_separable():
    """A nearest neighbour over simple statistics tells the classes apart far above chance (1 in 17)."""
    n_instances = 8
    rng = np.random.default_rng(0)
    events = [event(label, 100 + seed) for label in CLASSES for seed in range(n_instances)]
    noise = [colored_noise(y.size, exponent=1.0, rng=rng) for y in events]
    x = np.array([statistics(y + 0.1 * y.std() * quiet) for y, quiet in zip(events, noise, strict=True)])
    x = (x - x.mean(0)) / x.std(0)
    truth = np.repeat(np.arange(len(CLASSES)), n_instances)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    right = truth[distance.argmin(1)] == truth
    assert right.mean() > 0.85  # 0.97 measured
    assert right.reshape(len(CLASSES), n_instances).mean(1).min() > 0.2
