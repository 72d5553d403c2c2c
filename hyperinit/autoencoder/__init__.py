"""Autoencoders between weight vectors and latents."""

from hyperinit.autoencoder.compact import Decoder, Encoder
from hyperinit.autoencoder.config import MOST_DEPTH, TABLE8, AutoencoderConfig
from hyperinit.autoencoder.cost import Cost
from hyperinit.autoencoder.model import Autoencoder

__all__ = ["MOST_DEPTH", "TABLE8", "Autoencoder", "AutoencoderConfig", "Cost", "Decoder", "Encoder"]
