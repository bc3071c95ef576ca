"""The composition root: makes each part, hands it to the next, and runs them until a signal.

Knows the front of every package and nothing inside it.
"""

import logging
import os
import signal
import ssl
import sys
from functools import partial
from typing import NoReturn

import trio

from server import __version__, startup
from server.api import continue_from_raw_prompt
from server.api.engine_metrics import EngineMetrics
from server.api.routes import PUBLIC, inference_routes
from server.config import Access, Address, EngineConfig, ServerConfig, UnixAddress
from server.engine.decoder import Decoder
from server.engine.engine import Engine
from server.engine.facts import Fact, RequestEnded
from server.engine.watched_thread import EngineLost
from server.errors import StartError
from server.greeting import PrefixPlace, ready_lines, start_lines
from server.http.api_keys import ApiKeys
from server.http.cors import Cors
from server.http.gate import Gate
from server.http.hosts import hosts_for
from server.http.listener import adopt, bound_addresses, open_listeners, serve
from server.http.open_connections import OpenConnections
from server.http.routing import Router
from server.http.tls import tls_context
from server.log_format import formatter
from server.log_writer import LogWriter
from server.model.choice import open_on_best
from server.model.folder import ModelFolder
from server.model.opening import cuda_obstacle, open_decoder
from server.model.runtime import runtime_version
from server.model.tokenizer import Tokenizer
from server.open_files import allow_connections
from server.program import say
from server.request_log import log_request
from server.systemd import ServiceManager, inherited_sockets

log = logging.getLogger(__name__)

_TO_LEAVE_SECONDS = 0.5
"""For clients to take their last bytes; the engine stops meanwhile."""
LARGEST_DEFAULT_CONTEXT = 4096
"""Tokens; a longer context, where the model has one, costs memory that few prompts need."""


def run(config: ServerConfig) -> None:
    """Serves until SIGINT or SIGTERM. Raises `StartError`, and `BrokenPipeError` if nobody reads
    the lines that it prints at its start."""
    handler = LogWriter(sys.stderr) if sys.stderr else logging.NullHandler()
    handler.setFormatter(formatter(config.serving.log_format))
    logging.basicConfig(level=config.serving.log_level.upper(), handlers=[handler])
    try:
        trio.run(_run, config)
    except ExceptionGroup as group:
        fault: Exception = group
        while isinstance(fault, ExceptionGroup) and len(fault.exceptions) == 1:
            fault = fault.exceptions[0]
        if isinstance(fault, StartError | BrokenPipeError):
            raise fault from None
        if not isinstance(fault, EngineLost):
            raise
        log.critical("the process ends: its engine is lost")
        _leave(1)
    finally:
        logging.shutdown()  # before the program's own last line


def _leave(code: int) -> NoReturn:
    """Ends the process at once, without an orderly exit: a thread may hang in the runtime, whose
    destructors could wait for it, or end it in the middle."""
    logging.shutdown()  # `os._exit` runs no `finally`
    os._exit(code)


async def _run(config: ServerConfig) -> None:
    folder = ModelFolder.read(config.model_folder)
    engine_config = _engine_config(config, folder)
    tls, keys = _tls(config.access), _keys(config.access)
    allow_connections(config.limits.connections)
    # Before the model, which may take long: a port in use is reported at once.
    listeners = adopt(inherited_sockets(os.environ)) or await open_listeners(
        config.serving.inference_address
    )
    addresses = bound_addresses(listeners)
    metrics = EngineMetrics()
    engine = Engine(
        partial(_load, config, engine_config, folder, metrics),
        engine_config,
        folder.eos_token_ids,
        partial(_observe, metrics),
    )
    sampling, with_keys = engine_config.sampling, keys is not None
    routes = inference_routes(engine, sampling, metrics, with_keys=with_keys)
    manager = ServiceManager.of(os.environ)
    connections = OpenConnections(config.limits.connections)
    async with trio.open_nursery() as nursery:
        # Before the model, too: probes for liveness and readiness get their answers.
        for listener, address in zip(listeners, addresses, strict=True):
            gate = _gate(config, address, routes, keys)
            nursery.start_soon(serve, listener, gate, config.limits, connections, tls)
        async with engine.running(), trio.open_nursery() as watching:
            startup.end()
            watching.start_soon(watch_over, engine, manager)
            # Left at the first signal, so that a second one ends the process at once.
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                lines = ready_lines(addresses, config.access, continue_from_raw_prompt.PATH)
                say(*lines)
                manager.ready(lines[0])
                await anext(signals)
            manager.stopping()
            connections.drain()
            if engine.requests:
                seconds = config.engine_limits.drain_seconds
                log.info("stopping: %d requests have up to %g s", engine.requests, seconds)
            await engine.drain()
            connections.close()
            nursery.cancel_scope.deadline = trio.current_time() + _TO_LEAVE_SECONDS
            watching.cancel_scope.cancel()
    if engine.hangs:
        _leave(0)


