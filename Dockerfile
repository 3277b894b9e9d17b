# The collector and `upcheck watch`, for monitoring/compose.yml, which mounts the repo's own files.
FROM python:3.13.5-slim-bookworm
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    UPCHECK_HISTORY=/var/lib/upcheck/history.sqlite UPCHECK_PUSH=/var/lib/upcheck/push
COPY --from=prom/prometheus:v3.13.3 /bin/promtool /usr/local/bin/promtool
COPY . /source
RUN pip install --no-cache-dir --constraint /source/constraints.txt '/source[otlp,postgres,mysql,websocket]' \
    && rm -rf /source \
    && install -d -o 65532 -g 65532 /var/lib/upcheck
USER 65532:65532
WORKDIR /srv
CMD ["python", "collector.py", "--host", "0.0.0.0"]
