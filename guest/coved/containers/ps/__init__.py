"""The part of ps(1) that ``docker top`` is used with: the VM has no ps, so the engine reads /proc itself.

Options, columns, titles and errors are those of procps, which dockerd runs.
"""
