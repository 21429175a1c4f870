"""The surroundings of every test and of every chapter run as a test (the same as in tools/sync.py)."""

import os

from chapters import ENVIRONMENT, compare_where_data_is

os.environ.update(ENVIRONMENT)
os.environ.pop("MPLBACKEND", None)  # notebooks choose their own


def pytest_collection_modifyitems(items):
    compare_where_data_is(items)
