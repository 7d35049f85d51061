"""Campaigns: the product attacked by its own code, as commands; small runs of each are tests."""
