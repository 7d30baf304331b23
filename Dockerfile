# maskcon on a processor: PyTorch without CUDA, and nothing of the source but what is installed.
#
#     docker build -t maskcon .
#     docker run --rm --shm-size 1g -v "$PWD:/work" --user "$(id -u):$(id -g)" maskcon demo
FROM python:3.12-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 HOME=/tmp
RUN pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE /source/
COPY recipes /source/recipes
COPY src /source/src
RUN pip install /source && rm -r /source
WORKDIR /work
ENTRYPOINT ["maskcon"]
CMD ["--help"]
