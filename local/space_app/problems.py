"""What went wrong with a request, as application/problem+json."""

from __future__ import annotations

from aiohttp import web

JSON_TYPE = "application/problem+json"


class ProblemError(Exception):
    """An answer other than success: a status, a title, and what to do about it."""

    def __init__(self, status: int, title: str, detail: str = "", *, pointer: str = "") -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.pointer = pointer

    def response(self) -> web.Response:
        """The problem document."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.pointer:
            body["errors"] = [{"pointer": self.pointer, "message": self.detail}]
        headers = {"Retry-After": "1"} if self.status == 503 else {}
        return web.json_response(
            body, status=self.status, content_type=JSON_TYPE, headers=headers
        )
