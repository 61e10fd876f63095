"""The golden model: a real GGUF model built from code, whose every answer is one known sentence.

It proves the path (image, unit, front door, client, streaming, usage) with a real engine and real tokens, and
nothing about quality. How: one layer whose attention and feed-forward weights are zero, one-hot embeddings, and
an output matrix in which the row of the next word has a weight at the column of the current token. So the reply
follows from the last token alone: chat template end or any byte → first word → … → last word → end of text.

The file is written with `struct` alone, byte for byte the same on every machine, Python and library version.
Source: GGUF specification version 3 (ggml documentation, docs/gguf.md), checked 2026-11.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from aifactory import paths
from aifactory.errors import Exit, fail

REPLY = "I am a test model with constructed weights: this fixed sentence proves the path, not any knowledge."
"""What the model answers to anything (engines return it with a leading space)."""

SHA256 = "345e1b4899f56b6e97721c5a3188b06577f0c4b77d72bf6c483ed62abdb38001"
"""Digest of the file that `content()` makes; equals the catalogue's row and is tested against it."""

FILE = f"{SHA256}.gguf"
CONTEXT_TOKENS = 4096
WIDTH = 288
"""Embedding width. One column a token, a multiple of the 32-wide attention heads."""

_HEADS = 9
_FEED_FORWARD = 32
_NEXT_WEIGHT = 8.0
"""Logit gap = 8 × √288 ≈ 136, so that the reply is the same at every temperature a client may send (0 … 2)."""

_ALIGNMENT = 32
_F32, _F16 = 0, 1  # ggml tensor types
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9  # GGUF value types
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6  # token types
_BOS, _EOS, _USER, _ASSISTANT = 1, 2, 3, 4
_FIRST_BYTE = 5
_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<|user|>{% else %}<|assistant|>{% endif %}{{ m.content }}"
    "{% endfor %}<|assistant|>"
)


def build(path: Path) -> str:
    """Writes the model to `path` in one step (never half a file) and returns its SHA-256."""
    data = content()
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"golden model has digest {digest}, recorded is {SHA256}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return digest


