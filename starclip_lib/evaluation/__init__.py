"""How good is an embedding, and where does it fail?  Each module answers one question on plain arrays."""
