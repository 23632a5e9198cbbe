"""Puts an unmodified PyPI `realtime` at the command of a test.

The same lines as driver.mjs: JSON commands on stdin, JSON events on stdout. What the library logs goes out as
{"log": ...}, so that a test can tell that it understood every frame.
"""

import asyncio
import json
import logging
import os
import sys

from realtime import AsyncRealtimeClient


def say(event: dict) -> None:
    print(json.dumps(event, default=lambda model: model.model_dump(mode="json")), flush=True)


class Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say({"log": record.getMessage(), "level": record.levelname})


def subscribed(name: str):
    return lambda status, error: say({"channel": name, "status": status.value, "error": str(error) if error else None})


def changed(name: str, index: int):
    return lambda payload: say({"channel": name, "binding": index, "payload": payload})


def listen_to_presence(channel, name: str) -> None:
    channel.on_presence_sync(lambda: say({"channel": name, "present": channel.presence_state()}))
    channel.on_presence_join(lambda key, current, new: say({"channel": name, "came": key}))
    channel.on_presence_leave(lambda key, current, left: say({"channel": name, "went": key}))


async def main() -> None:
    logger = logging.getLogger("realtime")
    logger.setLevel(logging.INFO)
    logger.addHandler(Log())
    client = AsyncRealtimeClient(os.environ["WALCAST_URL"] + "/realtime/v1", os.environ["WALCAST_KEY"])
    await client.connect()
    channels = {}
    stdin = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        command = json.loads(line)
        name = command.get("channel")
        match command["do"]:
            case "subscribe":
                config = command.get("config")
                channel = client.channel(name, {"config": config} if config else None)
                for index, binding in enumerate(command.get("bindings", [])):
                    event = binding.pop("event")
                    channel.on_postgres_changes(event, changed(name, index), **binding)
                channel.on_broadcast("*", lambda message, name=name: say({"channel": name, "broadcast": message}))
                if command.get("presence"):
                    listen_to_presence(channel, name)
                channel.on_system(lambda payload, name=name: say({"channel": name, "system": payload}))
                channels[name] = channel
                await channel.subscribe(subscribed(name))
            case "send":
                await channels[name].send_broadcast(command["event"], command["payload"])
            case "httpSend":
                await channels[name].http_send(command["event"], command["payload"])
                say({"channel": name, "httpSent": "ok"})
            case "track":
                await channels[name].track(command["payload"])
            case "untrack":
                await channels[name].untrack()
            case "setAuth":
                await client.set_auth(command["token"])
                say({"done": "setAuth"})
            case "remove":
                await client.remove_channel(channels.pop(name))
                say({"channel": name, "removed": "ok"})
            case "end":
                await client.close()
                say({"done": "end"})
                return


asyncio.run(main())