def _observe(metrics: EngineMetrics, fact: Fact) -> None:
    metrics.take(fact)
    if isinstance(fact, RequestEnded):
        log_request(fact)


async def watch_over(engine: Engine, manager: ServiceManager) -> None:
    """Pings the service manager's watchdog, if it has one, while the engine's thread lives."""
    if manager.watchdog_seconds is None:
        return
    while True:
        await engine.sign_of_life()
        manager.ping_watchdog()
        await trio.sleep(manager.watchdog_seconds / 2)


def _gate(
    config: ServerConfig,
    address: Address | UnixAddress,
    router: Router,
    keys: ApiKeys | None,
) -> Gate:
    """Of the listener at `address`."""
    access = config.access
    hosts = hosts_for(address, config.serving.inference_address, access.allowed_hosts)
    return Gate(router, hosts, Cors(access.cors_origins), keys, PUBLIC)


def _keys(access: Access) -> ApiKeys | None:
    """Raises `StartError`."""
    return ApiKeys.read(access.api_key_file) if access.api_key_file else None


def _tls(access: Access) -> ssl.SSLContext | None:
    """Raises `StartError`."""
    if access.tls_certificate and access.tls_key:
        return tls_context(access.tls_certificate, access.tls_key)
    if access.tls_certificate or access.tls_key:
        raise StartError("--tls-certificate and --tls-key go together")
    return None


def _engine_config(config: ServerConfig, folder: ModelFolder) -> EngineConfig:
    """The operator's choices, and the folder's where there are none. Raises `StartError`."""
    limit = folder.context_length
    context = config.engine.context or min(limit, LARGEST_DEFAULT_CONTEXT)
    if context > limit:
        raise StartError(f"--context {context} is more than the model's {limit} tokens")
    sampling = config.sampling.over(folder.sampling)
    return EngineConfig(
        slots=config.engine.slots,
        context=context,
        sampling=sampling,
        ignore_eos=config.engine.ignore_eos,
        limits=config.engine_limits,
        prefix_cache=config.prefix_cache,
        gap_stretch=config.engine.gap_stretch,
        speculate=config.engine.speculate,
    )


def _load(
    config: ServerConfig, engine: EngineConfig, folder: ModelFolder, metrics: EngineMetrics
) -> tuple[Decoder, Tokenizer]:
    """Loads the model, then shows its settings on the terminal and in the metrics. Raises
    `StartError`."""
    slots, context, threads = engine.slots, engine.context, config.engine.threads

    open_on = partial(
        open_decoder,
        folder,
        slots=slots,
        context=context,
        threads=threads,
        cuda_graphs=config.engine.cuda_graphs,
        kv_bytes=config.engine.kv_bytes,
    )
    try:
        decoder, choice = open_on_best(folder, config.engine.device, cuda_obstacle, open_on)
    except (OSError, MemoryError) as error:
        size = f"{slots} slots of {context} tokens"
        raise StartError(f"no memory for {size}: {error}") from None
    # Not before: meanwhile the CPU's decoder opens what its first calls do not need.
    tokenizer = Tokenizer.read(folder.tokenizer_file)
    place = PrefixPlace.APART if decoder.pages is None else PrefixPlace.WITHIN
    say(*start_lines(folder.path, engine, str(choice), threads, decoder.kv_bytes, place))
    metrics.serving = {
        "version": __version__,
        "model": os.fsencode(folder.path.resolve().name).decode(errors="backslashreplace"),
        "device": str(choice.device),
        "threads": str(threads),
        "onnxruntime": runtime_version() or "none",
    }
    return decoder, tokenizer
