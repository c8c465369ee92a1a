"""What a file is that is no GGUF file, by its first bytes, so that a refusal can say what to do about it."""

from __future__ import annotations

_CONVERT = "llama.cpp's convert_hf_to_gguf.py makes GGUF of such models"
_UNPACK = "unpack it first"
_STARTS = {
    **dict.fromkeys(
        (b"lmgg", b"fmgg", b"tjgg", b"algg", b"ggml", b"ggmf", b"ggjt", b"ggla"),
        "it is a model in the old GGML format, which GGUF replaced; fetch it as GGUF",
    ),
    b"FUGG": "it does not start with the letters GGUF but with FUGG, as if its bytes were swapped",
    b"PK\x03\x04": f"it is a zip archive, as PyTorch writes its models; {_CONVERT}",
    b"PK\x05\x06": "it is an empty zip archive",
    b"\x80\x02": f"it is a Python pickle, as PyTorch writes its models; {_CONVERT}",
    b"\x80\x04": f"it is a Python pickle; {_CONVERT}",
    b"\x89HDF": f"it is an HDF5 file, as Keras writes its models; {_CONVERT}",
    b"\x1f\x8b": f"it is compressed with gzip; {_UNPACK}",
    b"\xfd7zXZ": f"it is compressed with xz; {_UNPACK}",
    b"BZh": f"it is compressed with bzip2; {_UNPACK}",
    b"\x28\xb5\x2f\xfd": f"it is compressed with zstd; {_UNPACK}",
    b"7z\xbc\xaf": f"it is a 7z archive; {_UNPACK}",
    b"version https://git-lfs": "it only points to a file in Git LFS; fetch that with `git lfs pull`",
    b"\x7fELF": "it is a program",
}
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")


def what_it_is(head: bytes) -> str:
    """A clause on what starts with these bytes, of which a few hundred are enough."""
    for start, clause in _STARTS.items():
        if head.startswith(start):
            return clause
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
        return f"it is a safetensors file; {_CONVERT}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        return "it is a web page; the download went wrong, or it wants you to log in"
    if text[:1] in (b"{", b"["):
        return "it is a JSON document"
    if head[257:262] == b"ustar":
        return f"it is a tar archive; {_UNPACK}"
    if not head.strip(b"\0"):
        return "it starts with zeros, so its download is not complete"
    return "it does not start with the letters GGUF"
