"""What an offline run of W&B kept: its file is a log of protobuf records in LevelDB's framing."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

FILE_HEADER = 7
BLOCK, HEADER = 32_768, struct.Struct("<IHB")
WHOLE, LAST = 1, 4


@dataclass
class OfflineRun:
    """``history`` by step."""

    identity: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: list[Any] = field(default_factory=list)


def read_offline_run(path: Path) -> OfflineRun:
    run = OfflineRun()
    for data in read_log(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        match record.WhichOneof("record_type"):
            case "run":
                run.identity = record.run
                run.config |= _values(record.run.config.update)
            case "history":
                run.history.setdefault(record.history.step.num, {}).update(_values(record.history.item))
            case "summary":
                run.summary |= _values(record.summary.update)
            case "artifact":
                run.artifacts.append(record.artifact)
    return run


def read_log(data: bytes) -> Iterator[bytes]:
    """Records, put together from their parts in blocks."""
    at, parts = FILE_HEADER, b""
    while at + HEADER.size <= len(data):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(data, at)
        at += HEADER.size
        parts += data[at : at + length]
        at += length
        if kind in (WHOLE, LAST):
            yield parts
            parts = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
