"""blackbox_exporter's contract over our probes: its modules file, and its page. See docs/probe-endpoint.md."""
