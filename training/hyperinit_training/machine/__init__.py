"""The machine: processes, devices, precision, and the files of a run."""
