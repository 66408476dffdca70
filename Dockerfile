# One image for every step of a run and for Beam's workers: docker build --tag newsdesk .
# Where images must not change under a tag, name both by digest: --build-arg DEBIAN=debian@sha256:...
ARG DEBIAN=debian:trixie-slim
# Python's minor version is that of Debian's python3, Beam's version that of requirements-run.lock.
ARG BEAM=apache/beam_python3.13_sdk:2.77.0

FROM ${BEAM} AS beam

FROM ${DEBIAN} AS builder
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ python3 python3-dev python3-venv
RUN python3 -m venv /opt/newsdesk
COPY requirements-run.lock /build/
# Without --no-deps pip would refuse what the lock overrides: TFX asks for a tensorflow-hub that does not import.
RUN /opt/newsdesk/bin/pip install --no-cache-dir --quiet --disable-pip-version-check --no-deps --require-hashes \
    --requirement /build/requirements-run.lock
COPY LICENSE README.md pyproject.toml setup.py /build/
COPY components /build/components
COPY pipeline /build/pipeline
COPY serving /build/serving
COPY trainers /build/trainers
RUN /opt/newsdesk/bin/pip install --no-cache-dir --quiet --disable-pip-version-check --no-deps --no-build-isolation /build

FROM ${DEBIAN}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libgomp1 python3 \
    && rm -rf /var/lib/apt/lists/*
# A number, so that Kubernetes can tell that it is not root.
RUN useradd --uid 10001 --user-group --create-home newsdesk \
    && install --directory --owner 10001 --group 10001 /data
COPY --from=beam /opt/apache/beam /opt/apache/beam
COPY --from=builder /opt/newsdesk /opt/newsdesk
COPY --chmod=755 pipeline/runners/entrypoint.sh /opt/entrypoint
# Beam's boot would otherwise make an environment of its own beside the one that holds everything.
ENV PATH=/opt/newsdesk/bin:/usr/bin:/bin \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    NEWSDESK_WORKSPACE=/data/workspace \
    NEWSDESK_CACHE=/data/cache
USER 10001:10001
WORKDIR /data
RUN newsdesk doctor
ENTRYPOINT ["/opt/entrypoint"]
CMD ["--help"]
