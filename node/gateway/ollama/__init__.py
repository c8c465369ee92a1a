"""Ollama's own API: what its clients send, which know of no keys, and the lines of JSON that they wait for."""
