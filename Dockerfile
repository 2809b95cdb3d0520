# One image for every process of ours: migration, namespace set-up, workers of any role, the paper exchange.
FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/bottrader
ENV PATH=/opt/bottrader/bin:$PATH
WORKDIR /src
COPY requirements.lock ./
RUN pip install --quiet --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY activities activities
COPY cli cli
COPY domain domain
COPY exchange exchange
COPY fifo fifo
COPY research research
COPY schema schema
COPY web web
COPY workers workers
COPY workflows workflows
RUN pip install --quiet --no-deps --no-build-isolation .
# The page's libraries lie beside it, so that nothing is fetched when a container starts.
RUN cd / && BOTTRADER_CACHE=/tmp/cache python -m workers.stack.page_libraries \
    "$(python -c 'from workers.stack.page_libraries import PAGE; print(PAGE)')"

FROM python:3.11.14-slim-bookworm
# The uid of most machines' first user, who owns the files in secrets/; compose can name another.
RUN useradd --uid 1000 --create-home --shell /usr/sbin/nologin bottrader \
    && install --directory --owner=1000 --group=1000 /paper
COPY --from=build /opt/bottrader /opt/bottrader
ENV PATH=/opt/bottrader/bin:$PATH PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/bottrader
CMD ["bottrader", "--help"]
