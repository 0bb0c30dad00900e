# The service and, as a second target, the example worker. Both run as an unprivileged user, and their root file
# system may be read-only; the service writes only to its volume.

# The newest Python that the whole suite passes on. CONTRIBUTING.md says how to take a newer image.
FROM python:3.13-slim-bookworm@sha256:01f42367a0a94ad4bc17111776fd66e3500c1d87c15bbd6055b7371d39c124fb AS python

FROM python AS uv
# The wheels for x86-64 and ARM.
RUN echo "uv==0.13.9 \
    --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
    --hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe" >uv.txt \
    && pip install --no-cache-dir --only-binary :all: --require-hashes --target /uv -r uv.txt

FROM python AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PATH=/srv/.venv/bin:$PATH
WORKDIR /srv

FROM base AS build
COPY --from=uv /uv/bin/uv /usr/local/bin/uv
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never
COPY pyproject.toml uv.lock ./
# The lock file is that of the whole workspace.
COPY agent/pyproject.toml agent/pyproject.toml
COPY devstack/pyproject.toml devstack/pyproject.toml
COPY client/pyproject.toml client/pyproject.toml

FROM build AS build-service
# First what changes seldom, as a layer of its own. With traces, which are off until OpenTelemetry's variables turn them
# on: they take 8 MB.
RUN uv sync --locked --no-dev --no-install-workspace --extra otel
COPY README.md LICENSE ./
COPY app app
RUN uv sync --locked --no-dev --no-editable --extra otel

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
USER 10001:10001
ENV PORT=8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=4)"]
CMD ["python", "-m", "app"]
