"""Image data sets: downloads, file formats, splits and preprocessing."""
