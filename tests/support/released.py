"""State dicts of the paper's CNN's autoencoder with the names and shapes that the authors released, at a small size."""

import math

import torch

WIDTH, HEADS, HIDDEN, DEPTH, LATENT = 12, 3, 20, 2, 8
INPUTS = (25, 200, 24, 36, 20)  # of a neuron of each layer, without its bias


def released(compression="linear"):
    """A state dict with the keys and shapes of the released ones, filled with noise."""
    shapes = {"encoder.vec2neck.0": (LATENT, WIDTH if compression == "token" else 48 * WIDTH)}
    shapes["decoder.nec2vec"] = (48 * WIDTH, LATENT)
    state = {
        "encoder.position_embeddings.weight": torch.Size((48 + (compression == "token"), WIDTH)),
        "decoder.position_embeddings.weight": torch.Size((48, WIDTH)),
    }
    if compression == "token":
        state["encoder.comp_token"] = torch.Size((1, 1, WIDTH))
    for number, inputs in enumerate(INPUTS):
        shapes[f"encoder.token_embeddings.layer_lst.{number}"] = (WIDTH, inputs + 1)
        shapes[f"decoder.token_debeddings.layer_lst.{number}"] = (inputs + 1, WIDTH)
    for block in (f"{side}.layers.{number}" for side in ("encoder", "decoder") for number in range(DEPTH)):
        shapes |= {f"{block}.attn.{name}": (WIDTH, WIDTH) for name in ("q_linear", "v_linear", "k_linear", "out")}
        shapes |= {f"{block}.ff.linear_1": (HIDDEN, WIDTH), f"{block}.ff.linear_2": (WIDTH, HIDDEN)}
        state |= {f"{block}.{norm}.{name}": (WIDTH,) for norm in ("norm_1", "norm_2") for name in ("alpha", "bias")}
    for name, shape in shapes.items():
        state |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) / math.sqrt(shape[-1]) for name, shape in state.items()}
