# The service as an image: `docker compose up`, or see docs/service.md.
# It writes to the index at /data and to a tmpfs at /tmp; the rest may be read-only.

FROM python:3.12-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE LICENSE-APACHE NOTICE ./
COPY src src
# without headers, tests, and OpenVINO's plugin for GPUs
RUN python -m venv /opt/fashionclip \
    && /opt/fashionclip/bin/pip install --no-cache-dir ".[serve,postgres,s3]" \
    && /opt/fashionclip/bin/pip uninstall --yes pip \
    && cd /opt/fashionclip/lib/python3.12/site-packages \
    && rm -r openvino/libs/libopenvino_intel_gpu_plugin.so openvino/include pyarrow/include pyarrow/tests \
    && mkdir -p /volumes/snapshots /volumes/uploads

FROM python:3.12-slim
COPY --from=build /opt/fashionclip /opt/fashionclip
# places of volumes, which Docker gives this owner
COPY --from=build --chown=10001:10001 /volumes /volumes
ENV PATH=/opt/fashionclip/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=2m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["fashionclip"]
CMD ["serve", "/data/shop.lance", "--host", "0.0.0.0", "--key-file", "/run/secrets/keys"]
