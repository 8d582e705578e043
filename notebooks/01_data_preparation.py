# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # 01 Data preparation
#
# Makes or reads the clips, labels and features of one experiment, and shows them. Training will see the weak labels
# only (which classes sound in a clip); the strong labels (onset, offset) serve for choosing thresholds and for scoring
# the test clips.
#
# > The experiments `quick` and `esc10` use soundscapes that we make. A score on them says nothing about DCASE 2017
# > Task 4, the paper's data set (Sec. 3.1).

# %%
from hpsed_lib.provenance import setting

print(setting("librosa", "numpy", "pandas"))

# %% tags=["parameters"]
experiment: str = "quick"  # name of a file in params/
data_folder: str = ""  # folder of recordings, if the experiment needs one; relative to the repository
download: bool = False  # fetch what is public and small: ESC-10, the label files of DCASE 2017 Task 4

# %%
from hpsed_lib.notebook import check_parameters

check_parameters()

# %% [markdown]
# ## 1 The experiment's choices

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import yaml
from IPython.display import Audio, display

from hpsed_lib import dataset, plots
from hpsed_lib.data.audio import read_audio
from hpsed_lib.data.labels import remarks_by_kind
from hpsed_lib.data.manifest import FLAGS, coverage_by_class, coverage_line, warning, what_was_done
from hpsed_lib.params import SPLITS, load_experiment
from hpsed_lib.progress import is_headless

plots.use_style()
pd.set_option("display.max_colwidth", None)
choices = load_experiment(experiment)
print(choices.title)
print(yaml.safe_dump(choices.model_dump(mode="json", include={"data", "features"}), sort_keys=False))

# %% [markdown]
# ## 2 Clips and features
#
# Sec. 3.2: 40 ms frames with 50 % overlap, 80 mel filters, a 500 x 80 matrix for a clip of 10 s.
#
# > Frame $k$ is centred on $(k + 1/2) \cdot 20$ ms, so that there are exactly 500 of them and frame $k$ describes the
# > $k$-th slot of 20 ms. Bands are normalised with the mean and deviation of the training clips only.

# %%
data = dataset.prepare(choices, data_folder=data_folder, download=download)
print(f"{len(data.classes)} classes; SHA-256 of recordings and labels: {data.checksum}")
print(coverage_line(data.report))
print(warning(data.report, stand_in=data.stand_in))
pd.DataFrame(data.report).T[["listed", "used"]]

# %% [markdown]
# What is odd about recordings, and how many clips of each split it holds for. Nothing is made louder, shifted or
# mended: a flag is there to be looked at before training.

# %%
what_was_done(data.report)

# %%
manifest = dataset.read_manifest(choices)
flags = [flag for flag in FLAGS if flag not in ("resampled", "mixed_down", "padded", "cut")]
odd = manifest[(manifest.state != "present") | manifest[flags].any(axis=1)]
odd = odd.sort_values("state", ascending=False, kind="stable")  # unreadable, present, missing
print(f"{len(odd):,} clips that are not as they should be, the first 20 of them here")
odd[["split", "filename", "state", *flags, "duration", "reason"]].head(20)

# %% [markdown]
# Clips of each class, as the label files list them and as there is audio to use:

# %%
weak = dataset.read_table(choices, "weak_labels")
coverage_by_class(manifest, weak, data.classes)

# %% [markdown]
# Odd rows of the label files, by kind. Labels are never changed: a row is either refused, with an error that names its
# file and line, or kept and counted here. Some kinds belong to no row: they are about labels and recordings together.

# %%
remarks_by_kind(dataset.read_table(choices, "remarks"))

# %% [markdown]
# ## 3 What training sees: weak labels

# %%
splits = {split: getattr(data, split) for split in SPLITS}  # training, validation, test
figure, ax = plt.subplots(figsize=(8, 0.35 * len(data.classes) + 1.2))
plots.plot_class_balance({name: split.weak_target for name, split in splits.items()}, data.classes, ax=ax)
plt.show()

# %% [markdown]
# ## 4 What scoring sees: strong labels

# %%
strong = pd.concat({name: split.strong_labels for name, split in splits.items()}, names=["split"]).reset_index("split")
strong["duration (s)"] = strong.offset - strong.onset
strong.groupby(["split", "event_label"])["duration (s)"].describe()[["count", "mean", "min", "max"]].round(2)

# %%
overlap = dataset.overlap_share(strong, classes=data.classes, clip_duration=choices.data.clip_duration)
overlap.round(3).to_frame("share of sounding time with two classes or more")

# %% [markdown]
# ## 5 No source sound in two splits
#
# Every event or clip has a source: the seed of a synthetic sound, the Freesound recording or the video that it was cut
# from. None of ours lies in two splits; where published sets share a video, it stays, and is counted above.

# %%
dataset.shared_sources(choices)

# %% [markdown]
# ## 6 A clip

# %%
clip = int(np.argmax(data.test.weak_target.sum(1)))
events = data.test.strong_labels.query("filename == @data.test.filenames[@clip]")
figure, axes = plt.subplots(2, 1, figsize=(10, 5), height_ratios=(3, 1), sharex=True)
plots.plot_spectrogram(data.test.features[clip], hop_duration=choices.features.hop_duration, ax=axes[0])
plots.plot_events(events, clip_duration=choices.data.clip_duration, ax=axes[1])
axes[0].set(title=f"test clip {data.test.filenames[clip]}", xlabel="")
plt.show()

# %% [markdown]
# Run the next cell in JupyterLab to listen to it; the executed copy leaves the sound out to stay small.

# %%
path = dataset.recording_of(choices, data.test.filenames[clip])
print(data.test.filenames[clip])
if not is_headless():
    display(Audio(read_audio(path, sr=choices.data.sample_rate).y, rate=choices.data.sample_rate))
