"""The metric families of the probes, in blackbox_exporter's names, labels and words."""

from __future__ import annotations

from upcheck.exposition import Family


def _family(name: str, sentence: str, *labels: str) -> Family:
    return Family(name, "gauge", labels, sentence)


FAMILIES = (
    _family("probe_dns_lookup_time_seconds", "Returns the time taken for probe dns lookup in seconds"),
    _family("probe_ip_protocol", "Specifies whether probe ip protocol is IP4 or IP6"),
    _family("probe_failed_due_to_regex", "Indicates if probe failed due to regex"),
    _family("probe_ssl_last_chain_expiry_timestamp_seconds", "Returns last SSL chain expiry in timestamp"),
    _family("probe_tls_version_info", "Returns the TLS version used or NaN when unknown", "version"),
    _family("probe_tls_cipher_info", "Returns the TLS cipher negotiated during handshake", "cipher"),
    _family("probe_dns_duration_seconds", "Duration of DNS request by phase", "phase"),
    _family("probe_dns_query_succeeded", "Displays whether or not the query was executed successfully"),
    _family("probe_dns_answer_rrs", "Returns number of entries in the answer resource record list"),
    _family("probe_dns_authority_rrs", "Returns number of entries in the authority resource record list"),
    _family("probe_dns_additional_rrs", "Returns number of entries in the additional resource record list"),
    _family("probe_dns_serial", "Returns the serial number of the zone"),
    _family("probe_icmp_duration_seconds", "Duration of icmp request by phase", "phase"),
    _family("probe_icmp_reply_hop_limit", "Replied packet hop limit (TTL for ipv4)"),
    _family("probe_grpc_duration_seconds", "Duration of gRPC request by phase", "phase"),
    _family("probe_grpc_ssl", "Indicates if SSL was used for the connection"),
    _family("probe_grpc_status_code", "Response gRPC status code"),
    _family("probe_grpc_healthcheck_response", "Response HealthCheck response", "serving_status"),
    _family("probe_websocket_connection_upgraded", "Indicates if the websocket connection was successfully upgraded"),
    _family("probe_websocket_status_code", "Response HTTP status code"),
    _family("probe_docker_duration_seconds", "Seconds that the Docker engine took to answer", "phase"),
    _family("probe_docker_version_info", "The version of the Docker engine", "version"),
    _family("probe_docker_container_running", "Whether the container runs"),
    _family("probe_docker_container_health", "What the container's own health check says", "status"),
    _family("probe_docker_container_restarts", "How often the engine has restarted the container"),
    _family("probe_postgres_duration_seconds", "Seconds that a step of the exchange with PostgreSQL took", "phase"),
    _family("probe_postgres_version_info", "The version of the PostgreSQL server", "version"),
    _family("probe_postgres_in_recovery", "Whether the PostgreSQL server is a replica"),
    _family("probe_postgres_read_only", "Whether nothing can be written to PostgreSQL"),
    _family("probe_postgres_connections", "Clients that are connected to PostgreSQL"),
    _family("probe_postgres_max_connections", "Clients that may be connected to PostgreSQL"),
    _family("probe_postgres_replication_lag_seconds", "Seconds by which a replica of PostgreSQL is behind"),
    _family("probe_mysql_duration_seconds", "Seconds that a step of the exchange with MySQL took", "phase"),
    _family("probe_mysql_version_info", "The version of the MySQL or MariaDB server", "version"),
    _family("probe_mysql_read_only", "Whether read_only is on"),
    _family("probe_mysql_connections", "Clients that are connected to MySQL"),
    _family("probe_mysql_max_connections", "Clients that may be connected to MySQL"),
    _family("probe_mysql_replication_lag_seconds", "Seconds by which a replica of MySQL is behind"),
    _family("probe_redis_duration_seconds", "Seconds that a step of the exchange with Redis took", "phase"),
    _family("probe_redis_version_info", "The version of the Redis server", "version"),
    _family("probe_redis_role_info", "The role of the Redis server, master or replica", "role"),
    _family("probe_redis_memory_used_bytes", "Bytes that Redis has allocated"),
    _family("probe_redis_memory_max_bytes", "Bytes that Redis may allocate, 0 where it has no limit"),
    _family("probe_redis_connections", "Clients that are connected to Redis"),
    _family("probe_redis_max_connections", "Clients that may be connected to Redis"),
    _family("probe_redis_loading", "Whether Redis is loading its data"),
    _family("probe_redis_last_save_ok", "Whether the last snapshot of Redis went well"),
    _family("probe_redis_master_link_up", "Whether a replica of Redis reaches its master"),
)
"""Those that a check has on the collector's page; `probe_ssl_earliest_cert_expiry` is a family of every check."""
