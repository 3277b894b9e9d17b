"""The four services that ship: every metric of their documents, recorded through what is made of the catalogue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT, Repo
from tests.test_run import upcheck
from upcheck import catalog
from upcheck.exposition import page
from upcheck.promtool import check_metrics
from upcheck.recording import Recorder
from upcheck.recording.typed import module

SERVICES = ROOT / "monitoring/services"

# As the documents of the four systems have them: names, and labels where they give some.
DOCUMENTED = {
    "coderunner": {
        "coderunner_system_cpu_usage_percent": {"core": "total", "type": "usage"},
        "coderunner_system_memory_usage_bytes": {"type": "usage_percent"},
        "coderunner_system_load_average": {"period": "1m"},
        "coderunner_system_uptime_seconds": {},
        "coderunner_api_requests_total": {"method": "GET", "endpoint": "/api/deploy", "status": "2xx"},
        "coderunner_api_duration_seconds": {"method": "POST", "endpoint": "/api/deploy"},
        "coderunner_deployments_total": {"status": "RUNNING", "type": "nodejs"},
        "coderunner_deployment_duration_seconds": {"type": "nodejs", "status": "success"},
        "coderunner_websocket_connections_total": {"status": "authenticated"},
        "coderunner_errors_total": {"type": "api", "service": "http", "severity": "error"},
        "coderunner_user_activity_total": {"action": "deploy", "plan_type": "premium"},
        "coderunner_feature_usage_total": {"feature": "websocket", "user_type": "authenticated"},
        "coderunner_resource_costs_total": {"resource_type": "compute", "plan": "team"},
        "coderunner_plan_distribution_total": {"plan_type": "free"},
    },
    "codesync": {
        "http_requests_total": {"method": "GET", "path": "/", "status": "500"},
        "http_request_duration_seconds": {},
        "http_request_size_bytes": {},
        "http_response_size_bytes": {},
        "ws_connections_active": {},
        "ws_connections_total": {},
        "ws_messages_total": {},
        "sessions_active": {},
        "session_participants": {},
        "yjs_documents_active": {},
        "yjs_operations_total": {"type": "update"},
        "rate_limit_hits_total": {"type": "api"},
        "process_cpu_seconds_total": {},
        "process_resident_memory_bytes": {},
        "process_heap_bytes": {},
        "process_open_fds": {},
    },
    "codex-clone": {
        "codex_http_requests_total": {},
        "codex_db_queries_total": {"operation": "SELECT", "table": "users", "status": "success"},
        "codex_agent_executions_total": {"agent": "code-analyzer", "status": "success"},
        "codex_agent_tokens_total": {"agent": "code-analyzer"},
        "codex_sync_operations_total": {
            "operation_type": "full_sync", "source": "primary", "destination": "replica", "status": "success",
        },
        "codex_wasm_executions_total": {},
        "codex_vector_searches_total": {},
        "codex_replication_lag_seconds": {},
        "codex_db_connections": {},
        "codex_db_cache_hit_ratio": {},
        "codex_db_table_size_bytes": {},
        "codex_active_users": {},
        "codex_workflows": {},
    },
    "vibebox": {
        "vibebox_http_requests_total": {"method": "GET", "route": "/", "status": "200"},
        "vibebox_http_request_duration_seconds": {},
        "vibebox_active_connections": {},
        "vibebox_api_errors_total": {"type": "server", "route": "/", "status": "500"},
        "vibebox_environments_total": {"status": "running"},
        "vibebox_docker_operations_total": {"operation": "start", "status": "success"},
        "vibebox_docker_operation_duration_seconds": {},
        "vibebox_db_query_duration_seconds": {},
        "vibebox_db_connection_pool_size": {},
        "vibebox_sessions_total": {"type": "vscode", "status": "active"},
        "vibebox_websocket_connections": {},
        "vibebox_auth_attempts_total": {"method": "password", "status": "failure"},
        "vibebox_extension_installations_total": {},
        "vibebox_log_entries_total": {"stream": "stdout"},
        "nodejs_eventloop_lag_seconds": {},
        "nodejs_gc_duration_seconds": {},
        "nodejs_heap_size_used_bytes": {},
        "process_start_time_seconds": {},
        "process_uptime_seconds": {},
    },
}  # fmt: skip
PAIRS = [(service, name) for service, metrics in DOCUMENTED.items() for name in metrics]

# The documents' own examples, as calls of the functions that are made of the catalogue; milliseconds became seconds.
EXAMPLES = {
    "coderunner": """
metrics.record_api_request("POST", "/api/deploy", 200, 1.5)
metrics.record_deployment("nodejs", "completed", 30.0, "user123")
metrics.record_user_activity("login", "premium")
metrics.record_feature_usage("websocket", "authenticated")
metrics.update_websocket_connections(100, 85)
""",
    "codesync": """
metrics.record_http_request("GET", "/sessions/{id}", 200, 0.02, 0, 512)
metrics.record_ws_opened()
""",
    "codex-clone": """
