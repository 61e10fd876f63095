"""The golden model. Real: the file, the GGUF reader of the gguf package, the catalogue."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from aifactory import catalog
from aifactory.errors import ProblemError
from aifactory.serving import golden


def test_content_has_the_recorded_digest() -> None:
    assert hashlib.sha256(golden.content()).hexdigest() == golden.SHA256


def test_content_needs_no_package_whose_versions_could_change_it() -> None:
    code = (
        "import sys; from aifactory.serving import golden; golden.content(); print({'numpy', 'gguf'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_catalogue_has_one_row_with_this_digest_and_the_same_numbers() -> None:
    rows = [model for model in catalog.models().values() if model.sha256 == golden.SHA256]
    assert [row.hub_id for row in rows] == [None]
    assert rows[0].context_tokens == golden.CONTEXT_TOKENS
    assert rows[0].layers == 1


def test_every_word_of_the_reply_follows_from_the_last_one(tmp_path: Path) -> None:
    """Walks the output matrix as a greedy engine would, from a byte and from the end of the chat template."""
    gguf = pytest.importorskip("gguf")
    golden.build(tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tokens = [
        str(bytes(reader.fields["tokenizer.ggml.tokens"].parts[i]), "utf-8")
        for i in reader.fields["tokenizer.ggml.tokens"].data
    ]
    output = next(t for t in reader.tensors if t.name == "output.weight").data
    for start in ("<0x41>", "<|assistant|>", "<s>"):
        token, text = tokens.index(start), ""
        while (token := int(output[:, token].argmax())) != tokens.index("</s>"):
            text += tokens[token].replace("\u2581", " ")
        assert text == " " + golden.REPLY


def test_build_writes_the_file_and_nothing_else(tmp_path: Path) -> None:
    assert golden.build(tmp_path / "models" / "m.gguf") == golden.SHA256
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m.gguf"]


def test_build_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").mkdir()
    with pytest.raises(OSError, match=r"m\.gguf"):
        golden.build(tmp_path / "m.gguf")
    assert [p.name for p in tmp_path.iterdir()] == ["m.gguf"]


def test_verify_one_wrong_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    golden.build(path)
    golden.verify(path, golden.SHA256)
    data = bytearray(path.read_bytes())
    data[700_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ProblemError, match="SRV-001"):
        golden.verify(path, golden.SHA256)


def test_ensure_damaged_file_is_made_again(tmp_path: Path) -> None:
    path = golden.ensure(tmp_path)
    path.write_bytes(b"GGUF")
    assert golden.ensure(tmp_path) == path
    golden.verify(path, golden.SHA256)
