"""Files written whole or not at all, and JSON with a checksum of what it says."""

import errno
import fcntl
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from simreg_core.lab.errors import OneLineError

A_DAY = 86_400  # seconds


class StoreError(OneLineError):
    """A file of the store that is corrupt, does not fit, or cannot be written; the message names it."""


class DiskFull(StoreError):
    """No space is left on the disk, for nothing else either."""


def sealed(text: str) -> str:
    """JSON text of an object with one more entry before the others, 'checksum', of what the others say.

    text: with indent=1.  The checksum is of the values, not of their spelling: of the text that Python's json writes
    with sorted keys and without spaces or line breaks, in ASCII.
    """
    document = json.loads(text)
    return f'{{\n "checksum": "{_checksum(document)}"{"," if document else ""}{text[1:]}'


def unsealed(content: bytes, what: str, remedy: str) -> dict:
    """The object of a text from `sealed`, without its checksum.

    what: names the file.  remedy: what to do; both for the StoreError where it was changed or has no checksum.
    """
    try:
        document = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{what} is corrupt: {error}; {remedy}") from error
    if not isinstance(document, dict):
        raise StoreError(f"{what} is corrupt: it holds no JSON object; {remedy}")
    checksum = document.pop("checksum", None)
    if checksum != _checksum(document):
        raise StoreError(f"{what} is corrupt or edited: {wrong_checksum(checksum)}; {remedy}")
    return document


def _checksum(document: dict) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def wrong_checksum(checksum: str | None) -> str:
    """Why a checksum is refused, in words.  None: there is none."""
    return "it has no checksum" if checksum is None else f"its checksum {checksum!r:.40} does not fit its content"


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a file.  what: names it.  Raises StoreError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"{what} cannot be read: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def note(path: Path, text: str) -> None:
    """Write a text file that only saves work later: where it cannot be written, there is none."""
    with suppress(StoreError):
        write_text(path, text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that replaces it at the end, or is removed where writing failed.

    Raises StoreError, also where the disk is full.
    """
    # machines that share a disk may have processes of the same number
    temporary = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _settle(path.parent)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            raise DiskFull(f"cannot write {path}: no space left on the disk") from error
        raise StoreError(f"cannot write {path}: {error}") from error
    finally:
        with suppress(OSError):  # a read-only disk refuses it, even where there is nothing to remove
            temporary.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Bring a folder's list of files to the disk: a new name would else be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not every file system can
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_left_behind(path: Path) -> bool:
    """Whether a file is a temporary one of `written_whole` whose process is gone.

    Another machine's processes are not known: its files are left behind once they are a day old.
    """
    name, _, process = path.name.rpartition(".")
    if not (name.startswith(".") and "." in name[1:] and process.isdecimal() and path.is_file()):
        return False
    if name.endswith(f".{_machine()}"):
        return not _is_running(int(process))
    return time.time() - path.stat().st_mtime > A_DAY


def _machine() -> str:
    return platform.node() or "machine"


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def alone_in(folder: Path, doing: str) -> Iterator[None]:
    """Held while a process writes into a folder; another waits, and says so.  doing: what it does, for that message.

    No file is written for it, and it ends with its process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process {doing} there; waiting for it", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
