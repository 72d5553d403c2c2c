"""Recipes: everything that makes a zoo and its hyper-representation, as data."""
