"""From a parameter file to a page: notebooks in their order, and what they leave put together."""
