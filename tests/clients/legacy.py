"""A hand-written client on PyPI `websockets`, as they stand in many projects: the API key in the query, a join of
`realtime:public:notes` without any config, a heartbeat. Prints every frame as {"frame": ...}.
"""

import asyncio
import json
import os

import websockets


async def main() -> None:
    url = os.environ["WALCAST_URL"].replace("http", "ws", 1) + "/realtime/v1/websocket?apikey=" + os.environ["WALCAST_KEY"]
    async with websockets.connect(url) as socket:
        await socket.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": None}))
        join = {"topic": "realtime:public:notes", "event": "phx_join", "payload": {}, "ref": "1"}
        await socket.send(json.dumps(join))
        async for frame in socket:
            print(json.dumps({"frame": json.loads(frame)}), flush=True)


asyncio.run(main())
