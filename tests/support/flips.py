"""Flips bits of files, as a failing disk does."""

import random


def flipped(path, count, seed=0):
    """Flip one bit of a file and yield its place, `count` times at places over the whole file; then restore it."""
    whole, draw = path.read_bytes(), random.Random(seed)
    try:
        for turn in range(count):
            place = (turn * len(whole) + draw.randrange(len(whole))) // count  # one in each of `count` equal parts
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
            yield place
    finally:
        path.write_bytes(whole)