def verify(path: Path, sha256: str) -> None:
    """Raises ProblemError(FAILED) unless `path` holds exactly the bytes with that digest."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise fail(
            "SRV-001",
            f"{path} has SHA-256 {found}, expected {sha256}.",
            code=Exit.FAILED,
            fix=f"rm {path}   (it is made again by the next run)",
        )


def folder() -> Path:
    """Where model files are kept on the controller."""
    return paths.cache() / "models"


def ensure(folder: Path) -> Path:
    """`<folder>/<sha256>.gguf`, built when it is missing or damaged."""
    path = folder / FILE
    if path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == SHA256:
                return path
    build(path)
    return path


def content() -> bytes:
    """The whole file: header, key-value pairs, tensor index, aligned tensor data."""
    tensors = list(_tensors())
    pairs = list(_pairs())
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
    for key, value in pairs:
        out += _string(key) + value
    offset = 0
    for name, shape, kind, data in tensors:
        out += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += len(data) + -len(data) % _ALIGNMENT
    out += bytes(-len(out) % _ALIGNMENT)
    for *_, data in tensors:
        out += data + bytes(-len(data) % _ALIGNMENT)
    return bytes(out)


def _words() -> list[str]:
    """The reply cut into unique tokens, each with its leading space."""
    words = [f" {word}" for word in REPLY.split()]
    if len(set(words)) != len(words):
        raise ValueError("every word of REPLY must be unique: the next word follows from the last one alone")
    return words


def _vocabulary() -> list[tuple[str, int]]:
    special = [
        ("<unk>", _UNKNOWN),
        ("<s>", _CONTROL),
        ("</s>", _CONTROL),
        ("<|user|>", _CONTROL),
        ("<|assistant|>", _CONTROL),
    ]
    tokens = special + [(f"<0x{byte:02X}>", _BYTE) for byte in range(256)]
    tokens += [(word.replace(" ", "\u2581"), _NORMAL) for word in _words()]
    tokens += [(f"<unused{n}>", _CONTROL) for n in range(WIDTH - len(tokens))]
    return tokens


def _pairs() -> Iterator[tuple[str, bytes]]:
    tokens = _vocabulary()
    yield "general.architecture", _text("llama")
    yield "general.name", _text("aifactory constructed test model")
    yield "general.license", _text("Apache-2.0")
    yield (
        "general.description",
        _text("Constructed test weights: answers one fixed sentence. No knowledge, no training data."),
    )
    yield "general.alignment", _uint(_ALIGNMENT)
    yield "general.file_type", _uint(_F16)
    yield "llama.context_length", _uint(CONTEXT_TOKENS)
    yield "llama.embedding_length", _uint(WIDTH)
    yield "llama.block_count", _uint(1)
    yield "llama.feed_forward_length", _uint(_FEED_FORWARD)
    yield "llama.attention.head_count", _uint(_HEADS)
    yield "llama.attention.head_count_kv", _uint(_HEADS)
    yield "llama.attention.layer_norm_rms_epsilon", struct.pack("<If", _FLOAT32, 1e-5)
    yield "llama.rope.dimension_count", _uint(WIDTH // _HEADS)
    yield "llama.vocab_size", _uint(WIDTH)
    yield "tokenizer.ggml.model", _text("llama")
    yield "tokenizer.ggml.tokens", _array(_STRING, [_string(token) for token, _ in tokens])
    yield "tokenizer.ggml.scores", _array(_FLOAT32, [struct.pack("<f", 0.0)] * len(tokens))
    yield "tokenizer.ggml.token_type", _array(_INT32, [struct.pack("<i", kind) for _, kind in tokens])
    yield "tokenizer.ggml.bos_token_id", _uint(_BOS)
    yield "tokenizer.ggml.eos_token_id", _uint(_EOS)
    yield "tokenizer.ggml.unknown_token_id", _uint(0)
    yield "tokenizer.ggml.add_bos_token", struct.pack("<IB", _BOOL, 1)
    yield "tokenizer.ggml.add_eos_token", struct.pack("<IB", _BOOL, 0)
    yield "tokenizer.ggml.add_space_prefix", struct.pack("<IB", _BOOL, 0)
    yield "tokenizer.chat_template", _text(_TEMPLATE)


def _tensors() -> Iterator[tuple[str, tuple[int, ...], int, bytes]]:
    """Name, shape (fastest dimension first), type, bytes."""
    ones = struct.pack("<f", 1.0) * WIDTH
    square, wide = bytes(2 * WIDTH * WIDTH), bytes(2 * WIDTH * _FEED_FORWARD)
    yield "token_embd.weight", (WIDTH, WIDTH), _F16, _matrix({(token, token): 1.0 for token in range(WIDTH)})
    yield "blk.0.attn_norm.weight", (WIDTH,), _F32, ones
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        yield f"blk.0.{name}.weight", (WIDTH, WIDTH), _F16, square
    yield "blk.0.ffn_norm.weight", (WIDTH,), _F32, ones
    yield "blk.0.ffn_gate.weight", (WIDTH, _FEED_FORWARD), _F16, wide
    yield "blk.0.ffn_up.weight", (WIDTH, _FEED_FORWARD), _F16, wide
    yield "blk.0.ffn_down.weight", (_FEED_FORWARD, WIDTH), _F16, wide
    yield "output_norm.weight", (WIDTH,), _F32, ones
    yield "output.weight", (WIDTH, WIDTH), _F16, _matrix(_next_words())


def _next_words() -> dict[tuple[int, int], float]:
    """(row of the next token, column of the current one) → weight."""
    first = _FIRST_BYTE + 256
    last = first + len(_words()) - 1
    cells = {(token + 1 if token < last else _EOS, token): _NEXT_WEIGHT for token in range(first, last + 1)}
    for token in (*range(first), *range(last + 1, WIDTH)):
        cells[first, token] = _NEXT_WEIGHT
    return cells


def _matrix(cells: dict[tuple[int, int], float]) -> bytes:
    data = bytearray(2 * WIDTH * WIDTH)
    for (row, column), value in cells.items():
        struct.pack_into("<e", data, 2 * (row * WIDTH + column), value)
    return bytes(data)


def _string(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _text(value: str) -> bytes:
    return struct.pack("<I", _STRING) + _string(value)


def _uint(value: int) -> bytes:
    return struct.pack("<II", _UINT32, value)


def _array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, kind, len(items)) + b"".join(items)
