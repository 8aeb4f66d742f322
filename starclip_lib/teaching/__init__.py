"""For teaching: exercises with checked answers, and contrastive learning in the plane."""
