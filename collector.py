"""The collector: what this host says of itself. Edit: register your own health components and metrics below."""

from upcheck.collector import Collector

collector = Collector()

# A metric of your own, with `from prometheus_client import Gauge`:
# jobs = Gauge("queue_jobs", "Jobs that wait.", registry=collector.registry)

# What your services tell in this process, by the catalogue in monitoring/services:
# collector.recorder.event("coderunner", "user_activity")("login", "premium")

# What is worth knowing between scrapes, in the background: every 60 s; "application": every 5 s.
# @collector.sample("business")
# def queue_length():
#     jobs.set(7)

# A health component of your own: None is healthy, a raised error is unhealthy.
# @collector.health("queue", interval=30)
# async def queue():
#     return "degraded", "1,204 jobs wait"

if __name__ == "__main__":
    collector.serve()
