"""Stages of a Dockerfile, from the plan to what comes out of them."""
