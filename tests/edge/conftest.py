"""These tests are for the environment without torch; where torch is, none is collected."""

import importlib.util

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("torch") else []
