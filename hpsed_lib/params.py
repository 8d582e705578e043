"""Experiments: the typed form of the files in ``params/``, loaded strictly.

One frozen model per concern. Times are in seconds, frequencies and rates in Hz, levels in dB, unless a name says
otherwise. An unknown key, a missing one, a wrong type or an impossible value is a `ParameterError` that names the file,
the key and, for an unknown key, the nearest known one.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import math
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hpsed_lib.errors import DataError, ParameterError
from hpsed_lib.paths import PARAMS, ROOT

PoolingName = Annotated[str, Field(pattern=r"^[a-z]\w*$")]  # a part of a run's name: no hyphen
StructureName = Literal["single", "hierarchical", "appendix", "mixed"]
SPLITS = ("training", "validation", "test")

MOST_SEEDS = 1000

Positive = Annotated[float, Field(gt=0)]
Duration = Annotated[float, Field(gt=0, le=3600)]  # s, of a clip
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Probability = Annotated[float, Field(ge=0, le=1)]
Pool = tuple[Count, Count]
Number = TypeVar("Number", int, float)


def _ascending(bounds: tuple[Number, Number]) -> tuple[Number, Number]:
    if bounds[0] > bounds[1]:
        raise ValueError("must be [lowest, highest]")
    return bounds


def _different(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("must be different names")
    return names


Range = Annotated[tuple[Number, Number], AfterValidator(_ascending)]


class Section(BaseModel):
    """Base of every section: frozen, no unknown key, no silent conversion."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, content: Any) -> Any:
        known = sorted({*cls.model_fields} - {"name"})  # an experiment's name is no key of its file
        for key in content if isinstance(content, dict) else ():
            if key not in cls.model_fields:
                [nearest] = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
                raise ValueError(f"unknown key {key!r}; the nearest known key is {nearest!r}")
        return content


class ClipCounts(Section):
    """Number of soundscapes in each split."""

    training: Count
    validation: Count
    test: Count


class Soundscapes(Section):
    """What both kinds of soundscape share: how events are mixed over a background."""

    seed: int
    sample_rate: Annotated[int, Field(ge=8000, le=48000)]
    clip_duration: Duration
    n_clips: ClipCounts
    n_events: Range[Annotated[int, Field(ge=0)]]  # events in a clip
    event_duration: Range[Positive]  # what a longer event is cut to
    snr: Range[float]  # dB, event against background
    background_exponent: Range[float]  # 0 white, 1 pink, 2 brown


class SyntheticData(Soundscapes):
    """Soundscapes from the parametric sound models of the task's 17 classes."""

    source: Literal["synthetic"]
    cooccurrence: Probability  # that an event brings its companion (a train horn, a train)


class RecordedData(Soundscapes):
    """Soundscapes mixed from the recordings of ESC-10 or ESC-50, by fold."""

    source: Literal["esc10", "esc50"]
    folds: dict[str, tuple[Count, ...]]

    @model_validator(mode="after")
    def _folds_are_disjoint(self) -> RecordedData:
        folds = [fold for split in SPLITS for fold in self.folds.get(split, ())]
        if len(set(folds)) < len(folds) or set(self.folds) != set(SPLITS):
            raise ValueError("folds must name training, validation and test, no fold twice")
        return self


class ListedData(Section):
    """What data sets share whose clips exist: label files list them, and some of the audio may be missing."""

    sample_rate: Annotated[int, Field(ge=8000, le=48000)]
    clip_duration: Duration
    validation_share: Annotated[float, Field(gt=0, lt=1)]  # of the training clips, held out by a draw
    validation_seed: Annotated[int, Field(ge=0)]
    incomplete_test: Literal["refuse", "report"]  # a test clip without audio: stop, or say so in every table


class Dcase2017Data(ListedData):
    """The paper's own data set, DCASE 2017 Task 4."""

    source: Literal["dcase2017"]
    test_set: Literal["development", "evaluation"]  # evaluation: thresholds may be chosen on the development clips


class WeakFiles(Section):
    """Label files of clips (which classes sound in a clip), inside the data folder."""

    training: str
    validation: str | None  # null: a share of the training clips


class StrongFiles(Section):
    """Label files of events (onset, offset), inside the data folder."""

    validation: str | None  # null: no threshold can be chosen
    test: str


class AudioFolders(Section):
    """Folders of each split's recordings, inside the data folder."""

    training: str
    validation: str
    test: str


class FolderData(ListedData):
    """Anyone's data: a folder with audio files and label files."""

    source: Literal["folder"]
    audio: str | AudioFolders  # folder inside the data folder that file names start at; "." for the data folder itself
    classes: tuple[str, ...] | None  # null: every label of the training clips, sorted
    weak_labels: WeakFiles
    strong_labels: StrongFiles

    @property
    def audio_folders(self) -> dict[str, str]:
        """The folder that the file names of each split start at."""
        return dict.fromkeys(SPLITS, self.audio) if isinstance(self.audio, str) else self.audio.model_dump()


