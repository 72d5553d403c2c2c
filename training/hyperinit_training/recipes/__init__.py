"""Recipes: how to train a zoo and its autoencoder, as frozen dataclasses and TOML files."""
