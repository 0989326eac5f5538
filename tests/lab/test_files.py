"""Files are written whole or not at all; JSON is sealed with a checksum."""

import errno

import pytest
import torch

from simreg_core.lab import files
from simreg_core.lab.files import StoreError, sealed, unsealed, write_text
from simreg_core.lab.tensors import write_tensors


def test_a_checksum_is_of_the_values_and_not_of_their_spelling():
    text = sealed('{\n "b": [1e-5, "NaN"],\n "a": "ε"\n}')
    assert text == '{\n "checksum": "9b18a256ec13a2c02d47ddc28c44fd19",\n "b": [1e-5, "NaN"],\n "a": "ε"\n}'
    other = '{"a": "\\u03b5", "b": [0.00001, "NaN"], "checksum": "9b18a256ec13a2c02d47ddc28c44fd19"}'
    assert unsealed(other.encode(), "", "") == {"a": "ε", "b": [1e-5, "NaN"]}
    assert unsealed(sealed("{}").encode(), "", "") == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"checksum": {}}'])
def test_what_no_store_wrote_is_refused(content):
    with pytest.raises(StoreError, match=r"file x is corrupt.*; delete it"):
        unsealed(content, "file x", "delete it")


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    write_text(path, "old")
    monkeypatch.setattr(files.os, "fsync", full_disk)
    with pytest.raises(StoreError, match=f"cannot write {path}: no space left on the disk"):
        write_text(path, "new")
    with pytest.raises(StoreError, match="no space left"):
        write_tensors(tmp_path / "value.safetensors", {"x": torch.zeros(2)}, {})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "value.json", "new")
    assert list(tmp_path.iterdir()) == []
