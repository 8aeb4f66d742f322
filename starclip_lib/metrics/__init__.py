"""How good: retrieval, probes, maps, simple baselines, and the limits that physics sets."""