class Features(Section):
    """Log-mel spectrogram (Sec. 3.2)."""

    window_duration: Positive
    hop_duration: Positive
    n_mels: Count
    fmin: Annotated[float, Field(ge=0)]
    fmax: Positive | None  # null: half the sample rate


class GatedCrnn(Section):
    """Gated CRNN (Figs. 2 and 3)."""

    kind: Literal["gated_crnn"]
    block_channels: Annotated[tuple[Count, ...], Field(min_length=1)]
    block_pools: tuple[Pool, ...]  # (time, frequency) of each block
    last_channels: Count
    last_pool: Pool
    gru_units: Count  # in each direction
    dropout: Annotated[float, Field(ge=0, lt=1)]

    @property
    def time_pooling(self) -> int:
        """Input frames per output frame."""
        return math.prod(time for time, _ in (*self.block_pools, self.last_pool))

    @model_validator(mode="after")
    def _one_pool_per_block(self) -> GatedCrnn:
        if len(self.block_pools) != len(self.block_channels):
            raise ValueError(f"{len(self.block_channels)} block_channels need as many block_pools")
        return self


class ScaledNetwork(Section):
    """A published network that has one size: `width` times its numbers of channels and units."""

    width: Positive  # 1.0: as published
    time_pooling: ClassVar[int]  # input frames per output frame

    def scaled(self, number: int) -> int:
        """A published number of channels or units, in this width; at least 1."""
        return max(1, round(self.width * number))


class Surrey(ScaledNetwork):
    """One model of Surrey's system (the paper's reference [15])."""

    kind: Literal["surrey"]
    time_pooling = 1


class GcCaps(ScaledNetwork):
    """Gated convolutions and capsules (the paper's reference [17])."""

    kind: Literal["gccaps"]
    time_pooling = 8


class Wang(ScaledNetwork):
    """Wang and Metze's network (the paper's reference [8])."""

    kind: Literal["wang"]
    time_pooling = 4


Network = GatedCrnn | Surrey | GcCaps | Wang


@functools.cache
def known_poolings() -> dict[str, bool]:
    """Functions of `hpsed_lib.pooling`, and whether they give weights; read without importing it, and PyTorch."""
    tree = ast.parse(Path(__file__).with_name("pooling.py").read_text(encoding="utf-8"))
    names = [node.name.rpartition("_") for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name: kind == "weight" for name, _, kind in names if kind in ("weight", "prob")}


class Variants(Section):
    """What is trained with one pooling function: every structure with every seed, 0 to `seeds` - 1."""

    structures: Annotated[tuple[StructureName, ...], Field(min_length=1), AfterValidator(_different)]
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)]
    file: str | None = None  # of your own, relative to the repository, where the function is none of hpsed_lib.pooling


class Pooling(Section):
    """Which variants are trained (Secs. 2.2 and 2.3); `hpsed_lib.pooling` says which of them are not the paper's."""

    functions: Annotated[dict[PoolingName, Variants], Field(min_length=1)]  # in the order of the tables
    segment_lengths: tuple[Count, ...]

    @model_validator(mode="after")
    def _functions_are_known(self) -> Pooling:
        known = known_poolings()
        for name, own in self.functions.items():
            if own.file is None and name not in known:
                [nearest] = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                advice = f"the nearest known one is {nearest!r}; for one of your own give its file"
                raise ValueError(f"unknown pooling function {name!r}; {advice}, {name}: {{file: my_pooling.py, ...}}")
            if own.file is not None and name in known:
                raise ValueError(f"{name!r} is a pooling function of hpsed_lib; give yours in {own.file} another name")
            if own.structures != ("single",) and not known.get(name, True):
                raise ValueError(f"{name!r} gives no weights, so that its only structure is single")
        return self

    def digest(self, name: str) -> str:
        """SHA-256 of the file that a function of your own is in; empty for one of the library's."""
        own = self.functions.get(name)
        if own is None or own.file is None:
            return ""
        if not (ROOT / own.file).is_file():
            raise ParameterError(f"{own.file}: no such file; pooling.functions.{name} names it, relative to {ROOT}")
        return hashlib.sha256((ROOT / own.file).read_bytes()).hexdigest()

    @property
    def variants(self) -> list[tuple[PoolingName, StructureName]]:
        """Every pooling function in each of its structures."""
        return [(name, structure) for name, own in self.functions.items() for structure in own.structures]


