# The service and, as a second target, the example worker. Both run as an unprivileged user, and their root file
# system may be read-only; the service writes only to its volume.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

# The Python that CI runs on.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/srv/.venv/bin:$PATH
WORKDIR /srv

FROM base AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml uv.lock ./
COPY agent/pyproject.toml agent/pyproject.toml

FROM build AS build-service
RUN uv sync --locked --no-dev --no-install-workspace

FROM build AS build-worker
COPY agent agent
RUN uv sync --locked --no-dev --no-editable --package reusable-agent

FROM base AS worker
COPY --from=build-worker /srv/.venv .venv
COPY devstack devstack
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["python", "-m", "devstack.example_worker", "start"]

FROM base AS service
# The default database is ./data/lifecycle.db: mount the volume there. An empty volume inherits the folder's owner;
# change the owner of a volume that belongs to root to 10001 first.
RUN install -d -o 10001 -g 10001 data
COPY --from=build-service /srv/.venv .venv
COPY migrations migrations
COPY app app
USER 10001:10001
ENV PORT=8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
CMD ["python", "-m", "app"]
