"""Fill a folder with the audio of DCASE 2017 Task 4: ``python -m hpsed_lib.data.dcase2017.audio --data FOLDER``.

The clips are those of the published label files, which are fetched if they are not below the folder. What is in
archives at hand is unpacked, the rest is fetched from YouTube, and in the end the command says how much of each set is
there and why the rest is not. Run again it goes on. One process at a time fills a folder.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from hpsed_lib.data.dcase2017.archives import unpack
from hpsed_lib.data.dcase2017.clips import REASONS, missing, read_failures
from hpsed_lib.data.dcase2017.fetching import Site, fetch
from hpsed_lib.data.dcase2017.labels import WEAK_FILES, clip_names
from hpsed_lib.errors import HpsedError
from hpsed_lib.paths import FAILURES
from hpsed_lib.processes import only_one

SETS = ("training", "development")  # those of params/paper.yaml
LOCK = ".audio.lock"


def coverage(folder: Path, sets: Mapping[str, Sequence[str]]) -> str:
    """Say how many clips of each set are there, and why the others are not: a line per set, then one per reason."""
    lines, reasons, failures = [], Counter[str](), read_failures(folder)
    for name, clips in sets.items():
        absent = missing(folder, clips)
        n_there = len(clips) - len(absent)
        lines.append(f"{name}: {n_there:,} of {len(clips):,} clips ({n_there / len(clips):.1%})")
        reasons.update(failures[clip].reason if clip in failures else "" for clip in absent)
    for reason, count in reasons.most_common():
        lines.append(f"  {count:,} {reason}: {REASONS[reason]}" if reason else f"  {count:,} not asked for yet")
    if failures:
        lines.append(f"Every clip that failed, with its reason: {folder / FAILURES}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns 0, 1 if the site turned everything away, or 2 if it could not begin or go on."""
    parser = _parser()
    options = parser.parse_args(arguments)
    folder: Path = options.data.expanduser()
    try:
        site = Site(**{name: getattr(options, name) for name in Site.model_fields})
        sets = {name: clip_names(name, folder=folder, download=True) for name in options.sets}
        clips = list(dict.fromkeys(itertools.chain(*sets.values())))
        with only_one(folder / LOCK, lambda _: None, patience=0):
            unpack(options.archives, folder, clips)
            turned_away = not options.no_fetch and fetch(clips, folder, site=site, retry=options.retry)
    except ValidationError as error:
        parser.error("; ".join(f"--{item['loc'][0]}: {item['msg']}" for item in error.errors()))
    except (HpsedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(coverage(folder, sets))
    if turned_away:
        print(
            f"error: {site.refusals} clips in a row were turned away, so that nothing more was asked. Wait some hours, "
            "then run the same command again, with a longer --interval, with --cookies or after an update of yt-dlp.",
            file=sys.stderr,
        )
    return int(turned_away)


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
    for name, field in Site.model_fields.items():
        kind = Path if field.default is None else type(field.default)
        text = f"{field.description} (default: %(default)s)"
        parser.add_argument(f"--{name}", type=kind, default=field.default, help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
