"""The whole of monitoring on one machine, as real programs: collector, watch, Prometheus, Alertmanager, two exporters.

    up ── configuration: copied, proven ── plan.json ──> supervisor ── starts, brings back ──> services
     └── health: each asked until it is well ── proof: an alert finds its way      └── state.json <── status

A stack runs with a copy of the configuration, so that what is edited changes nothing until it has been proven.
"""
