"""A model in several pieces."""

from __future__ import annotations

from pathlib import Path

import gguf


def split_by_gguf(source: Path, folder: Path, tensors: int) -> list[Path]:
    """The model in pieces of at most so many tensors, written by gguf's own writer."""
    reader = gguf.GGUFReader(source)
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "big model.gguf", "llama", split_max_tensors=tensors)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            items = field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], items)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.iterdir())
