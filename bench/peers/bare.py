"""The bare reference: an aiohttp server that reads a body and answers 200."""

import sys

from aiohttp import web


async def take_webhook(request: web.Request) -> web.Response:
    await request.read()
    return web.Response()


def main() -> None:
    app = web.Application()
    app.router.add_post("/api/livekit/webhook", take_webhook)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)


if __name__ == "__main__":
    main()
