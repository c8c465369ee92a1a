"""Anthropic's Messages API: what its SDKs and agents send, and the events that they wait for."""
