"""Loaded by every Python that has this folder in PYTHONPATH: the engine and the spawner that `profile_start.py` starts."""

import stage_marks

stage_marks.install()
