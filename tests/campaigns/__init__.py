"""Attacks on the whole product, as commands: ``python -m tests.campaigns.NAME``. Small runs of each are tests."""
