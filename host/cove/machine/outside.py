"""What a machine's engine is told of the world outside: proxies, whom TLS trusts, and the time zone."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from coved.outside import Outside

from cove.machine import certificates, proxies, zone
from cove.machine.settings import Settings

log = logging.getLogger(__name__)


def told(settings: Settings, environment: Mapping[str, str] | None = None) -> Outside:
    """Reads this computer's settings and files; for a thread. Raises `SettingsError` that names a file of certificates.

    Args:
        environment: of which proxies are; this process's when it is not given.
    """
    http, https, no_proxy = proxies.for_machine(proxies.found(settings, environment))
    trusted = certificates.trusted(settings)
    for words in trusted.left_out:
        log.error("not all certificates reach the machine: %s", words)
    return Outside(
        http,
        https,
        no_proxy,
        trusted.pem,
        settings.proxy_in_containers,
        settings.certificates_in_containers,
        zone.told(),
    )