metrics.record_http_request("POST", "/api/users", 201, 0.150)
metrics.record_database_query("SELECT", "users", True, 0.025)
metrics.record_agent_execution("code-analyzer", "success", 5.0, 1500)
metrics.record_sync_operation("full_sync", "primary", "replica", True)
""",
    "vibebox": """
metrics.record_docker_operation("start", "success", 2.5)
metrics.update_environments("running", 5)
metrics.record_auth_attempt("password", "failure")
""",
}


@pytest.mark.parametrize(("service", "name"), PAIRS)
def test_a_documented_metric_is_in_the_catalogue(service: str, name: str) -> None:
    metric = catalog.load(SERVICES / f"{service}.yml").metrics[name]
    labels = {label.name: label for label in metric.labels}
    for label, value in DOCUMENTED[service][name].items():
        listed = labels[label].values
        assert listed is None or value in listed


def test_every_documented_layer_is_there() -> None:
    layers = {metric.layer for metric in catalog.load(SERVICES / "coderunner.yml").metrics.values()}
    assert layers == {"system", "application", "business"}


def test_a_page_with_every_metric_of_all_four_passes_promtool(promtool: Path) -> None:
    recorder = Recorder.load(SERVICES)
    expected = set()
    for service in recorder.services.values():
        for metric in service.metrics.values():
            if metric.alias_of is None:
                labels = {label.name: label.values[0] if label.values else "x" for label in metric.labels}
                recorder.record(metric.name, catalog.ACTIONS[metric.type][0], 1, labels)
            expected.add(metric.name.removesuffix("_total") if metric.type == "counter" else metric.name)
    text = page(recorder.blocks()).decode()
    found = {family.name for family in text_string_to_metric_families(text)}
    assert expected <= found
    complaints = {line.split(" ", 1)[0] for line in check_metrics(promtool, text).text.splitlines()}
    broken = {one.name for service in recorder.services.values() for one in service.metrics.values() if one.instead}
    assert complaints <= broken, "whoever breaks a convention says so, and names what does not"


@pytest.mark.parametrize("service", DOCUMENTED)
def test_the_module_that_is_made_is_typed_and_records(
    service: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = module(catalog.load(SERVICES / f"{service}.yml"))
    name = next(line for line in made.splitlines() if line.startswith("class ")).split()[1].rstrip(":")
    use = f"from made import {name}\nfrom upcheck.exposition import page\nfrom upcheck.recording import Recorder\n\n"
    use += f'recorder = Recorder.load("{SERVICES}")\nmetrics = {name}(recorder)\n{EXAMPLES[service]}'
    use += "text = page(recorder.blocks()).decode()\n"
    (tmp_path / "made.py").write_text(made)
    (tmp_path / "use.py").write_text(use)
    cache = str(tmp_path_factory.getbasetemp() / "mypy")  # of all services: what they import is the same
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", cache, "use.py"]
    checked = subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0, checked.stdout
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", "made.py"]
    assert (
        subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, timeout=60).stdout == "All checks passed!\n"
    )
    wrong = use.replace('"POST"', "7").replace('"GET"', "7").replace('"start"', "7")
    (tmp_path / "use.py").write_text(wrong)
    assert "incompatible type" in subprocess.run(mypy, cwd=tmp_path, capture_output=True, text=True, timeout=120).stdout
    counted = use + "assert sum(int(float(line.split()[-1])) > 0 for line in text.splitlines() if line[0] != '#') > 2\n"
    ran = subprocess.run([sys.executable, "-c", counted], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


def test_the_catalogue_on_the_terminal() -> None:
    shown = subprocess.run([sys.executable, "-m", "upcheck.cli", "services"], cwd=ROOT, capture_output=True, text=True)
    docs = (ROOT / "docs/services.md").read_text()
    assert shown.returncode == 0
    assert f"$ upcheck services\n{shown.stdout}$" in docs


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "coderuner"], "no service is called 'coderuner'; did you mean 'coderunner'?"),
        (["python", "nobody"], "no service is called 'nobody'; valid: coderunner"),
    ],
)
def test_a_service_that_is_not_there_is_a_sentence(arguments: list[str], sentence: str) -> None:
    argv = [sys.executable, "-m", "upcheck.cli", "services", *arguments]
    asked = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert asked.returncode == 2
    assert sentence in asked.stderr


def test_a_fifth_service_is_one_file(repo: Repo) -> None:
    told = upcheck(repo, "init", "--service", "my-shop")
    assert told.stdout == "monitoring/services/my-shop.yml written: edit it. Next: upcheck services show my-shop\n"
    assert "my_shop_requests_total" in upcheck(repo, "services", "show", "my-shop").stdout
    assert "is there already; nothing was written" in upcheck(repo, "init", "--service", "my-shop").stderr
    assert "can't be a service's name" in upcheck(repo, "init", "--service", "My Shop").stderr
    broken = repo.path / "monitoring/services/my-shop.yml"
    broken.write_text(broken.read_text().replace("type: counter", "type: counted"))
    told = upcheck(repo, "services")
    assert told.returncode == 2
    assert "my-shop.yml:12:11: type: expected counter, gauge or histogram, not 'counted'" in told.stderr
