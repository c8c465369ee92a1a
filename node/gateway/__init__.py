"""The gateway: OpenAI's, Anthropic's and Ollama's APIs over the market, with keys that have budgets, and its pages."""
