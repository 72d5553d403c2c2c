"""Train the autoencoder of a hyper-representation on a zoo."""

from hyperinit_training.train_autoencoder.train import prepare, train_autoencoder

__all__ = ["prepare", "train_autoencoder"]
