"""Files of pages, sent piece by piece."""

from collections.abc import Mapping
from mimetypes import guess_type
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

_PIECE = 64 * 1024


class PageFile(web.StreamResponse):
    """A file as a response; 304 for a browser that has it.

    aiohttp's own FileResponse hands the file to the kernel; then nobody can tell whether the peer reads it.
    """

    def __init__(self, path: Path, headers: Mapping[str, str]) -> None:
        super().__init__(headers=headers)
        self._path = path
        self.content_type = guess_type(path.name)[0] or "application/octet-stream"

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        status = self._path.stat()
        tag = f"{status.st_mtime_ns:x}-{status.st_size:x}"
        self.etag = tag
        if any(known.value == tag for known in request.if_none_match or ()):
            self.set_status(304)
            return await super().prepare(request)
        content = self._path.read_bytes()
        self.content_length = len(content)
        writer = await super().prepare(request)
        if request.method != "HEAD":
            for start in range(0, len(content), _PIECE):
                await self.write(content[start : start + _PIECE])
        return writer
