"""Fetching a file: only when asked to, verified, and resumed where it broke off."""

import hashlib
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from maskcon.errors import InputError
from maskcon.runtime.files import appending, locked, make_folder, rename
from maskcon.runtime.progress import Progress

BLOCK = 1 << 20  # bytes
TIMEOUT = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Remote:
    """A file on the network.

    Attributes:
        url: where its owners keep it.
        md5: checksum that they, or torchvision, publish.
    """

    url: str
    md5: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rpartition("/")[2]

    def fetch(self, folder: Path, progress: Progress) -> Path:
        """Fetch it into a folder; what an earlier attempt left is gone on with.

        What is not verified has no name that is read.

        Raises:
            InputError: it cannot be fetched or written, or is not what it should be.
        """
        part, whole = folder / f"{self.file}.part", folder / self.file
        try:
            make_folder(folder)
            with locked(whole):
                self._download(part, progress)
                with open(part, "rb") as file:
                    digest = hashlib.file_digest(file, "md5").hexdigest()
                if digest != self.md5:
                    part.unlink()
                    raise OSError(f"its checksum is {digest}, not {self.md5}")
                rename(part, whole)
        except (OSError, http.client.HTTPException) as error:
            kept = part.exists() and part.stat().st_size
            raise InputError(
                f"{self.url} could not be fetched into {folder}: {error}. "
                + (f"{kept / 2**20:,.1f} MiB are kept: try again to go on. " if kept else "")
                + "Fetch it by hand, or give --data-dir with a folder that has it"
            ) from error
        return whole

    def _download(self, part: Path, progress: Progress) -> None:
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.url)
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # it was whole already
            raise
        with answer, appending(part) as file:
            if have and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                file.truncate(0)  # a server that sends all of it again
                have = 0
            left = answer.headers.get("Content-Length")
            total = have + int(left) if left else None
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                of = f" of {total / 2**20:,.0f}" if total else ""
                progress.update(f"fetching {self.file}: {have / 2**20:,.0f}{of} MiB")
            if total is not None and have < total:
                raise OSError(f"the connection ended after {have:,} of {total:,} bytes")
