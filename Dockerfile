# pqtls on Debian 13, whose Python 3.13 has OpenSSL 3.5 of its own: nothing is grafted, the way is `native`.
#
#   docker build -t pqtls .        docker run --rm pqtls        (docs/container.md)
#
# An own package index or certificate authority comes in as a build secret and stays in no layer:
#   docker build --secret id=pip.conf,src=pip.conf --secret id=ca.pem,src=ca.pem -t pqtls .

FROM debian:trixie-slim AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3-venv
COPY LICENSE README.md constraints.txt pyproject.toml /build/
COPY src /build/src
# pip goes again: the image installs nothing, and its user could not.
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    python3 -m venv /opt/pqtls \
 && PIP_CONFIG_FILE=/run/secrets/pip.conf /opt/pqtls/bin/pip install \
      --no-cache-dir --disable-pip-version-check --constraint /build/constraints.txt '/build[suite,aws]' \
 && /opt/pqtls/bin/pip uninstall --yes --quiet --disable-pip-version-check pip

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="pqtls" \
      org.opencontainers.image.description="Post-quantum TLS for Python: turn it on, prove it on every connection" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.documentation="https://github.com/pqtls/pqtls/tree/main/docs/container.md"
# The cache is the user's own and private (0700), as pqtls demands of a folder that it loads libraries from.
# The home can be read by others, so that `--user` with your own id finds a profile mounted there.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache \
      /var/log/apt /var/log/*.log \
 && useradd --no-log-init --uid 10001 --user-group --create-home --shell /bin/bash pqtls \
 && chmod 0755 /home/pqtls \
 && install -d -m 0700 -o pqtls -g pqtls /home/pqtls/.cache \
 && install -d -m 0755 -o pqtls -g pqtls /proof
COPY --from=build /opt/pqtls /opt/pqtls
ENV PATH=/opt/pqtls/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8 \
    HOME=/home/pqtls \
    SHELL=/bin/bash \
    XDG_CACHE_HOME=/home/pqtls/.cache
# By number, so that an orchestrator can see that it is not root (Kubernetes: runAsNonRoot).
USER 10001:10001
WORKDIR /home/pqtls
# As Ctrl-C: `test` and `shell` clean up and end on it, also as process 1, where a signal without a handler does
# nothing. (`run` becomes its command; give that an init: docker run --init.)
STOPSIGNAL SIGINT
ENTRYPOINT ["pqtls"]
CMD ["test", "--local"]