class Training(Section):
    """Optimisation (Sec. 3.2)."""

    batch_size: Count
    learning_rate: Positive  # once it has risen
    schedule: Literal["constant", "cosine"]  # see hpsed_lib.training.learning_rate
    warmup_epochs: Annotated[int, Field(ge=0)]  # in which the learning rate rises
    max_epochs: Count
    patience: Count  # epochs without a better validation loss before stopping
    device: Literal["auto", "cpu", "cuda", "mps"]
    balance_ratio: Annotated[float, Field(ge=1)] | None  # see hpsed_lib.training.epoch_order; null: every clip once
    loader_workers: Annotated[int, Field(ge=0)]  # processes that read ahead; 0: the training process reads
    channels_last: bool  # memory layout of the convolutions
    compile: bool  # torch.compile of the convolutions

    @model_validator(mode="after")
    def _warmup_ends(self) -> Training:
        if self.warmup_epochs >= self.max_epochs:
            raise ValueError(f"warmup_epochs must be fewer than max_epochs, {self.max_epochs}")
        return self


class Decoding(Section):
    """From ``frame_prob`` to events (Sec. 2.1: threshold, median filter, ignoring noise)."""

    threshold: Literal["validation"] | Annotated[float, Field(gt=0, lt=1)]  # see hpsed_lib.decoding.choose_threshold
    median_length: Count  # frames, odd
    minimum_gap: Annotated[float, Field(ge=0)]  # shorter gaps are closed
    minimum_duration: Annotated[float, Field(ge=0)]  # then shorter events are dropped

    @model_validator(mode="after")
    def _median_is_odd(self) -> Decoding:
        if self.median_length % 2 == 0:
            raise ValueError(f"median_length must be odd, got {self.median_length}")
        return self


class Scoring(Section):
    """Segment-based metrics (Sec. 3.3)."""

    time_resolution: Positive


class Comparison(Section):
    """What `hpsed_lib.comparison` tests, fixed before anything is trained."""

    family: Annotated[tuple[PoolingName, ...], AfterValidator(_different)]  # tested: appendix against single, tuned F1
    equivalence: Positive  # points of F1 that two variants may differ by and count as equivalent


class Resources(Section):
    """What the job of one run asks of a cluster; GPUs: see `Training.device`."""

    memory: Count  # MB (2**20 bytes, as Slurm counts)
    run_time: Count  # minutes
    threads: Count  # here too; they change the order in which numbers are added up, and so a result's last bits


class Experiment(Section):
    """One file of ``params/``. Its ``name`` is the file's stem, everywhere."""

    name: str
    title: Annotated[str, Field(pattern=r"^[^|<>\r\n]+$")]  # it stands in tables
    data: Annotated[SyntheticData | RecordedData | Dcase2017Data | FolderData, Field(discriminator="source")]
    features: Features
    network: Annotated[Network, Field(discriminator="kind")]
    pooling: Pooling
    training: Training
    decoding: Decoding
    own_decoding: Decoding | None = None  # a published system's own, with its threshold: a second score
    scoring: Scoring
    comparison: Comparison
    resources: Resources

    @property
    def n_frames(self) -> int:
        """Feature frames in a clip."""
        return round(self.data.clip_duration / self.features.hop_duration)

    @property
    def n_output_frames(self) -> int:
        """Frames of ``frame_prob`` in a clip."""
        return self.n_frames // self.network.time_pooling

    @property
    def frame_duration(self) -> float:
        """Seconds per frame of ``frame_prob``."""
        return self.features.hop_duration * self.network.time_pooling

    def runs(self) -> list[str]:
        """Names of all runs: pooling-structure-seedN, in the order of the tables."""
        return [
            run_name(pooling, structure, seed)
            for pooling, structure in self.pooling.variants
            for seed in range(self.pooling.functions[pooling].seeds)
        ]

    @property
    def has_tuning_clips(self) -> bool:
        """Whether there are clips with strong labels, other than the test clips, to choose thresholds on."""
        if isinstance(self.data, Dcase2017Data):
            return self.data.test_set == "evaluation"
        return not isinstance(self.data, FolderData) or self.data.strong_labels.validation is not None

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Experiment:
        if self.decoding.threshold == "validation" and not self.has_tuning_clips:
            needed = "validation needs clips with strong labels beside the test clips"
            raise ValueError(f"decoding.threshold: {needed}; give a number")
        if self.own_decoding and self.own_decoding.threshold == "validation":
            raise ValueError("own_decoding.threshold: validation is what decoding.threshold is for; give a number")
        for name in self.comparison.family:
            if not {(name, "single"), (name, "appendix")} <= set(self.pooling.variants):
                raise ValueError(f"comparison.family names {name}: pooling.functions needs its single and its appendix")
        fmax = self.features.fmax or self.data.sample_rate / 2
        if not self.features.fmin < fmax <= self.data.sample_rate / 2:
            raise ValueError(f"features need fmin < fmax <= {self.data.sample_rate / 2:g} Hz, half the sample rate")
        if self.n_frames % self.network.time_pooling and isinstance(self.network, GatedCrnn):  # others cut off the end
            raise ValueError(f"{self.n_frames} frames are not a multiple of the pools' {self.network.time_pooling}")
        lengths = list(self.pooling.segment_lengths)
        if self.n_output_frames % math.prod(lengths):
            raise ValueError(f"segment_lengths {lengths} do not divide {self.n_output_frames} frames")
        return self


