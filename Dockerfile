# One image for the worker and beat; the command says which.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy PATH="/app/.venv/bin:$PATH"
WORKDIR /app
COPY .ci/uv.txt ./
RUN pip install --no-cache-dir --require-hashes -r uv.txt && useradd --system --create-home torpor

# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --extra worker --extra signing --no-install-project
COPY torpor ./torpor
COPY history ./history
COPY worker ./worker
RUN uv sync --locked --no-dev --extra worker --extra signing --no-editable

USER torpor
CMD ["torpor", "worker", "--loglevel", "INFO", "--concurrency", "2", "--without-gossip", "--without-mingle"]
