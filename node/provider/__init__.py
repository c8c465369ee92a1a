"""A provider: serves layers [start, stop) of a model to whoever pays, and answers for what it signed."""