def require_available(experiment: Experiment, *, data_folder: str = "", download: bool = False) -> None:
    """Refuse at once an experiment whose data cannot be had, saying what to do."""
    source = experiment.data.source
    if data_folder and not (ROOT / data_folder).is_dir():
        raise DataError(f"{data_folder}: no such folder; it must hold the recordings")
    if download and source == "esc50":
        raise DataError("only ESC-10 can be fetched; for ESC-50 give DATA=<its folder>")
    if data_folder or source == "synthetic" or (download and source == "esc10"):
        return
    what = {
        "dcase2017": "the audio of DCASE 2017 Task 4: give DATA=<the folder of it> (in notebook 01: data_folder), and "
        "DOWNLOAD=1 if the label files are not in it; `make dcase2017-audio DATA=<folder>` fetches what there still is",
        "folder": "DATA=<the folder of its audio and label files>",
        "esc10": "recordings of ESC10 to mix: give DATA=<its folder>, or DOWNLOAD=1 to fetch ESC-10 (about 30 MB)",
        "esc50": "recordings of ESC50 to mix: give DATA=<its folder>",
    }
    raise DataError(f"experiment {experiment.name!r} needs {what[source]}")


def run_name(pooling: str, structure: str, seed: int) -> str:
    """Name of one run, the stem of all its files."""
    return f"{pooling}-{structure}-seed{seed}"


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML loader that refuses a key given twice in one mapping, and aliases, which multiply without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not read", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _tuple(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> tuple[Any, ...]:
    return tuple(loader.construct_sequence(node, deep=True))


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:seq", _tuple)  # the form that the frozen models hold


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors."""
    where = ".".join(map(str, error["loc"])) or "the file"
    given = error.get("input")
    hint = ""
    if error["type"] == "float_type" and isinstance(given, str) and re.fullmatch(r"[-+]?\d+e[-+]?\d+", given):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
    shown = "" if isinstance(given, dict) or error["type"] == "missing" else f", got {given!r}{hint}"
    return f"{where}: {error['msg'].removeprefix('Value error, ')}{shown}"


def load_experiment(name: str | Path) -> Experiment:
    """Load one experiment: by the stem of a file in ``params/``, or by a YAML file's path, whose stem names it."""
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else PARAMS / f"{name}.yaml"
    if len(path.name) > 100 or not path.is_file():  # files of runs are named after an experiment
        known = sorted(file.stem for file in PARAMS.glob("*.yaml"))
        raise ParameterError(f"no experiment {str(name)!r}: {path} does not exist; known: {', '.join(known)}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise ParameterError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: expected sections ({', '.join(Experiment.model_fields)}), got {content!r}")
    if "name" in content:
        raise ParameterError(f"{path}: unknown key 'name'; the file's own name is the experiment's name")
    try:
        return Experiment.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        lines = "\n  ".join(_explain(item) for item in error.errors())
        raise ParameterError(f"{path}:\n  {lines}") from None


def with_seeds(experiment: Experiment, n_seeds: int) -> Experiment:
    """The experiment with `n_seeds` seeds of every variant in place of its own; with 0, the experiment as it is."""
    if not 0 <= n_seeds <= MOST_SEEDS:
        raise ParameterError(f"SEEDS must be 1 to {MOST_SEEDS}, or 0 for the experiment's own seeds, got {n_seeds}")
    if n_seeds == 0:
        return experiment
    pooling = experiment.pooling
    functions = {name: own.model_copy(update={"seeds": n_seeds}) for name, own in pooling.functions.items()}
    return experiment.model_copy(update={"pooling": pooling.model_copy(update={"functions": functions})})


NOT_OF_A_RUN = {"pooling": ("functions",), "resources": ("memory", "run_time")}


def run_settings(parameters: dict[str, Any]) -> dict[str, Any]:
    """The part of an experiment's parameters, as a metrics file holds them, that one run's result rests on."""
    return {
        section: {key: value for key, value in content.items() if key not in NOT_OF_A_RUN.get(section, ())}
        for section, content in parameters.items()
        if section not in ("name", "title", "comparison") and content is not None
    }
