"""Make a source from a recipe, from checkpoints, or from the authors' release."""
