"""Published files, each checked against the SHA-256 that stands in a list beside the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from hpsed_lib.errors import DataError

RETRIES = 3


def read_registry(path: Path) -> dict[str, str]:
    """SHA-256 by address, from a file as ``sha256sum`` writes it."""
    lines = [line.split("  ", 1) for line in path.read_text().splitlines()]
    return {address: checksum for checksum, address in lines}


def fetch_published(base_url: str, registry: Mapping[str, str], folder: Path, *, or_else: str = "") -> None:
    """Fetch the files of a registry that are not in a folder yet, so that an interrupted call goes on.

    One that cannot be fetched, or is not the published one, is an error; `or_else` says what else could be done.
    """
    import pooch  # here, because it greets every notebook with a warning about missing widgets

    urls = {address: base_url + quote(address) for address in registry}
    fetcher = pooch.create(folder, base_url, registry=dict(registry), urls=urls, retry_if_failed=RETRIES)
    for address, url in urls.items():
        try:
            fetcher.fetch(address)
        except (OSError, ValueError) as error:
            raise DataError(f"{url}: could not be fetched ({error}){or_else}") from error
