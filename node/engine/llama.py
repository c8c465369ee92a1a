"""A thin, safe layer over llama.cpp's C interface: its log, models, batches and contexts.

It keeps pointers valid and turns failures into exceptions. A model and a context may be used by one thread at
a time. Checked against llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import llama_cpp as native
import numpy as np
import numpy.typing as npt
from gguf.constants import GGMLQuantizationType

from hypercluster.node.errors import NodeError
from hypercluster.node.rows import Float32s, Tokens

log = logging.getLogger("hypercluster.llama")


class LlamaError(NodeError):
    """llama.cpp refused or failed."""


class LoadFailed(LlamaError):
    """A file could not be loaded as a model."""


class DecodeFailed(LlamaError):
    """llama_decode returned an error; the context holds what it held before the call."""


# --- the library, once per process -------------------------------------------------------------------------

_ERROR, _CONTINUED = 4, 5  # ggml_log_level
# what matters reaches callers as an exception, so nothing here is louder than information
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, _ERROR: logging.INFO}
_lock = threading.Lock()
_started = False


class _LogLines:
    """Joins the pieces that llama.cpp logs into lines and keeps the first complaint of each thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, level: int, text: bytes | None, _data: int | None) -> None:
        local = self._local
        if level != _CONTINUED:
            local.level = level
        local.line = getattr(local, "line", "") + (text or b"").decode("utf-8", "replace")
        while "\n" in local.line:
            line, local.line = local.line.split("\n", 1)
            level = getattr(local, "level", 0)
            log.log(_LEVELS.get(level, logging.DEBUG), "%s", line.rstrip())
            if level == _ERROR and not getattr(local, "complaint", ""):
                local.complaint = line.strip().rstrip(".")

    def forget(self) -> None:
        self._local.complaint = ""

    def complaint(self) -> str:
        return getattr(self._local, "complaint", "") or "it gave no reason"


_log_lines = _LogLines()
_log_callback = native.llama_log_callback(_log_lines)  # a collected callback would be a segfault


def start() -> None:
    """Start llama.cpp's backends and route its log to the logger ``hypercluster.llama``. Idempotent."""
    global _started
    with _lock:
        if not _started:
            native.llama_log_set(_log_callback, ctypes.c_void_p(0))
            native.llama_backend_init()
            _started = True


# --- models ------------------------------------------------------------------------------------------------


_FOUR_POSITIONS = (native.LLAMA_ROPE_TYPE_MROPE, native.LLAMA_ROPE_TYPE_IMROPE)


