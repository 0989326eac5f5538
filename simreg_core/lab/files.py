"""Files written whole or not at all, and JSON with a checksum of what it says."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


class StoreError(ValueError):
    """A file of the store that is corrupt, does not fit, or cannot be written; the message names it."""


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
        temporary.write_text(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that replaces it at the end, or is removed where writing failed.

    Raises StoreError, also where the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
        reason = "no space left on the disk" if full else str(error)
        raise StoreError(f"cannot write {path}: {reason}") from error
    finally:
        temporary.unlink(missing_ok=True)
