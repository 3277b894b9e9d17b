"""The metric families of the probes, in blackbox_exporter's names, labels and words."""

from __future__ import annotations

from upcheck.exposition import Family

FAMILIES = (
    Family("probe_dns_lookup_time_seconds", "gauge", (), "Returns the time taken for probe dns lookup in seconds"),
    Family("probe_ip_protocol", "gauge", (), "Specifies whether probe ip protocol is IP4 or IP6"),
    Family("probe_failed_due_to_regex", "gauge", (), "Indicates if probe failed due to regex"),
    Family(
        "probe_ssl_last_chain_expiry_timestamp_seconds",
        "gauge",
        (),
        "Returns last SSL chain expiry in unixtime",
    ),
    Family("probe_tls_version_info", "gauge", ("version",), "Returns the TLS version used or NaN when unknown"),
    Family("probe_tls_cipher_info", "gauge", ("cipher",), "Returns the TLS cipher negotiated during handshake"),
)
"""Those that a check has on the collector's page; `probe_ssl_earliest_cert_expiry` is a family of every check."""
