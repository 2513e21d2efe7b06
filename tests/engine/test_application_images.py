"""The applications in tests/e2e/apps are built by docker compose on an engine on this computer, early, while other tests use the VM;
tests/e2e/test_compose_applications.py then runs them there.
"""

from __future__ import annotations

import json
import tarfile

import pytest
from app_images import APPLICATIONS, archive
from base_image import NAME

pytestmark = [pytest.mark.root, pytest.mark.timeout(2400)]


def test_all_images_of_the_applications_are_in_one_archive() -> None:
    with tarfile.open(archive()) as saved:
        manifest = saved.extractfile("manifest.json")
        assert manifest is not None
        names = {name for image in json.load(manifest) for name in image["RepoTags"]}
    assert names == {NAME, *(f"{image}:latest" for images in APPLICATIONS.values() for image in images)}
