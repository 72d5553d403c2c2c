"""Training model zoos and hyper-representations: everything that needs a zoo, and nothing that `hyperinit` needs."""
