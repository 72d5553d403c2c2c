"""Files: written in one step, read with every length checked, and the cache folder."""