class LoadedModel:
    """A GGUF file loaded by llama.cpp. Close it after every context made from it.

    Without `repack` the weights stay as they are in the file, where llama.cpp would rearrange some types for the
    processor. `main_gpu` is the one card that computes, by its number, -1 for all there are; `tensor_split` the share
    of the layers that each card takes, empty for as much as its free memory is.
    """

    def __init__(
        self,
        path: Path,
        vocab_only: bool = False,
        gpu_layers: int = -1,
        *,
        repack: bool = True,
        main_gpu: int = -1,
        tensor_split: Sequence[float] = (),
    ) -> None:
        start()
        if not path.is_file():
            raise LoadFailed(f"There is no model file at {path}.")
        params = native.llama_model_default_params()
        params.vocab_only = vocab_only
        params.n_gpu_layers = gpu_layers
        params.use_extra_bufts = repack
        if main_gpu >= 0:
            params.split_mode, params.main_gpu = native.LLAMA_SPLIT_MODE_NONE, main_gpu
        if tensor_split:
            # llama.cpp reads one number for each card that a build of it could have
            shares = (ctypes.c_float * native.llama_max_devices())(*tensor_split)
            params.tensor_split = shares
        _log_lines.forget()
        pointer = native.llama_model_load_from_file(os.fsencode(path), params)
        if not pointer:
            raise LoadFailed(f"llama.cpp cannot load {path}: {_log_lines.complaint()}")
        self.path = path
        self._pointer: Any = pointer
        self.n_vocab: int = native.llama_vocab_n_tokens(self.vocab)
        self.n_layer: int = native.llama_model_n_layer(pointer)
        self.n_embd: int = native.llama_model_n_embd(pointer)
        self.n_ctx_train: int = native.llama_model_n_ctx_train(pointer)
        self.four_positions: bool = native.llama_model_rope_type(pointer) in _FOUR_POSITIONS
        """whether each row of embd has four positions, as the parts of an image have"""
        self.has_cells = not (
            native.llama_model_is_recurrent(pointer) or native.llama_model_is_hybrid(pointer)
        )
        """whether all it remembers is in cells, one for each token, so that the last ones can be forgotten"""

    @property
    def pointer(self) -> Any:
        """The llama_model pointer; raises LlamaError after close()."""
        if self._pointer is None:
            raise LlamaError(f"The model {self.path} is closed.")
        return self._pointer

    @property
    def vocab(self) -> Any:
        """The llama_vocab pointer; raises LlamaError after close()."""
        return native.llama_model_get_vocab(self.pointer)

    def chat_template(self) -> str | None:
        """Return the chat template the file carries, None where it carries none."""
        text = native.llama_model_chat_template(self.pointer, None)
        return text.decode("utf-8") if text else None

    def close(self) -> None:
        """Free the model; calling it again does nothing."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            native.llama_model_free(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- batches -----------------------------------------------------------------------------------------------


class Batch:
    """Rows for one llama_decode, in arrays made once: `tokens` or `embd`, `positions`, `slots`, `wanted`.

    Fill the first n rows and pass n to Context.decode. With `embd` it takes rows from that array (float32
    [size, n_embd]), else token ids (int32 [size]). `four_positions` is the model's.
    """

    def __init__(self, size: int, embd: Float32s | None = None, *, four_positions: bool = False) -> None:
        self.size = size
        self.tokens: Tokens = np.zeros(size if embd is None else 0, np.int32)
        self.positions: Tokens = np.zeros(size, np.int32)
        self.slots: Tokens = np.zeros(size, np.int32)
        self.wanted: npt.NDArray[np.int8] = np.zeros(size, np.int8)
        self._ones: Tokens = np.ones(size, np.int32)
        # token ids get theirs from llama.cpp
        self._four: Tokens | None = None
        if four_positions and embd is not None:
            self._four = np.zeros(4 * size, np.int32)
        step = self.slots.itemsize
        self._slot_addresses = self.slots.ctypes.data + step * np.arange(size, dtype=np.uintp)
        kinds: dict[str, Any] = {field[0]: field[1] for field in native.llama_batch._fields_}
        arrays = {
            "token" if embd is None else "embd": self.tokens if embd is None else embd,
            "pos": self.positions if self._four is None else self._four,
            "n_seq_id": self._ones,
            "seq_id": self._slot_addresses,
            "logits": self.wanted,
        }
        self._keep = embd
        self.struct = native.llama_batch()
        for field, array in arrays.items():
            setattr(self.struct, field, ctypes.cast(array.ctypes.data, kinds[field]))

    def ready(self, n: int) -> Any:
        """The struct of the first n rows."""
        self.struct.n_tokens = n
        if self._four is not None:
            # as llama.cpp itself does for text
            self._four[: 3 * n].reshape(3, n)[:] = self.positions[:n]
            self._four[3 * n : 4 * n] = 0
        return self.struct


# --- contexts ----------------------------------------------------------------------------------------------


class Context:
    """A llama.cpp context: the key-value cache of `sequences` sequences of `n_ctx` tokens each.

    Flash attention is off by default and no sequence shares cells with another. On the CPU flash attention
    splits its sums by thread and by the shape of the batch, and a unified cache mixes the cells of all sequences
    in one sum: with either, the last bits of one session's result would depend on who else is being served; and a
    nan in one session's cells would reach the others (0 x nan). `kv_type` names the cache's type as ggml does;
    a quantised one needs flash attention.
    """

    def __init__(
        self,
        model: LoadedModel,
        n_ctx: int,
        sequences: int,
        threads: int,
        n_batch: int,
        n_ubatch: int,
        eval_callback: Any = None,
        *,
        flash_attention: bool = False,
        kv_type: str = "f16",
    ) -> None:
        params = native.llama_context_default_params()
        params.n_ctx = n_ctx * sequences
        params.n_seq_max = sequences
        params.n_batch = n_batch
        params.n_ubatch = min(n_ubatch, n_batch)
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = (
            native.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash_attention else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.type_k = params.type_v = int(GGMLQuantizationType[kv_type.upper()])
        params.kv_unified = False
        params.no_perf = True
        if eval_callback is not None:
            params.cb_eval = eval_callback
        self._keep = (model, eval_callback)
        self._row = ctypes.c_float * model.n_vocab
        _log_lines.forget()
        pointer = native.llama_init_from_model(model.pointer, params)
        if not pointer:
            raise LlamaError(
                f"llama.cpp cannot make a context of {sequences} x {n_ctx} tokens for {model.path}: "
                f"{_log_lines.complaint()}"
            )
        self._pointer: Any = pointer

    @property
    def pointer(self) -> Any:
        """The llama_context pointer; raises LlamaError after close()."""
        if self._pointer is None:
            raise LlamaError("The context is closed.")
        return self._pointer

    def decode(self, batch: Batch, n: int) -> None:
        """Run the first n rows of `batch`. Raises DecodeFailed; then truncate() what the rows had added."""
        _log_lines.forget()
        code = native.llama_decode(self.pointer, batch.ready(n))
        if code != 0:
            raise DecodeFailed(f"llama_decode returned {code}: {_log_lines.complaint()}")

    def logits(self, row: int) -> Float32s:
        """Return the logits of batch row `row`, float32 [n_vocab]: a view that the next decode overwrites."""
        pointer = native.llama_get_logits_ith(self.pointer, row)
        if not pointer:
            raise LlamaError(f"Row {row} of the batch has no logits.")
        return np.frombuffer(
            memoryview(self._row.from_address(ctypes.addressof(pointer.contents))), np.float32
        )

    def truncate(self, sequence: int, position: int) -> bool:
        """Forget the cells of `sequence` from `position` on; False where this model's memory cannot do that."""
        memory = native.llama_get_memory(self.pointer)
        return bool(native.llama_memory_seq_rm(memory, sequence, position, -1))

    def copy(self, source: int, target: int) -> None:
        """Let `target` hold what `source` does, in cells of its own, instead of what it held."""
        # Of sequences with streams of their own llama.cpp copies all or ends the process.
        native.llama_memory_seq_cp(native.llama_get_memory(self.pointer), source, target, -1, -1)

    def wipe(self) -> None:
        """Forget every sequence and zero the cells."""
        native.llama_memory_clear(native.llama_get_memory(self.pointer), True)

    def close(self) -> None:
        """Free the context; calling it again does nothing."""
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            native.llama_free(pointer)
