"""Files are written whole or not at all; JSON is sealed with a checksum."""

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from simreg_core.lab import files
from simreg_core.lab.files import StoreError, alone_in, note, sealed, unsealed, write_text
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


def test_a_new_name_is_brought_to_the_disk_with_its_folder(tmp_path, monkeypatch):
    brought, fsync = [], files.os.fsync

    def note(descriptor):
        brought.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", note)
    write_text(tmp_path / "value.json", "new")
    assert brought[1:] == [tmp_path]
    assert brought[0].parent == tmp_path


def test_what_a_killed_process_left_behind_is_told_from_what_another_writes(tmp_path):
    def left(name, age=0.0):
        path = tmp_path / name
        path.write_text("")
        os.utime(path, (time.time() - age,) * 2)
        return files.is_left_behind(path)

    here, gone = platform.node(), 2**22 + 1  # Linux has no process of this number
    assert left(f".a.json.{here}.{gone}")
    assert not left(f".a.json.{here}.{os.getpid()}", 1e6)
    assert not left(f".a.json.other.{gone}")
    assert left(f".a.json.other.{gone}", 1e6)
    assert not left(".a.json", 1e6)
    assert not left(f"a.json.{here}.{gone}", 1e6)


def test_what_cannot_be_written_is_said_and_what_only_saves_work_is_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"):
        write_text(tmp_path / "file" / "value.json", "new")
    note(tmp_path / "file" / "value.json", "new")


def test_two_processes_write_into_a_folder_one_after_the_other(tmp_path):
    code = "import sys, pathlib\nfrom simreg_core.lab.files import alone_in\nfolder = pathlib.Path(sys.argv[1])\n"
    code += "with alone_in(folder, 'draws'): print((folder / 'first').read_text())"
    with alone_in(tmp_path / "figures", "draws"):
        other = subprocess.Popen([sys.executable, "-c", code, tmp_path / "figures"], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == f"{tmp_path / 'figures'}: another process draws there; waiting for it\n"
        (tmp_path / "figures" / "first").write_text("done")
    assert other.communicate(timeout=60)[0] == "done\n"
