"""Networks, the contrastive model, calibrated coordinates, and the files of models and embeddings."""
