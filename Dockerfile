# One image for the worker, beat and torpor; the command says which.
FROM python:3.11-slim AS build

ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /app
COPY .ci/uv.txt ./
RUN pip install --no-cache-dir --require-hashes -r uv.txt

# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --extra worker --extra signing --no-install-project
COPY torpor ./torpor
COPY history ./history
COPY worker ./worker
RUN uv sync --locked --no-dev --extra worker --extra signing --no-editable

FROM python:3.11-slim

# No build tool is left, and only the environment comes from the first stage.
RUN pip uninstall --yes --quiet setuptools wheel pip \
    && groupadd --gid 10001 torpor && useradd --uid 10001 --gid torpor --create-home torpor
COPY --from=build /app/.venv /app/.venv
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH="/app/.venv/bin:$PATH"

# By number: Kubernetes refuses a name where runAsNonRoot is asked for. The root file system may be read-only; /tmp is written to.
USER 10001:10001
WORKDIR /tmp
# A worker with a heartbeat file touches it every 10 s while it takes tasks; without one, nothing is looked at.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s --retries=4 \
    CMD test -z "$TORPOR_HEARTBEAT_FILE" || test -n "$(find "$TORPOR_HEARTBEAT_FILE" -mmin -1)"
CMD ["torpor", "worker", "--loglevel", "INFO", "--concurrency", "2", "--without-gossip", "--without-mingle"]
