"""Fill a folder with the audio of DCASE 2017 Task 4: ``python -m hpsed_lib.data.dcase2017.audio --data FOLDER``.

The clips are those of the published label files, which are looked for below the folder and fetched if they are not
there. What is in archives at hand is unpacked, the rest is fetched from YouTube, and in the end the command says how
much of each set is there and why the rest is not. Run again it goes on: a clip that is there is not touched, one known
to be out of reach is not asked for. One process at a time fills a folder.

Tested against a server on loopback only (`hpsed_lib.data.dcase2017.fetching`).
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpsed_lib.data.dcase2017.archives import unpack
from hpsed_lib.data.dcase2017.clips import REASONS, Clip, missing, parse_clip, read_failures
from hpsed_lib.data.dcase2017.fetching import SR, Site, fetch, required_bytes
from hpsed_lib.data.dcase2017.labels import WEAK_FILES, clip_names
from hpsed_lib.errors import DataError, HpsedError
from hpsed_lib.paths import FAILURES

SETS = ("training", "development")  # those of params/paper.yaml
LOCK = ".audio.lock"


def list_clips(name: str, folder: Path) -> list[Clip]:
    """List the clips of one set, by its published label file below `folder`, or fetched.

    Raises
    ------
    DataError
        The label file is neither there nor to be had, or it is another one than was published.
    """
    try:
        return [parse_clip(clip) for clip in clip_names(name, folder=folder, download=True)]
    except DataError as error:
        raise DataError(
            f"{error}; {' or '.join(WEAK_FILES[name])}, as published, can also be put into {folder}"
        ) from error


def coverage(folder: Path, sets: Mapping[str, Sequence[Clip]]) -> str:
    """Say how many clips of each set are there, and why the others are not.

    Parameters
    ----------
    folder : Path
        Folder of the audio.
    sets : dict of sequence of Clip
        Clips by the name of their set.

    Returns
    -------
    str
        One line per set, then one per reason.
    """
    lines, reasons = [], Counter[str]()
    failures = read_failures(folder)
    for name, clips in sets.items():
        absent = missing(folder, clips)
        n_there = len(clips) - len(absent)
        lines.append(f"{name}: {n_there:,} of {len(clips):,} clips ({n_there / len(clips):.1%})")
        reasons.update(failures[clip.name].reason if clip.name in failures else "" for clip in absent)
    for reason, count in reasons.most_common():
        lines.append(f"  {count:,} {reason}: {REASONS[reason]}" if reason else f"  {count:,} not asked for yet")
    if failures:
        lines.append(f"Every clip that failed, with its reason: {folder / FAILURES}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, 1 if the site turned everything away, or 2 if it could not begin or go on."""
    options = _parser().parse_args(arguments)
    folder: Path = options.data.expanduser()
    try:
        site = Site(**{name: getattr(options, name) for name in Site.__dataclass_fields__})
        sets = {name: list_clips(name, folder) for name in options.sets}
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{folder}: another process is filling it; wait for its end, or stop it") from None
            turned_away = _fill(folder, list(dict.fromkeys(itertools.chain(*sets.values()))), site, options)
    except (HpsedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(coverage(folder, sets))
    if turned_away:
        print(
            f"error: {site.refusals} tries in a row were turned away, so that nothing more was asked. Wait some hours, "
            "then run the same command again, with a longer --interval, with --cookies or after an update of yt-dlp.",
            file=sys.stderr,
        )
    return int(turned_away)


def _fill(folder: Path, clips: Sequence[Clip], site: Site, options: argparse.Namespace) -> bool:
    """Unpack, then fetch; whether the site turned everything away."""
    for left in itertools.chain(folder.glob(".Y*.wav"), folder.glob(".failures.*.csv")):  # by runs that were killed
        left.unlink()
    if options.archives:
        unpack(options.archives, folder, missing(folder, clips), jobs=options.jobs)
    if options.no_fetch:
        return False
    absent = missing(folder, clips)
    n_bytes, free = required_bytes(absent, sr=options.sr), shutil.disk_usage(folder).free
    print(f"{len(absent):,} of {len(clips):,} clips to go: {n_bytes / 1e9:.1f} GB at most, {free / 1e9:.1f} GB free")
    return fetch(absent, folder, site=site, sr=options.sr, retry=options.retry)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hpsed_lib.data.dcase2017.audio",
        description="Fill a folder with the audio of DCASE 2017 Task 4; run it again to go on.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder to fill")
    parser.add_argument("--sets", nargs="+", choices=tuple(WEAK_FILES), default=SETS, help="default: " + " ".join(SETS))
    parser.add_argument("--archives", nargs="+", type=Path, default=[], help="published zip files, or folders of them")
    parser.add_argument("--no-fetch", action="store_true", help="only unpack, and say what is there")
    parser.add_argument("--retry", action="store_true", help="ask again for clips known to be out of reach")
    parser.add_argument("--sr", type=int, default=SR, help="rate of what is fetched, in Hz (default: %(default)s)")
    for name, text in (
        ("address", "of a video, with {video} for its id"),
        ("jobs", "clips at a time"),
        ("interval", "seconds between the starts of two requests"),
        ("timeout", "seconds without a byte before a request is given up"),
        ("retries", "further tries of a clip"),
        ("backoff", "seconds before the first of them, doubling with each"),
        ("refusals", "tries turned away in a row, after which nothing more is asked"),
    ):
        default = getattr(Site, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument("--cookies", type=Path, help="file of cookies in Netscape's format, for videos with a login")
    return parser


if __name__ == "__main__":
    sys.exit(main())
