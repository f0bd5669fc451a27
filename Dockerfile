# gem-label with FiftyOne and MobileSAM's weights (docs/how-to/docker.md).
FROM python:3.11-slim-bookworm

# FiftyOne's mongod needs libcurl and OpenSSL; OpenCV needs GLib
RUN apt-get update \
    && apt-get install -y --no-install-recommends libcurl4 libglib2.0-0 libgomp1 openssl \
    && rm -rf /var/lib/apt/lists/*

ENV FIFTYONE_DO_NOT_TRACK=true \
    FIFTYONE_DATABASE_DIR=/cache/fiftyone \
    GEM_LABEL_CACHE=/cache/gem-label \
    HF_HOME=/cache/huggingface \
    PIP_NO_CACHE_DIR=1

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gem_label gem_label
COPY plugins/gem_label plugins/gem_label
RUN pip install '.[fiftyone]' && gem-label models pull mobile_sam && python -m gem_label.review.database --ensure

VOLUME /cache
EXPOSE 5151
WORKDIR /
ENTRYPOINT ["gem-label"]
CMD ["--help"]
