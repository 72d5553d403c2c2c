"""From the name of a source to a file on this machine: embedded, cached or downloaded."""
