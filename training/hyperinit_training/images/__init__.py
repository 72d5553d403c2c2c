"""Image data sets: download, formats, splits and preprocessing."""
