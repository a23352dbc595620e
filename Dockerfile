# leuknb on a CPU, with the default network's weights inside: a report of a folder of images without any network.
#   docker build -t leuknb .
#   mkdir -p runs && docker run --rm --network none --user "$(id -u):$(id -g)" \
#       -v "$PWD/my_images:/data:ro" -v "$PWD/runs:/runs" leuknb report /data --out /runs/my_images
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml settings.ini constraints.txt README.md LICENSE MANIFEST.in ./
COPY leuknb leuknb
COPY nbs/reports nbs/reports
# PyTorch's own index has the build without CUDA, a tenth of the size
RUN python -m venv /opt/leuknb \
    && /opt/leuknb/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        -c constraints.txt '.[crate,onnx]'

FROM python:3.11-slim
COPY --from=build /opt/leuknb /opt/leuknb
RUN useradd --create-home --uid 1000 leuknb && mkdir /runs && chown leuknb /runs
# whoever runs it, under whatever number, may write to /tmp; nothing is downloaded
ENV PATH=/opt/leuknb/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp LEUKNB_HOME=/tmp/leuknb LEUKNB_OFFLINE=1 HF_HUB_OFFLINE=1
USER leuknb
WORKDIR /runs
# the weights are read once, so that an image without them is never made
RUN leuknb synth /tmp/smears --n 8 && leuknb extract /tmp/smears --out /tmp/features && rm -rf /tmp/smears /tmp/features /tmp/leuknb
ENTRYPOINT ["leuknb"]
CMD ["--help"]
